"""Conversion of one attribute value to one column value, or the reason why it fails.

Each function returns ``(value, None)`` or ``(None, reason)`` with a reason of ``rejection.FIELD_REASONS``. Text is made
storable: PostgreSQL refuses NUL.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from server.text.instants import EPOCH

MAX_TOKENS = 1_000_000_000_000
MAX_USD = Decimal(1_000_000_000)
MAX_MS = 1e12
_TEN_PLACES = Decimal("0.0000000001")

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}(\.0+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?", re.ASCII)

REPLACEMENT = "\ufffd"

Coerced = tuple[Any, str | None]


def to_tokens(value: Any) -> Coerced:
    """Convert to a token count: a whole number from 0 to 10^12. Whole numbers as text or float are accepted (some
    senders use them).
    """
    if type(value) is not int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        elif isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = int(Decimal(value.strip()))
        else:
            return None, "not_an_integer"
    if value < 0:
        return None, "negative"
    if value > MAX_TOKENS:
        return None, "out_of_range"
    return value, None


def to_usd(value: Any) -> Coerced:
    """Convert to US dollars with ten decimals, from 0 to below 10^9. A float counts as its shortest decimal form."""
    if isinstance(value, bool):
        return None, "not_a_number"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None, "not_a_number"
        amount = Decimal(repr(value))
    elif isinstance(value, int):
        amount = Decimal(value)
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip().removeprefix("$")):
        amount = Decimal(value.strip().removeprefix("$"))
    else:
        return None, "not_a_number"
    if amount < 0:
        return None, "negative"
    if amount >= MAX_USD:
        return None, "out_of_range"
    return round_usd(amount), None


def round_usd(amount: Decimal) -> Decimal:
    """Round to the ten decimals of the columns, half to even."""
    return amount.quantize(_TEN_PLACES)


def to_number(value: Any) -> Coerced:
    """Convert to a finite float."""
    if isinstance(value, bool):
        return None, "not_a_number"
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None, "not_a_number"
    return float(value), None


def to_milliseconds(value: Any, factor: float) -> Coerced:
    """Convert to a duration: ``value`` times ``factor`` milliseconds in whole microseconds, not negative."""
    number, reason = to_number(value)
    if reason:
        return None, reason
    if number < 0:
        return None, "negative"
    if number * factor >= MAX_MS:
        return None, "out_of_range"
    return round(number * factor, 3), None


def to_time_ns(value: Any) -> Coerced:
    """Convert RFC 3339, or a number since 1970 in seconds, milliseconds, microseconds or nanoseconds, to nanoseconds.
    Quotes around a text (JSON in JSON, once or twice) are removed.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Between the years 1973 and 5138 the size tells the unit.
        for least, nanoseconds in ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (1e8, 1_000_000_000)):
            if least <= value < least * 1000:
                return int(value * nanoseconds), None
        return None, "not_a_time"
    if isinstance(value, str):
        text = value.replace("\\", "").strip('" ')
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None, "not_a_time"
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        delta = moment - EPOCH
        return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000, None
    return None, "not_a_time"


def to_text(value: Any) -> str:
    """Convert any attribute value to text: text as it is, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return (storable_json(value) or orjson.dumps(storable(value)[0])).decode("utf-8")


def storable_json(value: Any) -> bytes | None:
    """Return the JSON of a value in which :func:`storable` replaces nothing; None if that has to be asked.

    orjson writes NUL as an escape, and a float that JSON cannot express as null. Raises TypeError for a value that has
    no JSON.
    """
    data = orjson.dumps(value)
    return data if b"\\u0000" not in data and b"null" not in data else None


def storable(value: Any) -> tuple[Any, int]:
    """Return a value that jsonb accepts, and how many characters had to be replaced.

    NUL becomes U+FFFD; a float that JSON cannot express (NaN, infinity) becomes its name as text.
    """
    if _is_storable(value):
        return value, 0
    if isinstance(value, str):
        return value.replace("\0", REPLACEMENT), value.count("\0")
    if isinstance(value, float):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)], 0
    if isinstance(value, list):
        pairs = [storable(item) for item in value]
        return [item for item, _ in pairs], sum(count for _, count in pairs)
    result: dict[str, Any] = {}
    total = 0
    for key, item in value.items():
        clean_key, key_count = storable(key)
        result[clean_key], count = storable(item)
        total += key_count + count
    return result, total


def _is_storable(value: Any) -> bool:
    """Return whether nothing has to be replaced, as is usual: to look is cheaper than to copy."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | dict):
        try:
            return storable_json(value) is not None
        except TypeError:  # whoever stores it says so
            return False
    return True


def cut_text(text: str, limit: int) -> tuple[str, int | None]:
    """Return ``text`` in at most ``limit`` bytes of UTF-8, and its original length in bytes if it was cut."""
    if len(text) * 4 <= limit:
        return text, None
    raw = text.encode("utf-8")
    if len(raw) <= limit:
        return text, None
    return raw[:limit].decode("utf-8", "ignore"), len(raw)


def decode_json(text: str) -> Any:
    """Return the JSON object or list in ``text``, or None. Deep nesting and lone surrogates are left as text."""
    head = text.lstrip()[:1]
    if head not in ("{", "["):
        return None
    if text.count("[") + text.count("{") > _SHALLOW and _is_deep(text):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return storable(value)[0] if "\\u0000" in text else value


def unquoted(text: str) -> str:
    """Text without the quotes of a JSON string, which some SDKs put round every value."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        inner = decode_json(f"[{text}]")
        if isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], str):
            return inner[0]
    return text


_ESCAPES = re.compile(r"(?<!\\)((?:\\\\)*)((?:\\u[0-9a-fA-F]{4})+)")
_LONG_NUMBER = re.compile(r"[0-9]{16}")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w=.-]+)*);base64,([A-Za-z0-9+/_=-]{256,})")


def readable(text: str, decoded: Any = None) -> str:
    """Text with its words as words: JSON is written without escapes and blanks, so that search finds what it says.

    JSON with numbers that a float cannot hold, or that was cut, keeps its form and loses its escapes only.
    Binary contents (``data:`` URLs) become a note with type and size. ``decoded``: what :func:`decode_json` made of it.
    """
    if decoded is not None and not _LONG_NUMBER.search(text):
        text = to_text(decoded)
    elif "\\u" in text and text.lstrip()[:1] in ("{", "["):
        text = _ESCAPES.sub(_unescaped, text)
    return without_data(text)


def without_data(text: str) -> str:
    """Text in which binary contents are named by type and size."""
    if ";base64," not in text:
        return text
    return _DATA_URL.sub(lambda found: f"[{found[1] or 'data'}, {len(found[3]) * 3 // 4} bytes]", text)


def _unescaped(found: re.Match[str]) -> str:
    """Return the characters of a run of escapes. Those of JSON's own, control characters and halves of a pair stay."""
    escapes = found[2]
    units = b"".join(int(escapes[at + 2 : at + 6], 16).to_bytes(2, "big") for at in range(0, len(escapes), 6))
    try:
        words = units.decode("utf-16-be")
    except UnicodeDecodeError:
        return found[0]
    return found[0] if any(word < " " or word in '"\\' for word in words) else found[1] + words


_SHALLOW = 64
"""Nesting that every JSON writer further on accepts; orjson stops at 254."""


def _is_deep(text: str) -> bool:
    """Return whether JSON text may be nested deeper than that (brackets inside strings count too)."""
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", text):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _SHALLOW:
            return True
    return False
