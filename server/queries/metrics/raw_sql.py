# ruff: noqa: S608 - statements are composed of the fragments of this module; what callers send is bound.
"""Statements of the metric engine over raw rows.

They are composed from the fragments below; everything a caller sends is bound. Every statement returns rows ``(group,
b, n, counters…)``: the group's number in the selection (0: other) or its values, the number of the time bucket, the
number of rows read, and sums. Raw rows, rollups and deltas return the same columns, so parts from different sources add
up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import Filter
from server.queries.filters.operators import OPERATORS
from server.queries.filters.span_fields import attributes_with
from server.queries.filters.time_range import TimeRange
from server.queries.metrics.metric_catalog import (
    ActorKind,
    Dimension,
    Distinct,
    Distribution,
    Family,
    Rate,
    Ratio,
    Total,
)
from server.queries.metrics.metric_formula import Needs, fraction_of
from server.queries.metrics.metric_question import Measure
from server.rollups.counters import CALL, SPAN_SKETCHES, SPAN_SUMS
from server.storage.row_scope import RowScope

Piece = tuple[datetime, datetime]
MOST_BRANCHES: Final = 100

# Counters as aggregates over raw rows: spans ``t``, or scores ``s``.
RAW_COUNTERS: Final[dict[str, str]] = {
    **{name: counted.of_spans() for name, counted in SPAN_SUMS.items()},
    "retries": "count(*)",
    "scores": "count(*)",
    "score_sum": "coalesce(sum(s.value) FILTER (WHERE s.data_type <> 'categorical'), 0)",
    "score_values": "count(*) FILTER (WHERE s.data_type <> 'categorical')",
    "score_checks": "count(*) FILTER (WHERE s.data_type = 'boolean')",
    "score_passes": "count(*) FILTER (WHERE s.data_type = 'boolean' AND s.value = 1)",
}
RAW_DISTINCT: Final = {
    "user": "count(DISTINCT nullif(t.user_id, ''))",
    "session": "count(DISTINCT nullif(t.session_id, ''))",
}

# Through the summary of the trace: few traces have errors, and it has the time from which to search for the failed
# call.
_RETRY: Final = (
    f"{CALL} AND EXISTS (SELECT FROM trace_summaries AS told JOIN llm_traces AS failed"
    " ON failed.project_id = told.project_id AND failed.trace_id = told.trace_id"
    " AND failed.ts >= told.start_ts AND failed.ts <= told.end_ts"
    " WHERE told.project_id = t.project_id AND told.trace_id = t.trace_id AND told.error_count > 0"
    " AND failed.parent_span_id IS NOT DISTINCT FROM t.parent_span_id"
    " AND failed.span_name = t.span_name AND failed.is_generation AND failed.status_code = 'ERROR'"
    " AND failed.ts < t.ts)"
)
# The span that a score judges: the span that it names, else the root of its trace.
_JUDGED: Final = (
    " LEFT JOIN LATERAL (SELECT x.* FROM llm_traces AS x WHERE x.project_id = s.project_id AND x.trace_id = s.trace_id"
    " AND (x.span_id = s.span_id OR s.span_id IS NULL AND x.parent_span_id IS NULL) ORDER BY x.ts LIMIT 1) AS t ON true"
)


@dataclass(slots=True)
class Binds:
    """Bound values of one statement, in order."""

    values: list[Any] = field(default_factory=list)

    def add(self, value: Any, cast: str) -> str:
        """Add ``value`` and return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{cast}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The groups of an answer, numbered from 1. ``with_other``: all others are group 0."""

    groups: Sequence[tuple[str, ...]]
    with_other: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Parts that all statements of one question share."""

    scope: RowScope
    dimensions: tuple[Dimension, ...]
    filter: Filter | None


def pieces_of(
    table: str, column: str, alias: str, scope: RowScope, pieces: Sequence[Piece], binds: Binds, extra: str = "true"
) -> str:
    """Return the rows of ``table`` within ``pieces`` of time, as a FROM item called ``alias``.

    It is one scan, whatever the number of pieces: nodes of a cluster refuse joins with a UNION of scans.
    """
    projects = binds.add(list(scope.projects), "text[]")
    if len(pieces) <= MOST_BRANCHES:
        # Each piece by itself: the planner sees constants, excludes partitions and uses the index.
        within = " OR ".join(
            f"{column} >= {binds.add(low, 'timestamptz')} AND {column} < {binds.add(high, 'timestamptz')}"
            for low, high in pieces
        )
        return f"(SELECT * FROM {table} WHERE project_id = ANY ({projects}) AND {extra} AND ({within})) AS {alias}"
    lows = binds.add([low for low, _ in pieces], "timestamptz[]")
    highs = binds.add([high for _, high in pieces], "timestamptz[]")
    return (
        f"(SELECT x.* FROM unnest({lows}, {highs}) AS piece (low, high) JOIN {table} AS x"
        f" ON x.project_id = ANY ({projects}) AND {extra} AND x.{column} >= piece.low AND x.{column} < piece.high)"
        f" AS {alias}"
    )


