"""The filter tree: one grammar for REST search, metrics, Grafana's ad hoc filters and exports.

    filter = {"and": [filter, …]} | {"or": [filter, …]} | {"not": filter}
           | {"trace": {"has": filter}}      a span of the trace, this or another, passes
           | {"session": {"has": filter}}    a span of the session passes
           | {"field": name, "operator": name, "value": …}

:func:`parse_filter` checks everything about a document that can be checked without the database, and reports a fault
with its JSON pointer. Logic is two-valued: a comparison with a missing value is false, and ``not`` turns it into true,
so a filter and its negation together always cover all rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from server.errors import ApiError, BadRequest, FilterTooComplex, InsufficientScope, InvalidBody
from server.queries.filters.filter_values import check_characters, read_operand, shown
from server.queries.filters.operators import OPERATORS
from server.queries.filters.span_fields import (
    FIELDS,
    KEYED_FIELDS,
    KEYED_OPERATORS,
    LONGEST_KEY,
    KeyedField,
    TraceField,
    field_named,
)
from server.storage.row_scope import RowScope
from server.text.instants import format_instant
from server.text.suggestion import suggest

DEEPEST: Final = 5
MOST_LEAVES: Final = 50


@dataclass(frozen=True, slots=True)
class FieldKey:
    """One member of a family: ``attribute.KEY``, ``resource.KEY`` or ``score.NAME``."""

    family: KeyedField
    key: str

    @property
    def name(self) -> str:
        """The name as it is written in a filter."""
        return f"{self.family.prefix}.{self.key}"

    @property
    def is_content(self) -> bool:
        """Whether it reveals prompts or answers."""
        return self.family.is_content

    @property
    def permission(self) -> str:
        """The scope that a question about numbers needs to filter by it."""
        return "metrics:read"

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that a filter may use with it."""
        return KEYED_OPERATORS


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison; ``value`` has the type of the field and the shape that the operator takes."""

    field: TraceField | FieldKey
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts hold."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the parts holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Has:
    """The row's trace or session (``whole``) has a span for which ``part`` holds."""

    whole: str
    part: Filter


Filter = Leaf | And | Or | Not | Has
Resolve = Callable[[str], TraceField | None]
WHOLES: Final = ("trace", "session")


def parse_filter(
    document: Any, *, pointer: str = "/filter", now: datetime | None = None, resolve: Resolve = field_named
) -> Filter:
    """Check ``document`` and return the tree.

    Relative times are resolved against ``now`` (default: the present moment); ``resolve`` finds a field by name
    (default: the fields of spans). ``pointer`` is the place of ``document`` in its body.

    Raises:
        InvalidBody: names the faulty place by a JSON pointer.
        FilterTooComplex: more than five levels or 50 comparisons.
    """
    return _Parser(now or datetime.now(UTC), resolve).filter(document, pointer, 1)


class _Parser:
    """One pass over a document; counts comparisons as it goes."""

    def __init__(self, now: datetime, resolve: Resolve) -> None:
        self.now = now
        self.resolve = resolve
        self.leaves = 0
        self.within_has = False

    def filter(self, document: Any, pointer: str, depth: int) -> Filter:
        if depth > DEEPEST:
            raise FilterTooComplex(
                f"A filter has at most {DEEPEST} levels.", errors=[{"pointer": pointer, "detail": "too deep"}]
            )
        if not isinstance(document, dict):
            raise InvalidBody.at(pointer, "expected an object")
        if "field" in document or "operator" in document:
            return self.leaf(document, pointer)
        if len(document) != 1:
            raise InvalidBody.at(pointer, f"expected one of {', '.join(_BRANCHES)}, or field, operator and value")
        (word, content), *_ = document.items()
        if word not in _BRANCHES:
            raise InvalidBody.at(
                f"{pointer}/{escape_pointer(word)}", f"unknown member; expected one of {', '.join(_BRANCHES)}"
            )
        inner = f"{pointer}/{word}"
        if word == "not":
            return Not(self.filter(content, inner, depth + 1))
        if word in WHOLES:
            return self.has(word, content, inner, depth)
        if not isinstance(content, list) or not content:
            raise InvalidBody.at(inner, "expected a list with at least one filter")
        if len(content) > MOST_LEAVES:
            raise _too_many(inner)
        parts = tuple(self.filter(part, f"{inner}/{index}", depth + 1) for index, part in enumerate(content))
        return And(parts) if word == "and" else Or(parts)

    def has(self, whole: str, content: Any, pointer: str, depth: int) -> Filter:
        if not isinstance(content, dict) or list(content) != ["has"]:
            raise InvalidBody.at(pointer, 'expected {"has": filter}')
        if self.within_has:
            raise InvalidBody.at(pointer, "trace and session cannot be nested")
        resolve, self.resolve, self.within_has = self.resolve, field_named, True
        part = self.filter(content["has"], f"{pointer}/has", depth + 1)
        self.resolve, self.within_has = resolve, False
        return Has(whole, part)

    def leaf(self, document: dict[str, Any], pointer: str) -> Leaf:
        self.leaves += 1
        if self.leaves > MOST_LEAVES:
            raise _too_many(pointer)
        for key in document:
            if key not in {"field", "operator", "value"}:
                raise InvalidBody.at(
                    f"{pointer}/{escape_pointer(key)}", "unknown member; expected field, operator and value"
                )
        for key in ("field", "operator", "value"):
            if key not in document:
                raise InvalidBody.at(f"{pointer}/{key}", "missing")
        field = self.named(document["field"], f"{pointer}/field")
        operator = document["operator"]
        if not isinstance(operator, str) or operator not in OPERATORS:
            raise InvalidBody.at(f"{pointer}/operator", f"unknown; expected one of {', '.join(field.operators)}")
        if operator not in field.operators:
            known = ", ".join(field.operators) or "none"
            raise InvalidBody.at(
                f"{pointer}/operator", f"{field.name} cannot be used with {operator}; it takes {known}"
            )
        return self.comparison(field, operator, document["value"], f"{pointer}/value")

    def named(self, name: Any, pointer: str) -> TraceField | FieldKey:
        if not isinstance(name, str):
            raise InvalidBody.at(pointer, "expected the name of a field")
        try:
            return find_field(name, self.resolve)
        except ValueError as error:
            raise InvalidBody.at(pointer, str(error)) from error

    def comparison(self, field: TraceField | FieldKey, operator: str, raw: Any, pointer: str) -> Leaf:
        try:
            value = read_operand(field if isinstance(field, TraceField) else None, operator, raw, now=self.now)
        except ValueError as error:
            raise InvalidBody.at(pointer, str(error)) from error
        if value is None:
            return Leaf(field, "exists", operator == "ne")
        return Leaf(field, operator, value)


