"""Values of a field with counts, under a filter: the source of filter menus and Grafana's variables.

If the rollups know the field and everything in the filter, the counts are exact over any range. Otherwise a bounded
number of the newest matching rows is counted, and the answer says whether these were all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypedDict

from server.errors import InsufficientScope, InvalidParameter
from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import And, FieldKey, Filter, Leaf, find_field
from server.queries.filters.shared_words import find_shared_words
from server.queries.filters.span_fields import FIELDS, KEYED_FIELDS, FieldType, document_with, field_named
from server.queries.filters.time_range import TimeRange
from server.queries.lists.query_plan import explained
from server.queries.metrics.metric_catalog import find_dimension
from server.queries.metrics.metric_question import Measure, MetricQuestion
from server.queries.metrics.metric_reader import query_metrics
from server.queries.metrics.rollup_sql import rolled_up_columns
from server.storage.database import Database
from server.storage.project_branches import MOST_BRANCHES, project_branches
from server.storage.row_scope import RowScope
from server.storage.statements import fragment

LARGEST_LIMIT: Final = 1000
MOST_ROWS: Final = 20_000
"""Most rows counted if rollups cannot answer. Spans are wide: this many are about 150 MB."""
MOST_WIDE_ROWS: Final = 5_000
"""Most rows counted for a facet of attributes, which are stored outside the row."""
_LEAST_ROWS: Final = 500

KEY_LISTS: Final[dict[str, str]] = {"attribute_keys": "attributes", "resource_keys": "resource_attributes"}
"""Facets whose values are the keys of a JSON column."""
_FACET_TYPES: Final = frozenset({FieldType.KEYWORD, FieldType.BOOLEAN, FieldType.TAGS})
_SPANS: Final = Measure("spans")


@dataclass(frozen=True, slots=True)
class FacetSource:
    """Source of a facet's values: SQL for the value of a row, and for the single values in it."""

    name: str
    value: str
    expanded: str
    most_rows: int
    is_content: bool
    key: str | None = None
    """Key of the attribute, bound as a parameter: ``value`` holds ``{key}`` for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetQuestion:
    """Values of ``field`` in ``[start, end)`` that begin with ``prefix`` and contain ``contains``, ignoring case."""

    field: str
    start: datetime
    end: datetime
    filter: Filter | None = None
    prefix: str = ""
    contains: str = ""
    limit: int = 50


class FacetValue(TypedDict):
    """A value and the number of its spans."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class FacetAnswer:
    """Values by count, most frequent first, and facts about the count.

    ``is_exact``: every matching span was counted. ``distinct``: number of values before the limit.
    """

    values: list[FacetValue]
    distinct: int
    is_exact: bool
    source: str
    rows_read: int


def facet_fields() -> tuple[str, ...]:
    """Return the names of all facets, without the families ``attribute.KEY`` and ``resource.KEY``."""
    return (*(name for name, field in FIELDS.items() if field.type in _FACET_TYPES), *KEY_LISTS)


def facet_source(name: str) -> FacetSource:
    """Return the facet called ``name``. Raises :class:`InvalidParameter` for a field without values to choose from."""
    column = KEY_LISTS.get(name)
    if column is not None:
        # Guards against a value that is not an object: jsonb_object_keys would raise.
        keys = "jsonb_object_keys(CASE WHEN jsonb_typeof(sample.value) = 'object' THEN sample.value END)"
        # A row has the keys of all its attributes, those with the value elsewhere included.
        document = "t.attributes" if column == "attributes" else FIELDS[column].expression()
        return FacetSource(name, document, keys, MOST_WIDE_ROWS, KEYED_FIELDS[name.partition("_")[0]].is_content)
    field = field_named(name)
    if field is not None and field.type in _FACET_TYPES:
        expression = field.expression()
        if field.type is FieldType.TAGS:
            return FacetSource(field.name, expression, "unnest(sample.value)", MOST_ROWS, field.is_content)
        return FacetSource(field.name, f"{expression}::text", "sample.value", MOST_ROWS, field.is_content)
    try:
        keyed = None if field is not None else find_field(name)
    except ValueError as error:
        raise InvalidParameter.named("field", str(error)) from error
    if isinstance(keyed, FieldKey) and keyed.family.prefix in {"attribute", "resource"}:
        value = f"({document_with(KEY_LISTS[f'{keyed.family.prefix}_keys'], '{key}')} ->> {{key}})"
        return FacetSource(keyed.name, value, "sample.value", MOST_WIDE_ROWS, keyed.family.is_content, keyed.key)
    raise InvalidParameter.named("field", f"has no list of values; these fields have: {', '.join(facet_fields())}")


