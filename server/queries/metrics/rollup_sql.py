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
from server.queries.metrics.raw_sql import Binds, Piece, Selection, Target, bucket_number, grouping_of, pieces_of
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


def rollup_statement(
    target: Target,
    needs: Needs,
    table: RollupTable,
    pieces: Sequence[Piece],
    boundaries: Sequence[datetime],
    selection: Selection | None,
    slice_: Slice | None = None,
) -> tuple[str, list[Any]]:
    """Return the statement for sums over one rollup table: counters, sketches ``s_NAME``, and for precomputed slices
    the quantile arrays ``p_NAME`` (p50, p75, p90, p95, p99).
    """
    binds = Binds()
    groups = [f"coalesce(t.{dimension.column}, '')" for dimension in target.dimensions]
    grouping = grouping_of(groups, selection, binds)
    conditions = [CALL] if needs.is_calls_only else []
    if target.filter is not None:
        conditions.append(compile_filter(target.filter, binds.values, scope=target.scope))
    where = " AND ".join(f"({condition})" for condition in conditions) or "true"
    merged, sketches = "true", "r.{}"
    if slice_ is None:
        # Groups and filter depend on the combination of dimensions, so they are computed once per combination instead
        # of once per row. The index then finds the rows of the combinations that pass the filter; no others are read.
        labels = ", ".join(f"nullif({column}, '') AS {column}" for column in _COLUMNS)
        known = (
            f"SELECT t.project_id, t.dim_id, t.is_generation{''.join(f', {column}' for column in grouping.columns)}"
            f" FROM (SELECT project_id, dim_id, is_generation, {labels} FROM span_dimensions"
            f" WHERE project_id = ANY ({binds.add(list(target.scope.projects), 'text[]')})) AS t{grouping.join}"
            f" WHERE {where}"
        )
        wanted = "true" if target.filter is None else "dim_id = ANY (ARRAY(SELECT dim_id FROM t))"
        rows = pieces_of(table, "bucket", "r", target.scope, pieces, binds, wanted)
        beginning = f"WITH t AS MATERIALIZED ({known}) "
        source = f"{rows} JOIN t ON t.project_id = r.project_id AND t.dim_id = r.dim_id"
        columns = [f"t.{name}" for name in grouping.names]
    else:
        kind = f"dimension = {binds.add(slice_.dimension, 'text')}"
        rows = pieces_of(table, "bucket", "r", target.scope, pieces, binds, kind)
        if slice_.precomputed and needs.sketches:
            is_pending = f"r.bucket = ANY ({binds.add(list(slice_.pending), 'timestamptz[]')})"
            if selection is None or not selection.with_other:
                rows = _with_pending_sketches(rows, is_pending, needs)
                merged, sketches = "true", "r.pending_{}"
            else:
                merged = f"({grouping.is_other} OR {is_pending})"
        label = f", nullif(r.value, '') AS {slice_.column}" if slice_.column else ""
        beginning = ""
        source = (
            f"{rows} CROSS JOIN LATERAL (SELECT r.project_id, r.is_generation{label}) AS t{grouping.join} WHERE {where}"
        )
        columns = [*grouping.columns]
    columns += [f"{bucket_number('r.bucket', boundaries, binds)} AS b", "count(*) AS n"]
    columns += [f"{SPAN_SUMS[name].of_rollups()} AS {name}" for name in needs.counters]
    if slice_ is not None and slice_.precomputed:
        columns += [f"max(r.{PRECOMPUTED[name]}) FILTER (WHERE {CALL}) AS p_{name}" for name in needs.sketches]
    for name in needs.sketches:
        distribution = SPAN_SKETCHES[name]
        stored = sketches.format(distribution.column)
        columns.append(
            f"string_agg({stored}, ''::bytea) FILTER (WHERE {distribution.rollup_condition} AND {merged}) AS s_{name}"
        )
    return f"{beginning}SELECT {', '.join(columns)} FROM {source} GROUP BY {grouping.positions}", binds.values


def _with_pending_sketches(rows: str, is_pending: str, needs: Needs) -> str:
    """Return ``rows`` with their sketches as ``pending_COLUMN`` if ``is_pending`` holds, and NULL if stored percentiles
    are used.

    Otherwise a sort would carry all sketches along, a kilobyte per row. OFFSET 0 keeps the planner from undoing this.
    """
    columns = sorted({SPAN_SKETCHES[name].column for name in needs.sketches})
    pending = ", ".join(f"CASE WHEN {is_pending} THEN r.{column} END AS pending_{column}" for column in columns)
    return f"(SELECT r.*, {pending} FROM {rows} OFFSET 0) AS r"
