"""JSON that keeps all digits, and the version of the API that every answer carries."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

API_VERSION = "1.0"


def _fallback(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        # Plain notation: 1E-7 is JSON too, but not every reader of money expects it.
        text = format(value, "f")
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return orjson.Fragment(text or "0")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"cannot render {type(value).__name__}")


def dumps(value: Any) -> bytes:
    """Return ``value`` as JSON bytes: Decimal as a number with all its digits, datetimes as RFC 3339 with ``Z``, NaN
    and infinities as null.
    """
    return orjson.dumps(value, default=_fallback, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
