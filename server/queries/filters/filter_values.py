"""Values of filters: checked, bounded, and converted for comparison in the database.

There are two spellings: JSON values of a filter document, and the text of a query parameter. Nothing is guessed: a
number in quotes is not a number in JSON; ``+5``, ``1e3`` and ``0x10`` are not numbers in an address. Every failure is a
ValueError with a sentence for the caller.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.queries.filters.operators import OPERATORS
from server.queries.filters.regex_subset import check_regex
from server.queries.filters.search_text import search_query
from server.queries.filters.span_fields import FieldType, TraceField
from server.text.instants import parse_instant

LONGEST_TEXT: Final = 1024
LONGEST_LIST: Final = 100
LARGEST_INTEGER: Final = 2**63 - 1
LARGEST_NUMBER: Final = Decimal(10**15)

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_DECIMAL = re.compile(r"(?!-0+(?:\.0+)?\Z)-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,12})?", re.ASCII)
_REFERENCE = re.compile(r"[^/]{1,64}(/[^/]{1,64})?")
_TEXTS: Final = frozenset({"text", "pattern", "search", "meaning", "reference"})
_WORDS: Final[dict[str, bool]] = {"true": True, "false": False}


def read_operand(field: TraceField | None, operator: str, raw: Any, *, now: datetime) -> Any:
    """Check ``raw`` against the operator and the type of ``field`` (None: a keyed field).

    Returns a value, None (``eq`` and ``ne`` only), a tuple of distinct values, or a pair.
    """
    shape = OPERATORS[operator].operand
    if shape == "truth":
        if not isinstance(raw, bool):
            raise ValueError("expected true or false")
        return raw
    if shape in _TEXTS:
        text = _text(raw)
        if not text.strip() if shape == "meaning" else not text:
            raise ValueError("expected text that is not empty")
        if shape == "pattern":
            check_regex(text)
        if shape == "search":
            search_query(text)
        if shape == "reference" and not _REFERENCE.fullmatch(text):
            raise ValueError("expected TRACE_ID or TRACE_ID/SPAN_ID")
        return text
    if shape == "list":
        if not isinstance(raw, list) or not 1 <= len(raw) <= LONGEST_LIST:
            raise ValueError(f"expected a list of 1 to {LONGEST_LIST} values")
        return tuple(dict.fromkeys(_value(field, item, now) for item in raw))
    if shape == "pair":
        if not isinstance(raw, list) or len(raw) != 2:
            raise ValueError("expected [low, high]")
        low, high = (_orderable(field, item, now) for item in raw)
        if low > high:
            raise ValueError("low is greater than high")
        return (low, high)
    if operator in {"eq", "ne"}:
        return None if raw is None else _value(field, raw, now)
    return _orderable(field, raw, now)


def read_parameter(field: TraceField | None, text: str) -> Any:
    """Convert the text of a query parameter to a JSON value, which :func:`read_operand` then checks."""
    if field is None:
        return Decimal(text) if _DECIMAL.fullmatch(text) else text
    match field.type:
        case FieldType.INTEGER:
            if not _INTEGER.fullmatch(text):
                raise ValueError("expected a whole number")
            return int(text)
        case FieldType.NUMBER | FieldType.MONEY:
            if not _DECIMAL.fullmatch(text):
                raise ValueError("expected a number such as 12 or 0.5")
            return Decimal(text)
        case FieldType.BOOLEAN:
            if text not in _WORDS:
                raise ValueError("expected true or false")
            return _WORDS[text]
        case _:
            return text


def _value(field: TraceField | None, raw: Any, now: datetime) -> Any:
    if field is None:
        return _loose(raw)
    match field.type:
        case FieldType.INTEGER:
            return _integer(raw)
        case FieldType.NUMBER:
            return float(_decimal(raw))
        case FieldType.MONEY:
            return _decimal(raw)
        case FieldType.TIME:
            if not isinstance(raw, str | int) or isinstance(raw, bool):
                raise ValueError("expected a time")
            return parse_instant(raw, now=now)
        case FieldType.BOOLEAN:
            if not isinstance(raw, bool):
                raise ValueError("expected true or false")
            return raw
        case _:
            return _choice(field, _text(raw))


def _orderable(field: TraceField | None, raw: Any, now: datetime) -> Any:
    return _decimal(raw) if field is None else _value(field, raw, now)


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("expected a text")
    if len(raw) > LONGEST_TEXT:
        raise ValueError(f"longer than {LONGEST_TEXT} characters")
    check_characters(raw)
    return raw


def check_characters(text: str) -> None:
    """Refuse characters that PostgreSQL's text cannot hold: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        raise ValueError("contains a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("contains half of a surrogate pair")


def shown(text: str) -> str:
    """Return the start of a caller's ``text`` in a form that is safe in an answer."""
    return text[:64].encode("utf-8", "replace").decode()


def _choice(field: TraceField, text: str) -> str:
    if not field.choices:
        return text
    wanted = {choice.lower(): choice for choice in field.choices} | dict(field.choice_aliases)
    found = wanted.get(text.lower())
    if found is None:
        raise ValueError(f"expected one of {', '.join((*field.choices, *dict(field.choice_aliases)))}")
    return found


def _integer(raw: Any) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise ValueError("expected a whole number")
    if abs(raw) > LARGEST_INTEGER:
        raise ValueError("is too large")
    return raw


def _decimal(raw: Any) -> Decimal:
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise ValueError("expected a number")
    # Through repr, so that 0.1 is one tenth and not the nearest binary fraction.
    number = Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)
    if not number.is_finite():
        raise ValueError("expected a finite number")
    if abs(number) > LARGEST_NUMBER:
        raise ValueError("is too large")
    return number


def _loose(raw: Any) -> str | Decimal:
    """Return a value to compare with an attribute or a score: text, or a number; true and false as JSON writes them."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return _text(raw) if isinstance(raw, str) else _decimal(raw)
