"""The meaning of a filter in plain Python: an oracle for the SQL, which shares nothing with the server's compiler."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from server.ingest.mapping.span_record import SpanRecord
from server.queries.filters.filter_tree import And, FieldKey, Filter, Has, Leaf, Not, Or
from server.queries.filters.span_fields import FieldType

NEGATED = {"ne": "eq", "not_in": "in", "not_contains": "contains"}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda have, want: bool(have == want),
    "gt": lambda have, want: bool(have > want),
    "gte": lambda have, want: bool(have >= want),
    "lt": lambda have, want: bool(have < want),
    "lte": lambda have, want: bool(have <= want),
    "between": lambda have, want: bool(want[0] <= have <= want[1]),
    "in": lambda have, want: have in want,
    "contains": lambda have, want: want.lower() in have.lower(),
    "starts_with": lambda have, want: have.lower().startswith(want.lower()),
    "ends_with": lambda have, want: have.lower().endswith(want.lower()),
    "regex": lambda have, want: re.search(want, have, re.DOTALL) is not None,
}


def matches(tree: Filter, span: SpanRecord, everything: Sequence[SpanRecord]) -> bool:
    """Return whether ``span``, one of ``everything``, passes ``tree``."""
    match tree:
        case And(parts):
            return all(matches(part, span, everything) for part in parts)
        case Or(parts):
            return any(matches(part, span, everything) for part in parts)
        case Not(part):
            return not matches(part, span, everything)
        case Has(whole, part):
            name = f"{whole}_id"
            mine = getattr(span, name)
            return mine is not None and any(
                getattr(other, name) == mine and matches(part, other, everything) for other in everything
            )
        case Leaf(field, operator, value):
            if operator in NEGATED:
                return not matches(Leaf(field, NEGATED[operator], value), span, everything)
            if isinstance(field, FieldKey):
                return _attribute(span.attributes, field.key, operator, value)
            return _field(span, field.name, field.type, operator, value)


def _field(span: SpanRecord, name: str, kind: FieldType, operator: str, value: Any) -> bool:
    if kind is FieldType.TAGS:
        tags = set(span.tags)
        return {
            "any": lambda: bool(tags & set(value)),
            "in": lambda: bool(tags & set(value)),
            "all": lambda: tags >= set(value),
            "eq": lambda: value in tags,
            "exists": lambda: bool(tags) is value,
        }[operator]()
    if kind is FieldType.FULL_TEXT:
        texts = [text for text in (span.input_text, span.output_text) if text is not None]
        if operator == "contains":
            return any(COMPARE["contains"](text, value) for text in texts)
        return _search(" ".join(texts), value)
    have = {
        "has_error": span.status_code == "ERROR",
        "is_root": span.parent_span_id is None,
    }.get(name, getattr(span, name, None))
    if operator == "exists":
        return (have is not None) is value
    return have is not None and COMPARE[operator](have, value)


def _attribute(attributes: dict[str, Any], key: str, operator: str, value: Any) -> bool:
    if operator == "exists":
        return (key in attributes) is value
    have = attributes.get(key)
    if have is None:
        return False
    text = {True: "true", False: "false"}[have] if isinstance(have, bool) else str(have)
    number = Decimal(str(have)) if isinstance(have, int | float) and not isinstance(have, bool) else None
    if operator == "in":
        return any(_attribute(attributes, key, "eq", item) for item in value)
    if isinstance(value, Decimal) or operator == "between":
        return number is not None and COMPARE[operator](number, value)
    return COMPARE[operator](text, value)


def _search(text: str, question: str) -> bool:
    """Search for one word, or check that it is missing; for words of unspaced scripts: the substring."""
    word = question.removeprefix("-").lower()
    folded = text.lower()
    if not word.isascii():
        return (word in folded) is not question.startswith("-")
    found = word in re.findall(r"[^\W_]+", folded)
    return found is not question.startswith("-")