def raw_relation(
    target: Target, family: Family, pieces: Sequence[Piece], binds: Binds, *, calls_only: bool
) -> tuple[str, str, str]:
    """Return ``FROM …``, ``WHERE …`` and the time column of the raw rows of a family within ``pieces``."""
    alias, table = ("s", "scores") if family == "scores" else ("t", "llm_traces")
    source = f"FROM {pieces_of(table, 'ts', alias, target.scope, pieces, binds)}"
    if family == "scores" and (target.filter is not None or any(map(_is_of_the_span, target.dimensions))):
        source += _JUDGED
    if any(dimension.is_multiple for dimension in target.dimensions):
        source += " LEFT JOIN LATERAL unnest(t.tags) AS tag (value) ON true"
    conditions = [_RETRY] if family == "retries" else [CALL] if calls_only else []
    if target.filter is not None:
        window = TimeRange(min(low for low, _ in pieces), max(high for _, high in pieces))
        conditions.append(compile_filter(target.filter, binds.values, scope=target.scope, window=window))
    where = " AND ".join(f"({condition})" for condition in conditions) or "true"
    return source, where, f"{alias}.ts"


def _is_of_the_span(dimension: Dimension) -> bool:
    """Return whether a score takes the dimension from the span that it judges. It has a project of its own."""
    return dimension.family == "spans" and dimension.name != "project"


def raw_group(dimension: Dimension, binds: Binds, family: Family) -> str:
    """Return the value of a dimension in a raw row, '' if there is none."""
    if dimension.is_attribute:
        key = binds.add(dimension.column, "text")
        return f"coalesce({attributes_with(key)} ->> {key}, '')"
    if dimension.is_multiple:
        return "coalesce(tag.value, '')"
    if dimension.family == "scores" or (dimension.name == "project" and family == "scores"):
        return f"coalesce(s.{dimension.column}, '')"
    return f"coalesce(t.{dimension.column}, '')"


def bucket_number(column: str, boundaries: Sequence[datetime], binds: Binds) -> str:
    """Return the number of the bucket of a moment; boundaries come from the calendar of the caller's zone."""
    if len(boundaries) <= 2:
        return "0"
    return f"width_bucket({column}, {binds.add(list(boundaries), 'timestamptz[]')}) - 1"


@dataclass(frozen=True, slots=True)
class Grouping:
    """A way to group rows: ``columns`` to select first, the ``join`` they need, and an SQL condition for rows of
    "other".
    """

    columns: tuple[str, ...]
    join: str = ""
    is_other: str = "false"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.rpartition(" AS ")[2] for column in self.columns)

    @property
    def positions(self) -> str:
        """Positions for GROUP BY: the group's columns and the bucket after them."""
        return ", ".join(str(index + 1) for index in range(len(self.columns) + 1))


def grouping_of(groups: Sequence[str], selection: Selection | None, binds: Binds) -> Grouping:
    """Group rows by number (``grp``) if there is a selection, else by the values themselves, ``k0…``."""
    if selection is None:
        return Grouping(tuple(f"{group} AS k{index}" for index, group in enumerate(groups)))
    columns = list(zip(*selection.groups, strict=True)) if selection.groups else [()] * len(groups)
    arrays = ", ".join(binds.add(list(column), "text[]") for column in columns)
    names = ", ".join(f"k{index}" for index in range(len(groups)))
    equal = " AND ".join(f"chosen.k{index} = {group}" for index, group in enumerate(groups))
    kind = "LEFT JOIN" if selection.with_other else "JOIN"
    join = f" {kind} unnest({arrays}) WITH ORDINALITY AS chosen ({names}, number) ON {equal}"
    return Grouping(("coalesce(chosen.number, 0) AS grp",), join, "chosen.number IS NULL")


