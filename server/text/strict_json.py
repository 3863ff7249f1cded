"""JSON without constructs that two parsers would read differently, or could not write again."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class AmbiguousJson(ValueError):
    """JSON that parsers read in different ways, or that UTF-8 cannot hold. The message is for the caller."""


class StrictDecoder(json.JSONDecoder):
    """Decoder that refuses ambiguous JSON with ValueError, for ``json.loads(text, cls=StrictDecoder)``.

    It refuses duplicate members (some parsers use the last, some the first), NaN and Infinity, which are not JSON, and
    ``\\ud800`` without its other half, which UTF-8 text cannot hold (RFC 8259 section 8.2). Deep nesting raises
    RecursionError.
    """

    def __init__(self, **_: Any) -> None:
        super().__init__(object_pairs_hook=_unique, parse_constant=_no_constant)

    def decode(self, s: str, *args: Any) -> Any:
        """Return the value of the document ``s``."""
        value = super().decode(s, *args)
        if _SURROGATE.search(s) and not _is_writable(value):
            raise AmbiguousJson("half of a surrogate pair is not a character")
        return value


def _is_writable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise AmbiguousJson("a member is given more than once")
    return members


def _no_constant(name: str) -> Any:
    raise AmbiguousJson(f"{name} is not JSON")
