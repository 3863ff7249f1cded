# ruff: noqa: S608 - statements are composed of the fragments of this module; what callers send is bound.
"""Statements of the metric engine over rollups and pending deltas: the same columns as over raw rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import Filter, Has, Leaf, Not, leaves
from server.queries.metrics.metric_catalog import DIMENSIONS, Dimension
from server.queries.metrics.metric_formula import Needs
from server.queries.metrics.raw_sql import (
    Binds,
    Grouping,
    Piece,
    Selection,
    Target,
    bucket_number,
    grouping_of,
    pieces_of,
)
from server.rollups.counters import CALL, SPAN_SKETCHES, SPAN_SUMS

RollupTable = Literal["rollup_delta", "rollup_5m", "rollup_1h", "rollup_1d", "slice_1h"]

PRECOMPUTED: Final = {"duration": "duration_quantiles", "ttft": "ttft_quantiles", "speed": "speed_quantiles"}

# The fields of spans that rollups know; has_error is a condition on status_code.
_COLUMNS: Final = tuple(
    dimension.column for dimension in DIMENSIONS.values() if dimension.is_rolled_up and dimension.name != "project"
)
_FIELD_COLUMNS: Final = {**{column: column for column in _COLUMNS}, "has_error": "status_code"}


def rolled_up_columns(dimensions: Sequence[Dimension], tree: Filter | None) -> frozenset[str] | None:
    """Return the columns that a question needs from the rollups, or None if rollups cannot answer it."""
    if not all(dimension.is_rolled_up for dimension in dimensions):
        return None
    columns = {dimension.column for dimension in dimensions} - {"project_id"}
    if tree is None:
        return frozenset(columns)
    if _looks_elsewhere(tree):
        return None
    for leaf in leaves(tree):
        if leaf.field.name == "is_generation":
            continue
        column = _FIELD_COLUMNS.get(leaf.field.name)
        if column is None:
            return None
        columns.add(column)
    return frozenset(columns)


def _looks_elsewhere(tree: Filter) -> bool:
    match tree:
        case Leaf():
            return False
        case Has():
            return True
        case Not(part):
            return _looks_elsewhere(part)
        case _:
            return any(map(_looks_elsewhere, tree.parts))


@dataclass(frozen=True, slots=True)
class Slice:
    """A way to read slice_1h, by one ``column`` (None: the total).

    ``precomputed``: every cell is one hour of one project, so the stored percentiles are used; sketches are read only
    for the group "other" and for the hours in ``pending``.
    """

    column: str | None
    precomputed: bool
    pending: tuple[datetime, ...] = ()

    @property
    def dimension(self) -> str:
        """The value of slice_1h.dimension."""
        return self.column or "all"


@dataclass(frozen=True, slots=True)
class RollupSource:
    """The part of one table that is read; ``slice`` for slice_1h only."""

    table: RollupTable
    pieces: Sequence[Piece]
    slice: Slice | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    """The parts that the sources of one statement share."""

    target: Target
    needs: Needs
    boundaries: Sequence[datetime]
    selection: Selection | None
    binds: Binds

    def grouping(self) -> Grouping:
        groups = [f"coalesce(t.{dimension.column}, '')" for dimension in self.target.dimensions]
        return grouping_of(groups, self.selection, self.binds)

    def where(self) -> str:
        conditions = [CALL] if self.needs.is_calls_only else []
        if self.target.filter is not None:
            conditions.append(compile_filter(self.target.filter, self.binds.values, scope=self.target.scope))
        return " AND ".join(f"({condition})" for condition in conditions) or "true"


def rollup_statement(
    target: Target,
    needs: Needs,
    sources: Sequence[RollupSource],
    boundaries: Sequence[datetime],
    selection: Selection | None,
) -> tuple[str, list[Any]]:
    """Return the statement for sums over rollups, with rows of each source: counters, sketches ``s_NAME``, and for
    precomputed slices (which are read by themselves) the quantile arrays ``p_NAME`` (p50, p75, p90, p95, p99).
    """
    reading = _Reading(target, needs, boundaries, selection, Binds())
    beginning, branches = "", []
    if any(source.slice is None for source in sources):
        grouping = reading.grouping()
        beginning = f"WITH t AS MATERIALIZED ({_combinations(reading, grouping)}) "
    for source in sources:
        if source.slice is None:
            branches.append(_of_combinations(reading, source, grouping))
        else:
            branches.append(_of_slice(reading, source, source.slice))
    text = branches[0] if len(branches) == 1 else " UNION ALL ".join(f"({branch})" for branch in branches)
    return f"{beginning}{text}", reading.binds.values


def _combinations(reading: _Reading, grouping: Grouping) -> str:
    """Return the SELECT of the combinations of dimensions that pass the filter, each with its group.

    Groups and filter depend on the combination, so they are computed once for each instead of once per row.
    """
    target, binds = reading.target, reading.binds
    needed = rolled_up_columns(target.dimensions, target.filter) or ()
    labels = "".join(f", nullif({column}, '') AS {column}" for column in _COLUMNS if column in needed)
    return (
        f"SELECT t.project_id, t.dim_id, t.is_generation{''.join(f', {column}' for column in grouping.columns)}"
        f" FROM (SELECT project_id, dim_id, is_generation{labels} FROM span_dimensions"
        f" WHERE project_id = ANY ({binds.add(list(target.scope.projects), 'text[]')})) AS t{grouping.join}"
        f" WHERE {reading.where()}"
    )


def _of_combinations(reading: _Reading, source: RollupSource, grouping: Grouping) -> str:
    # The index finds the rows of the combinations that pass the filter; no others are read.
    wanted = "true" if reading.target.filter is None else "dim_id = ANY (ARRAY(SELECT dim_id FROM t))"
    rows = pieces_of(source.table, "bucket", "r", reading.target.scope, source.pieces, reading.binds, wanted)
    groups = [f"t.{name}" for name in grouping.names]
    columns = [*groups, *_sums(reading), *_sketches(reading.needs, "r.{}", "true")]
    joined = f"{rows} JOIN t ON t.project_id = r.project_id AND t.dim_id = r.dim_id"
    return f"SELECT {', '.join(columns)} FROM {joined} GROUP BY {grouping.positions}"


def _of_slice(reading: _Reading, source: RollupSource, slice_: Slice) -> str:
    needs, binds, selection = reading.needs, reading.binds, reading.selection
    grouping, where = reading.grouping(), reading.where()
    kind = f"dimension = {binds.add(slice_.dimension, 'text')}"
    rows = pieces_of(source.table, "bucket", "r", reading.target.scope, source.pieces, binds, kind)
    merged, sketches = "true", "r.{}"
    if slice_.precomputed and needs.sketches:
        is_pending = f"r.bucket = ANY ({binds.add(list(slice_.pending), 'timestamptz[]')})"
        if selection is None or not selection.with_other:
            rows, sketches = _with_pending_sketches(rows, is_pending, needs), "r.pending_{}"
        else:
            merged = f"({grouping.is_other} OR {is_pending})"
    columns = [*grouping.columns, *_sums(reading)]
    if slice_.precomputed:
        columns += [f"max(r.{PRECOMPUTED[name]}) FILTER (WHERE {CALL}) AS p_{name}" for name in needs.sketches]
    columns += _sketches(needs, sketches, merged)
    label = f", nullif(r.value, '') AS {slice_.column}" if slice_.column else ""
    known = f"CROSS JOIN LATERAL (SELECT r.project_id, r.is_generation{label}) AS t{grouping.join}"
    return f"SELECT {', '.join(columns)} FROM {rows} {known} WHERE {where} GROUP BY {grouping.positions}"


def _sums(reading: _Reading) -> list[str]:
    bucket = bucket_number("r.bucket", reading.boundaries, reading.binds)
    return [
        f"{bucket} AS b",
        "count(*) AS n",
        *(f"{SPAN_SUMS[name].of_rollups()} AS {name}" for name in reading.needs.counters),
    ]


def _sketches(needs: Needs, stored: str, merged: str) -> list[str]:
    """Return the sketches of ``needs``: ``stored`` has the place of a column, ``merged`` says which rows count."""
    columns = []
    for name in needs.sketches:
        distribution = SPAN_SKETCHES[name]
        columns.append(
            f"string_agg({stored.format(distribution.column)}, ''::bytea)"
            f" FILTER (WHERE {distribution.rollup_condition} AND {merged}) AS s_{name}"
        )
    return columns


def _with_pending_sketches(rows: str, is_pending: str, needs: Needs) -> str:
    """Return ``rows`` with their sketches as ``pending_COLUMN`` if ``is_pending`` holds, and NULL if stored percentiles
    are used.

    Otherwise a sort would carry all sketches along, a kilobyte per row. OFFSET 0 keeps the planner from undoing this.
    """
    columns = sorted({SPAN_SKETCHES[name].column for name in needs.sketches})
    pending = ", ".join(f"CASE WHEN {is_pending} THEN r.{column} END AS pending_{column}" for column in columns)
    return f"(SELECT r.*, {pending} FROM {rows} OFFSET 0) AS r"