async def read_facet(
    database: Database, scope: RowScope, question: FacetQuestion, *, plans: list[dict[str, Any]] | None = None
) -> FacetAnswer:
    """Answer ``question`` for the rows of ``scope``; add the work of the database to ``plans``.

    Raises :class:`InvalidParameter` for an unknown field, and :class:`InsufficientScope` if field or filter is content
    and ``scope`` may not read content.
    """
    source = facet_source(question.field)
    if source.is_content and not scope.may_read_content:
        raise InsufficientScope(f"{source.name} holds content, which this credential may not read.")
    if not scope.projects:
        return FacetAnswer([], 0, True, "none", 0)
    rolled_up = await _from_rollups(database, scope, question, source, plans)
    return rolled_up or await _from_rows(database, scope, question, source, plans)


async def _from_rollups(
    database: Database,
    scope: RowScope,
    question: FacetQuestion,
    source: FacetSource,
    plans: list[dict[str, Any]] | None,
) -> FacetAnswer | None:
    """Return the exact answer, or None if rollups do not know the field or something in the filter."""
    dimension = find_dimension(source.name)
    if dimension is None or not dimension.is_rolled_up or source.key is not None:
        return None
    wanted = (("starts_with", question.prefix), ("contains", question.contains))
    narrowing = [Leaf(FIELDS[source.name], operator, text) for operator, text in wanted if text]
    if narrowing and not FIELDS[source.name].filterable:
        return None
    parts = (*([question.filter] if question.filter is not None else []), *narrowing)
    tree = And(parts) if parts else None
    if rolled_up_columns((dimension,), tree) is None:
        return None
    answer = await query_metrics(
        database,
        scope,
        MetricQuestion(
            measures=(_SPANS,),
            start=question.start,
            end=question.end,
            group_by=(dimension.name,),
            filter=tree,
            # One more, because the spans without a value are a group, too, which is not shown.
            limit=min(question.limit + 1, LARGEST_LIMIT),
            other=False,
        ),
        plans=plans,
    )
    counted = [(group.labels[dimension.name], group.values[_SPANS.key][0]) for group in answer.groups]
    values = [
        FacetValue(value=label, count=count) for label, count in counted if label is not None and isinstance(count, int)
    ]
    missing = sum(1 for label, _ in counted if label is None)
    distinct = max(answer.meta.groups_total - missing, len(values))
    return FacetAnswer(values[: question.limit], distinct, True, "rollups", answer.meta.rows_read)


async def _from_rows(
    database: Database,
    scope: RowScope,
    question: FacetQuestion,
    source: FacetSource,
    plans: list[dict[str, Any]] | None,
) -> FacetAnswer:
    params: list[Any] = [question.start, question.end, question.prefix, question.limit, question.contains]
    most = max(source.most_rows // min(len(scope.projects), MOST_BRANCHES), _LEAST_ROWS)
    async with database.read(scope) as connection:
        window = TimeRange(question.start, question.end)
        tree = await find_shared_words(connection, scope, question.filter, window, distribution=database.distribution)
        found = replace(question, filter=tree)
        text = fragment("facet_values").format(
            branches=_branches(scope.projects, found, source, scope, params, most), expanded=source.expanded
        )
        (row,) = await explained(connection, plans).fetch(text, *params)
    values = [FacetValue(value=name, count=count) for name, count in zip(row["names"], row["counts"], strict=True)]
    return FacetAnswer(values, row["distinct_values"], row["rows_read"] < most, "rows", row["rows_read"])


def _branches(
    projects: Sequence[str],
    question: FacetQuestion,
    source: FacetSource,
    scope: RowScope,
    params: list[Any],
    most: int,
) -> str:
    value = source.value
    if source.key is not None:
        params.append(source.key)
        value = value.format(key=f"${len(params)}::text")
    predicate = "true"
    if question.filter is not None:
        window = TimeRange(question.start, question.end)
        predicate = compile_filter(question.filter, params, scope=scope, window=window)
    branches = (
        fragment("facet_branch").format(value=value, project=project, predicate=predicate, most=most)
        for project in project_branches(projects, params)
    )
    return " UNION ALL ".join(f"({branch})" for branch in branches)