def raw_statement(
    target: Target,
    needs: Needs,
    pieces: Sequence[Piece],
    boundaries: Sequence[datetime],
    selection: Selection | None,
    binds: Binds,
    *,
    exact: bool,
    taken_away: bool = False,
) -> str:
    """Return the statement for sums over raw rows. Its values are added to ``binds``.

    ``exact``: percentiles as arrays ``q_NAME`` (percentile_disc); otherwise, and for histograms, sketches ``s_NAME``.
    ``taken_away``: everything is negative, so that adding it subtracts rows that a result contains.
    """
    source, where, time = raw_relation(target, needs.family, pieces, binds, calls_only=needs.is_calls_only)
    groups = [raw_group(dimension, binds, needs.family) for dimension in target.dimensions]
    grouping = grouping_of(groups, selection, binds)
    columns = [*grouping.columns, f"{bucket_number(time, boundaries, binds)} AS b", "count(*) AS n"]
    sign, count = ("-", "65535") if taken_away else ("", "1")
    columns += [f"{sign}{RAW_COUNTERS[name]} AS {name}" for name in needs.counters]
    columns += [f"{RAW_DISTINCT[kind]} AS d_{kind}" for kind in needs.distinct]
    for name in needs.sketches:
        distribution = SPAN_SKETCHES[name]
        if exact and name in needs.fractions:
            fractions = binds.add(list(needs.fractions[name]), "double precision[]")
            columns.append(f"{distribution.percentiles(fractions)} AS q_{name}")
        if not exact or name in needs.histograms:
            columns.append(f"{distribution.packed(count)} AS s_{name}")
    return f"SELECT {', '.join(columns)} {source}{grouping.join} WHERE {where} GROUP BY {grouping.positions}"


def raw_ranking_statement(
    target: Target,
    needs: Needs,
    pieces: Sequence[Piece],
    order: tuple[Measure, bool],
    having: Sequence[tuple[Measure, str, float]],
    limit: int,
) -> tuple[str, list[Any]]:
    """Return the statement for the best ``limit`` groups of a raw question as ``k0…``, best first, each with
    ``groups_total``.
    """
    binds = Binds()
    source, where, _ = raw_relation(target, needs.family, pieces, binds, calls_only=needs.is_calls_only)
    groups = [raw_group(dimension, binds, needs.family) for dimension in target.dimensions]
    keys = ", ".join(str(index + 1) for index in range(len(groups)))
    names = ", ".join(f"{group} AS k{index}" for index, group in enumerate(groups))
    measure, descending = order
    seconds = sum((high - low).total_seconds() for low, high in pieces)
    kept = " AND ".join(
        (OPERATORS[operator].sql or "").format(
            x=ranking_expression(item, seconds, binds), v=binds.add(value, "double precision")
        )
        for item, operator, value in having
    )
    return (
        f"SELECT {names}, count(*) OVER () AS groups_total {source} WHERE {where} GROUP BY {keys}"
        f" HAVING {kept or 'true'} ORDER BY {ranking_expression(measure, seconds, binds)}"
        f" {'DESC' if descending else 'ASC'} NULLS LAST, {keys} LIMIT {binds.add(limit, 'bigint')}"
    ), binds.values


def raw_actors_statement(
    scope: RowScope, kind: ActorKind, pieces: Sequence[Piece], boundaries: Sequence[datetime]
) -> tuple[str, list[Any]]:
    """Return the statement for users or sessions in raw rows, with the columns of read_pending_actors and a bucket
    ``b``.
    """
    binds = Binds()
    money = "coalesce(sum(t.total_cost_usd) FILTER (WHERE t.is_generation), 0)"
    return (
        f"SELECT {bucket_number('t.ts', boundaries, binds)} AS b, hashtextextended(t.{kind}_id, 0) AS actor_hash,"
        f" t.{kind}_id AS actor, {RAW_COUNTERS['spans']} AS spans, {RAW_COUNTERS['calls']} AS calls,"
        f" {RAW_COUNTERS['errors']} AS errors, {RAW_COUNTERS['total_tokens']}::bigint AS total_tokens,"
        f" floor({money})::bigint AS cost_whole, (({money} - floor({money})) * 10000000000)::bigint AS cost_rest"
        f" FROM {pieces_of('llm_traces', 'ts', 't', scope, pieces, binds)}"
        f" WHERE t.{kind}_id <> '' GROUP BY 1, 2, 3"
    ), binds.values


def ranking_expression(measure: Measure, seconds: float, binds: Binds) -> str:
    """Return the value of ``measure`` for a group, as SQL over raw rows."""
    match measure.definition.formula:
        case Total(counter, per):
            total = RAW_COUNTERS[counter]
            return f"{total}::numeric / nullif({RAW_COUNTERS[per]}, 0)" if measure.effective == "avg" else total
        case Ratio(numerator, denominator, scale):
            return f"{RAW_COUNTERS[numerator]}::numeric * {scale} / nullif({RAW_COUNTERS[denominator]}, 0)"
        case Rate(counter):
            return f"{RAW_COUNTERS[counter]}::numeric / {binds.add(seconds, 'double precision')}::numeric"
        case Distinct(actor):
            return RAW_DISTINCT[actor]
        case Distribution(sketch, total, weight, divisor, factor):
            fraction = fraction_of(measure.effective)
            if fraction is not None:
                return SPAN_SKETCHES[sketch].percentiles(binds.add(fraction, "double precision"))
            summed = f"{RAW_COUNTERS[total]}::numeric * {factor} / {divisor}"
            return summed if measure.effective == "sum" else f"{summed} / nullif({RAW_COUNTERS[weight]}, 0)"
