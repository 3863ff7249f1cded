"""Strict reading of JSON bodies: an unknown member is an error, never ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from sanic import Request

from server.errors import InvalidBody, UnsupportedMediaType
from server.text.strict_json import AmbiguousJson, StrictDecoder

JSON_TYPES: Final = frozenset({"application/json", ""})
# Grafana's Infinity data source sends a body typed by a user with this media type. Only questions accept it: a
# credential is in a header, so no form of another site can send a request in a user's name, but requests that change
# data stay strict.
TYPED_JSON_TYPES: Final = JSON_TYPES | {"text/plain"}

Check = Callable[[Any], bool]
"""Whether a value has the right type. Callers are told its docstring, up to the first colon or full stop."""

MOST_PLACES: Final = 20
_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)


def is_text(value: Any) -> bool:
    """A string without NUL and lone surrogates: what the database can hold."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def is_texts(value: Any) -> bool:
    """A list of at most 200 strings."""
    return isinstance(value, list) and len(value) <= 200 and all(map(is_text, value))


def is_whole(value: Any) -> bool:
    """A whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A number, or a text of one: where a client's floats would not be exact."""
    return is_whole(value) or isinstance(value, float | str)


def is_flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_list(value: Any) -> bool:
    """A list."""
    return isinstance(value, list)


def is_instant(value: Any) -> bool:
    """A time as text, or a whole number of seconds or milliseconds since 1970."""
    return is_text(value) or is_whole(value)


def is_object(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def read_object(
    request: Request,
    fields: Mapping[str, Check],
    required: tuple[str, ...] = (),
    media_types: frozenset[str] = JSON_TYPES,
) -> dict[str, Any]:
    """Return the JSON object in the body of ``request``, with only ``fields``, each of the right type.

    ``media_types``: accepted media types (an empty text: no Content-Type at all). A member that is null counts as left
    out. Raises :class:`InvalidBody` and :class:`UnsupportedMediaType`.
    """
    media_type = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise UnsupportedMediaType("The body must be application/json.")
    document = parse_object(request.body)
    for name, value in document.items():
        check = fields.get(name)
        if check is None:
            raise InvalidBody.at(_pointer(name), f"is unknown; expected {', '.join(sorted(fields))}")
        if value is not None and not check(value):
            raise InvalidBody.at(_pointer(name), f"expected {expectation(check)}")
    given = {name: value for name, value in document.items() if value is not None}
    for name in required:
        if name not in given:
            raise InvalidBody.at(_pointer(name), "is required")
    return given


def expectation(check: Check) -> str:
    """Return what ``check`` accepts, in words for the caller."""
    words = re.split(r"[:.]", check.__doc__ or "another type", maxsplit=1)[0]
    return words[:1].lower() + words[1:]


def decimal_of(value: Any) -> Decimal | None:
    """Return the number that ``value`` (see :func:`is_number`) is or spells, with at most 20 decimal places; None for
    anything else.

    Floats are rounded to 20 places, because the database would keep thousands of digits.
    """
    text = str(value)
    number = Decimal(text) if _DECIMAL.fullmatch(text) else None
    if number is not None and number.as_tuple().exponent < -MOST_PLACES:  # type: ignore[operator]
        return round(number, MOST_PLACES) if isinstance(value, float) else None
    return number


def parse_object(body: bytes) -> dict[str, Any]:
    """Return ``body`` as a JSON object without duplicate members, NaN and Infinity. Raises :class:`InvalidBody`."""
    if not body.strip():
        raise InvalidBody("The body is empty; a JSON object is expected.")
    try:
        document = json.loads(body.decode("utf-8"), cls=StrictDecoder)
    except (ValueError, RecursionError) as error:
        raise InvalidBody(f"The body is not valid JSON{_whereabouts(error)}.") from error
    if not isinstance(document, dict):
        raise InvalidBody("The body must be a JSON object.")
    return document


def _whereabouts(error: ValueError | RecursionError) -> str:
    """Return where the fault is and which, without a word of the body."""
    if isinstance(error, json.JSONDecodeError):
        return f": {error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f": byte {error.start} is not UTF-8"
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    return f": {error}" if isinstance(error, AmbiguousJson) else ""


def _pointer(name: str) -> str:
    """Return a JSON pointer (RFC 6901) to the member ``name``; a name that is too long is cut."""
    shown = name.encode("utf-8", "replace").decode()[:64]
    return "/" + shown.replace("~", "~0").replace("/", "~1")
