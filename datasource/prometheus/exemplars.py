"""Exemplars: single calls on top of histograms, with the trace that each opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from datasource.prometheus.label_filter import label_filter
from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.syntax import NAME_LABEL, Expr, Matcher, Selector, walk
from datasource.prometheus.promql.values import Labels, labels_of
from datasource.prometheus.request_values import moment_at
from datasource.prometheus.series_catalog import FAMILY_OF, SeriesFamily
from server.queries.filters.filter_tree import And, Filter, parse_filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.storage.database import Database
from server.storage.row_scope import RowScope

Json = dict[str, Any]
MOST: Final = 100
"""Calls for one selector: the longest ones, which are those worth a look."""
_VALUE_OF: Final[Mapping[str, str]] = {"duration": "duration_ms", "ttft": "ttft_ms"}
_IS_CALL: Final = parse_filter({"field": "is_generation", "operator": "eq", "value": True})


async def read_exemplars(database: Database, scope: RowScope, expr: Expr, start: int, end: int) -> list[Json]:
    """Return the exemplars of every histogram that ``expr`` reads, by series, between two moments in ms."""
    found: list[Json] = []
    chosen = {part.matchers: part for part in walk(expr) if isinstance(part, Selector)}
    for matchers in chosen:
        family = _histogram(matchers)
        if family is not None:
            found += await _of_family(database, scope, matchers, family, start, end)
    return found


def _histogram(matchers: Sequence[Matcher]) -> SeriesFamily | None:
    name = next((item.value for item in matchers if item.name == NAME_LABEL and item.kind == "="), "")
    family = FAMILY_OF.get(name)
    return family if family is not None and family.sketch in _VALUE_OF else None


async def _of_family(
    database: Database, scope: RowScope, matchers: Sequence[Matcher], family: SeriesFamily, start: int, end: int
) -> list[Json]:
    first, last = moment_at(start), moment_at(end)
    wanted = await label_filter(database, scope, matchers, family)
    if wanted is None or first == last:
        return []
    column = _VALUE_OF[str(family.sketch)]
    tree: Filter = _IS_CALL if wanted.filter is None else And((_IS_CALL, wanted.filter))
    columns = {dimension.name: dimension.column for dimension in family.dimensions}
    page = await list_spans(
        database,
        wanted.scope,
        ListQuestion(
            window=TimeRange(first, last),
            filter=tree,
            sort=(Sort(column),),
            fields=("ts", "trace_id", "span_id", column, *columns.values()),
            limit=MOST,
        ),
    )
    by_series: dict[Labels, list[Json]] = {}
    for row in page.rows:
        if row[column] is not None:
            own = labels_of((name, row[key] or "") for name, key in columns.items())
            by_series.setdefault(own, []).append(_exemplar(row, column))
    return list(_rendered(by_series, f"{family.name}_bucket"))


def _exemplar(row: Mapping[str, Any], column: str) -> Json:
    return {
        "labels": {"trace_id": row["trace_id"], "span_id": row["span_id"]},
        "value": format_number(float(row[column]) / 1000),
        "timestamp": round(row["ts"].timestamp(), 3),
    }


def _rendered(by_series: Mapping[Labels, list[Json]], name: str) -> Iterator[Json]:
    for labels, exemplars in sorted(by_series.items(), key=lambda item: item[0]):
        exemplars.sort(key=lambda item: item["timestamp"])
        yield {"seriesLabels": {"__name__": name, **dict(labels)}, "exemplars": exemplars}
