"""Values in the path of a request, read strictly."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from server.errors import InvalidParameter


def path_value(raw: str, parameter: str) -> str:
    """Return a path segment with its percent-encoding decoded (Sanic leaves it): ``a%2Fb`` is ``a/b``.

    Raises :class:`InvalidParameter` for bytes that are not UTF-8 and for control characters.
    """
    try:
        value = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidParameter.named(parameter, "is not UTF-8") from None
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise InvalidParameter.named(parameter, "has a control character")
    return value
