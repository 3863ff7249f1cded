"""Filters as query parameters: ``model=gpt-4o&model!=o1&min_cost=0.5&attribute.team=search``.

The parameters are derived from the table of fields, so that a new field brings its own. Together they mean ``and``;
several values of one parameter mean ``or`` (comma or repetition); ``name!=`` or ``not.name=`` is the complement. The
result is the same kind of tree that a filter document produces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from server.errors import FilterTooComplex, InvalidParameter, UnknownParameter
from server.queries.filters.filter_tree import MOST_LEAVES, And, FieldKey, Filter, Leaf, Not, Or, find_field
from server.queries.filters.filter_values import LONGEST_LIST, read_operand, read_parameter
from server.queries.filters.span_fields import FIELDS, KEYED_FIELDS, FieldType, TraceField, field_named
from server.text.suggestion import suggest

ROOTS_WORD: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterParameter:
    """One query parameter. The ``name`` of a keyed parameter ends with a dot, after which a request writes the key."""

    name: str
    field: str
    operator: str
    sentence: str
    is_list: bool = False
    is_negatable: bool = False

    @property
    def value_type(self) -> FieldType:
        """Type of its values; keyed parameters hold keywords."""
        field = FIELDS.get(self.field)
        return FieldType.KEYWORD if field is None else field.type


@dataclass(frozen=True, slots=True)
class GivenParameter:
    """A parameter of the request, split into its values."""

    name: str
    values: tuple[str, ...]
    negated: bool = False


def _of_field(field: TraceField) -> Iterable[FilterParameter]:
    name, low = field.parameter, field.range_parameter
    if name and field.type is FieldType.BOOLEAN:
        yield FilterParameter(name=name, field=field.name, operator="eq", sentence=field.sentence)
    elif name and field.type is FieldType.TAGS:
        for suffix, operator, which in (("", "any", "at least one"), ("_all", "all", "each")):
            yield FilterParameter(
                name=name + suffix,
                field=field.name,
                operator=operator,
                sentence=f"Spans that have {which} of these tags.",
                is_list=True,
                is_negatable=True,
            )
    elif name:
        yield FilterParameter(
            name=name, field=field.name, operator="in", sentence=field.sentence, is_list=True, is_negatable=True
        )
    if low:
        yield FilterParameter(
            name=f"min_{low}", field=field.name, operator="gte", sentence=f"Smallest value of {field.name}, included."
        )
        yield FilterParameter(
            name=f"max_{low}", field=field.name, operator="lte", sentence=f"Largest value of {field.name}, included."
        )


_EXTRA: Final = (
    FilterParameter(
        name="search",
        field="text",
        operator="search",
        sentence="Full-text search over prompts, messages and answers, in web-search syntax.",
    ),
    FilterParameter(
        name="search_new",
        field="text",
        operator="search_new",
        sentence="The same, but not in the history that a call repeats: the calls that were the first to say it.",
    ),
    FilterParameter(
        name="contains",
        field="text",
        operator="contains",
        sentence="Substring of prompt or answer; case is ignored. Reads every row of the range: keep it short.",
        is_negatable=True,
    ),
)
FILTER_PARAMETERS: Final[dict[str, FilterParameter]] = {
    parameter.name: parameter
    for parameter in (*(found for field in FIELDS.values() for found in _of_field(field)), *_EXTRA)
}
KEYED_PARAMETERS: Final[dict[str, FilterParameter]] = {
    **{
        f"{family.prefix}.": FilterParameter(
            name=f"{family.prefix}.",
            field=family.prefix,
            operator="in",
            sentence=family.sentence,
            is_list=True,
            is_negatable=True,
        )
        for family in KEYED_FIELDS.values()
    },
    "min_score.": FilterParameter(name="min_score.", field="score", operator="gte", sentence="Least score."),
    "max_score.": FilterParameter(name="max_score.", field="score", operator="lte", sentence="Greatest score."),
}


def filter_parameter(name: str) -> FilterParameter | None:
    """Return the parameter called ``name`` (without negation), keyed ones included."""
    prefix, dot, key = name.partition(".")
    return FILTER_PARAMETERS.get(name) or (KEYED_PARAMETERS.get(prefix + dot) if key else None)


def parameters_of(name: str) -> tuple[str, ...]:
    """Return the parameters that filter by the field called ``name``; none if there is no such field."""
    field = field_named(name)
    return () if field is None else tuple(item.name for item in FILTER_PARAMETERS.values() if item.field == field.name)


def filter_from_params(given: Iterable[GivenParameter], *, now: datetime | None = None) -> Filter | None:
    """Return the tree that the parameters describe; None without any.

    Raises:
        InvalidParameter, UnknownParameter: naming the parameter.
        FilterTooComplex: more than 50 parameters.
    """
    moment = now or datetime.now(UTC)
    parts: list[Filter] = []
    bounds: dict[str, dict[str, Any]] = {}
    for item in given:
        part = _leaf(item, moment)
        parts.append(part)
        if isinstance(part, Leaf) and part.operator in {"gte", "lte"}:
            limits = bounds.setdefault(part.field.name, {})
            limits[part.operator] = part.value
            if len(limits) == 2 and limits["gte"] > limits["lte"]:
                raise InvalidParameter.named(item.name, "the smallest value is larger than the largest")
    if len(parts) > MOST_LEAVES:
        raise FilterTooComplex(f"A filter has at most {MOST_LEAVES} comparisons.")
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _leaf(item: GivenParameter, now: datetime) -> Filter:
    parameter = filter_parameter(item.name)
    if parameter is None:
        hint = "unknown" + suggest(item.name, FILTER_PARAMETERS)
        raise UnknownParameter(f"{item.name[:64]}: {hint}", errors=[{"parameter": item.name[:64], "detail": hint}])
    if item.negated and not parameter.is_negatable:
        raise InvalidParameter.named(item.name, "cannot be negated")
    if len(item.values) > (LONGEST_LIST if parameter.is_list else 1):
        detail = f"takes at most {LONGEST_LIST} values" if parameter.is_list else "takes one value"
        raise InvalidParameter.named(item.name, detail)
    try:
        part = _comparison(item, parameter, now)
    except ValueError as error:
        raise InvalidParameter.named(item.name, str(error)) from error
    return Not(part) if item.negated else part


def _comparison(item: GivenParameter, parameter: FilterParameter, now: datetime) -> Filter:
    if parameter.name.endswith("."):
        family, key = parameter.field, item.name.partition(".")[2]
        field: TraceField | FieldKey = find_field(f"{family}.{key}")
    else:
        field = FIELDS[parameter.field]
    table = field if isinstance(field, TraceField) else None
    if parameter.field == "parent_span_id" and ROOTS_WORD in item.values:
        ids = [value for value in item.values if value != ROOTS_WORD]
        roots = Leaf(FIELDS["is_root"], "eq", True)
        return Or((roots, Leaf(field, "in", tuple(ids)))) if ids else roots
    # Attributes are compared as text; scores are compared as numbers if the value is a number.
    is_text = isinstance(field, FieldKey) and parameter.field != "score"
    values = list(item.values) if is_text else [read_parameter(table, text) for text in item.values]
    raw = values if parameter.is_list else values[0]
    return Leaf(field, parameter.operator, read_operand(table, parameter.operator, raw, now=now))