_BRANCHES: Final = ("and", "or", "not", *WHOLES)


def find_field(name: str, resolve: Resolve = field_named) -> TraceField | FieldKey:
    """Return the field called ``name``. Raises ValueError, with a suggestion if one is near."""
    if name == "project_id":
        raise ValueError("projects are chosen by project_id beside the filter, not within it")
    field = resolve(name)
    if field is not None:
        return field
    if resolve is not field_named and (field_named(name) or name.partition(".")[0] in KEYED_FIELDS):
        raise ValueError('is a field of spans: write {"trace": {"has": …}} around it')
    prefix, dot, key = name.partition(".")
    if dot and prefix in KEYED_FIELDS:
        if not 1 <= len(key) <= LONGEST_KEY:
            raise ValueError(f"a key has 1 to {LONGEST_KEY} characters")
        check_characters(key)
        return FieldKey(KEYED_FIELDS[prefix], key)
    raise ValueError("unknown field" + suggest(name, [field for field in FIELDS if resolve(field)]))


def leaves(tree: Filter) -> Iterator[Leaf]:
    """Yield every comparison of the tree, from left to right."""
    match tree:
        case Leaf():
            yield tree
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part) | Has(_, part):
            yield from leaves(part)


def looks_beyond_row(tree: Filter) -> bool:
    """Return whether the result for a row may change while the row does not: through other spans of its trace or
    session, or scores.
    """
    match tree:
        case Leaf(FieldKey(family)):
            return family.prefix == "score"
        case Leaf():
            return False
        case Has():
            return True
        case Not(part):
            return looks_beyond_row(part)
        case And(parts) | Or(parts):
            return any(map(looks_beyond_row, parts))


def check_readable(tree: Filter, scope: RowScope) -> None:
    """Raise :class:`InsufficientScope` for a filter on content if ``scope`` may not read content.

    Counting the rows that match a guess would reveal the content.
    """
    for leaf in leaves(tree):
        if leaf.field.is_content and not scope.may_read_content:
            raise InsufficientScope(f"{leaf.field.name} holds content, which this credential may not read.")


def refuse_ranking(tree: Filter) -> None:
    """Raise :class:`BadRequest` for ``meaning`` and ``like``: for questions that choose rows but do not order them."""
    for leaf in leaves(tree):
        if OPERATORS[leaf.operator].is_ranking:
            raise BadRequest(
                f"{leaf.operator} puts the rows of a list in an order, and cannot be used here: it is for "
                "GET /api/v1/traces, at the top of a filter or in its outermost `and`."
            )


def canonical(tree: Filter) -> Any:
    """Return the tree as a JSON document in one spelling: equal questions have equal documents.

    Parts and lists are sorted and names are spelled out, so it serves as a key for caches and cursors.
    """
    match tree:
        case Leaf(field, operator, value):
            shown = sorted(map(_plain, value), key=str) if operator in _SETS else _plain(value)
            return {"field": field.name, "operator": operator, "value": shown}
        case And(parts):
            return {"and": sorted(map(canonical, parts), key=json.dumps)}
        case Or(parts):
            return {"or": sorted(map(canonical, parts), key=json.dumps)}
        case Not(part):
            return {"not": canonical(part)}
        case Has(whole, part):
            return {whole: {"has": canonical(part)}}


_SETS: Final = frozenset(name for name, operator in OPERATORS.items() if operator.operand == "list")


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return format_instant(value)
        case Decimal():
            return {"number": format(value.normalize(), "f")}
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _too_many(pointer: str) -> ApiError:
    return FilterTooComplex(
        f"A filter has at most {MOST_LEAVES} comparisons.", errors=[{"pointer": pointer, "detail": "one too many"}]
    )


def escape_pointer(key: str) -> str:
    """Return a key as one step of a JSON pointer (RFC 6901), cut to a length that can be shown."""
    return shown(key).replace("~", "~0").replace("/", "~1")
