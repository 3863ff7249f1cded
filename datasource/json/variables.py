"""Values for dashboard variables, filter menus and the query builder.

A variable asks ``{"field": "model", "provider": "${provider:queryparam}"}`` (format "json") or, as text,
``model{provider=openai, search=gpt}``. Fields have the names of payload keys (``service``) or of the field table
(``service_name``), or are ``attribute.KEY``; plurals are accepted. ``projects``, ``metrics`` and ``dimensions`` list
those that the server has. Every other key narrows the values, as it narrows a panel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datasource.panel_catalog import VALUES_TARGET
from datasource.panels.panel_request import AdHocFilter
from datasource.panels.payload_values import parse_text
from datasource.panels.target_question import TargetQuestion, question_of
from datasource.payload_fields import FILTER_FIELDS
from server.errors import InvalidParameter
from server.queries.filters.filter_tree import And, Filter, parse_filter
from server.queries.filters.span_fields import FIELDS, KEYED_FIELDS, field_named
from server.queries.filters.time_range import BoundedRange
from server.queries.metrics.facet_reader import FacetQuestion, read_facet
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.text.suggestion import suggest

MAX_VALUES: Final = 1000
KNOWN_LISTS: Final = ("projects", "metrics", "dimensions")

_QUERY: Final = re.compile(r"\s*([\w.\-]+)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_PAIR: Final = re.compile(r'\s*([\w.]+)\s*=\s*("(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)|[^,]*?)\s*(?:,|$)')
_PAYLOAD_NAMES: Final = {item.name: item.filter_field for item in FILTER_FIELDS}


@dataclass(frozen=True, slots=True)
class ValuesQuestion:
    """Values of ``field`` among the rows that ``question`` selects; ``search`` narrows them by their text."""

    field: str
    question: TargetQuestion
    search: str | None = None


def read_variable(payload: Mapping[str, Any], time_range: BoundedRange) -> ValuesQuestion:
    """Read the payload of ``/variable``. Raises :class:`InvalidParameter` for an unknown field."""
    given = dict(payload)
    text = given.pop("target", None)
    escaped = False
    if isinstance(text, str):
        # Variables of format "string" go through the 'regex' formatter as a whole.
        name, pairs = parse_query_text(text)
        given, escaped = {"field": name, **pairs, **given}, True
    field = parse_text("field", given.pop("field", None), escaped=escaped)
    if field is None:
        raise InvalidParameter.named("field", "must name the field whose values to return, for example model")
    search = parse_text("search", given.pop("search", None), escaped=escaped)
    # Grafana may add its wildcard to the typed text.
    search = search.rstrip("*%") if search is not None else None
    return values_question(field, given, time_range, search=search, escaped=escaped)


def values_question(
    field: str,
    payload: Mapping[str, Any],
    time_range: BoundedRange,
    *,
    search: str | None = None,
    escaped: bool = False,
    filters: tuple[AdHocFilter, ...] = (),
) -> ValuesQuestion:
    """Return the question for values of ``field``. A filter by the field itself does not narrow its values."""
    name = resolve_field(field)
    own_key = next((key for key, column in _PAYLOAD_NAMES.items() if column == name), None)
    kept = {key: value for key, value in payload.items() if key != own_key}
    others = tuple(item for item in filters if _column(item.key) != name)
    question = question_of(VALUES_TARGET, kept, time_range=time_range, filters=others, escaped=escaped)
    return ValuesQuestion(name, question, search)


def parse_query_text(text: str) -> tuple[str, dict[str, str]]:
    """Parse ``model{provider=openai}``. Raises :class:`InvalidParameter` for anything else."""
    match = _QUERY.fullmatch(text)
    if match is None:
        raise InvalidParameter.named("target", "must be a field, or field{key=value, …}")
    rest = (match[2] or "").strip()
    pairs: dict[str, str] = {}
    while rest:
        pair = _PAIR.match(rest)
        if pair is None:
            raise InvalidParameter.named("target", f"cannot read {rest[:60]!r}: expected key=value")
        value = pair[2]
        pairs[pair[1]] = value[1:-1] if value.startswith('"') and len(value) > 1 else value
        rest = rest[pair.end() :].strip()
    return match[1], pairs


def resolve_field(name: str) -> str:
    """Return the field table's name for ``name``. Raises :class:`InvalidParameter`, which suggests the nearest name."""
    plain = name.replace("\\", "")
    for candidate in (plain, plain.removesuffix("s"), plain.removesuffix("ies") + "y"):
        if candidate in KNOWN_LISTS or candidate.partition(".")[0] in KEYED_FIELDS:
            return candidate
        column = _column(candidate)
        if column is not None:
            return column
    known = [*KNOWN_LISTS, *_PAYLOAD_NAMES, *FIELDS]
    raise InvalidParameter.named("field", f"{plain[:80]!r} is not a field{suggest(plain, known)}")


async def read_values(
    database: Database, scope: RowScope, asked: ValuesQuestion, limit: int = MAX_VALUES
) -> list[tuple[str, int | None]]:
    """Return the values, each with its number of occurrences (None if not counted), most frequent first."""
    if asked.field in KNOWN_LISTS:
        listed = {"projects": scope.projects, "metrics": METRICS, "dimensions": DIMENSIONS}[asked.field]
        return [(name, None) for name in listed if (asked.search or "").lower() in name.lower()]
    tree, prefix = asked.question.filter, ""
    if asked.search:
        contains = _contains(asked.field, asked.search)
        if contains is None:
            prefix = asked.search
        else:
            tree = contains if tree is None else And((contains, tree))
    found = await read_facet(
        database,
        scope,
        FacetQuestion(
            field=asked.field,
            start=asked.question.time_range.start,
            end=asked.question.time_range.end,
            filter=tree,
            prefix=prefix,
            limit=limit,
        ),
    )
    return [(str(item["value"]), item["count"]) for item in found.values]


def _contains(field: str, search: str) -> Filter | None:
    """Return a filter for values that contain ``search``; for some fields, for values that begin with it."""
    known = field_named(field)
    if known is not None and ("contains" not in known.operators or known.choices):
        return None
    return parse_filter({"field": field, "operator": "contains", "value": search})


def _column(name: str) -> str | None:
    if name in _PAYLOAD_NAMES:
        return _PAYLOAD_NAMES[name]
    field = field_named(name)
    return field.name if field is not None and field.operators else None
