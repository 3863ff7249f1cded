"""Defects of a span that PostgreSQL would refuse.

The mapping makes only values that can be stored, and PostgreSQL checks each row once more. A span that is refused all
the same would take the others of its batch with it, since PostgreSQL refuses a transaction and not a row. So the span
and its defect are searched here, only after a batch was refused: a check in advance would cost each span as much as
encoding it.
"""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any, Final

from server.ingest.writing.prepared_span import COLUMNS, LONGEST_MS, PreparedSpan

INDEXED_TEXT_CHARACTERS: Final = 512
"""A btree key may not exceed 2,704 bytes (SQLSTATE 54000): this many characters of four bytes stay below."""

_INDEXED_TEXTS: Final = ("model", "session_id", "user_id")
_IDENTIFIERS: Final = ("trace_id", "span_id")
_MOST_TOKENS: Final = 1_000_000_000_000
_MOST: Final[dict[str, int]] = {
    "prompt_tokens": _MOST_TOKENS,
    "completion_tokens": _MOST_TOKENS,
    "total_tokens": 2 * _MOST_TOKENS,
    "cached_tokens": _MOST_TOKENS,
    "cache_write_tokens": _MOST_TOKENS,
    "reasoning_tokens": _MOST_TOKENS,
    "prompt_cost_usd": 1_000_000_000,
    "completion_cost_usd": 1_000_000_000,
    "total_cost_usd": 1_000_000_000,
    "ttft_ms": int(LONGEST_MS),
}


def span_defect(span: PreparedSpan) -> str | None:
    """Return why ``span`` cannot be stored, without quoting contents; None if nothing is found."""
    values: dict[str, Any] = dict(zip(COLUMNS, span.values, strict=False))
    for name in _IDENTIFIERS:
        if not 1 <= len(values[name]) <= 64:
            return f"{name} must be 1 to 64 characters long"
    for name in _INDEXED_TEXTS:
        if len(values[name] or "") > INDEXED_TEXT_CHARACTERS:
            return f"{name} is longer than {INDEXED_TEXT_CHARACTERS} characters"
    for name, most in _MOST.items():
        number = values[name]
        if number is not None and not (_is_finite(number) and 0 <= number <= most):
            return f"{name} must be between 0 and {most}"
    words = [part.words for part in span.content.parts] if span.content is not None else []
    if any(isinstance(value, str) and "\0" in value for value in (*values.values(), *words)):
        return "a text contains a NUL character"
    return None


def _is_finite(number: Any) -> bool:
    return number.is_finite() if isinstance(number, Decimal) else isinstance(number, int | float) and isfinite(number)
