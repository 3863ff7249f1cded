"""Runs the statements of a plan and merges what they give, cell by cell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import asyncpg

from server.queries import sketch
from server.queries.metric_catalog import HISTOGRAM_BOUNDS, PERCENTILES
from server.queries.metric_formula import Cells, Needs
from server.queries.metric_plan import EPOCH, GRAINS, HOURS, SourcePlan, Timeline
from server.queries.metric_rollup_sql import RollupTable, rollup_statement
from server.queries.metric_sql import Selection, Target, raw_statement
from server.queries.statements import statement

_PRECOMPUTED_ORDER: Final = tuple(PERCENTILES.values())
# Deltas first: the hours they touch tell where stored percentiles are stale.
_ORDER: Final[tuple[RollupTable, ...]] = ("rollup_delta", "rollup_5m", "slice_1h", "rollup_1h", "rollup_1d")

Key = tuple[Any, ...]


@dataclass(slots=True)
class Fetched:
    """Merged cells of ``groups`` (keys, in the order found or chosen; "other" last)."""

    cells: Cells
    groups: list[Key]
    rows_read: int = 0
    is_sketched: bool = False
    is_estimated: bool = False
    uses_raw: bool = False


@dataclass(slots=True)
class _Gathering:
    """Cells in the making: groups may still be added, so cells are dictionaries by (group, bucket)."""

    needs: Needs
    buckets: int
    groups: dict[Key, int] = field(default_factory=dict)
    rows: list[tuple[int, asyncpg.Record]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    rows_read: int = 0

    def add(self, records: Sequence[asyncpg.Record], width: int) -> None:
        """Take the rows of one statement, whose first ``width`` columns name the group."""
        groups, buckets = self.groups, self.buckets
        for record in records:
            group = groups.setdefault(tuple(record[:width]), len(groups))
            self.rows.append((group * buckets + record["b"], record))
            self.rows_read += record["n"]
        self.ends.append(len(self.rows))

    def statements(self, column: str) -> Iterator[list[tuple[int, asyncpg.Record]]]:
        """The rows of each statement that selected ``column``."""
        for first, end in pairwise((0, *self.ends)):
            if end > first and column in self.rows[first][1]:
                yield self.rows[first:end]


async def fetch(
    connection: asyncpg.Connection,
    target: Target,
    needs: Needs,
    plan: SourcePlan,
    timeline: Timeline,
    selection: Selection | None,
) -> Fetched:
    """Read all sources of ``plan``, in the transaction's one snapshot, and merge them.

    With a selection the groups are numbered as chosen; without, every group that is found is given.
    """
    gathering = _Gathering(needs, timeline.buckets)
    width = 1 if selection is not None else len(target.dimensions)
    if selection is not None:
        numbers = [*range(1, len(selection.groups) + 1), *([0] if selection.with_other else [])]
        gathering.groups = {(number,): index for index, number in enumerate(numbers)}
    elif not width:
        gathering.groups = {(): 0}
    slice_ = plan.slice
    tables = {**plan.rollups, "rollup_delta": plan.rolled_up} if plan.rollups else {}
    if tables:
        await connection.execute(statement("join_by_hash"))
    for table in _ORDER:
        pieces = tables.get(table)
        if not pieces:
            continue
        chosen = slice_ if table == "slice_1h" else None
        sql, values = rollup_statement(target, needs, table, pieces, timeline.boundaries, selection, chosen)
        records = await connection.fetch(sql, *values)
        gathering.add(records, width)
        if table == "rollup_delta" and slice_ is not None and slice_.precomputed:
            stale = {timeline.boundaries[record["b"]] for record in records}
            stale |= {low - (low - EPOCH) % GRAINS[HOURS].width for low, _ in plan.less}
            slice_ = replace(slice_, pending=tuple(sorted(stale)))
    if tables:
        await connection.execute(statement("join_as_planned"))
    if plan.raw:
        exact = not plan.rollups
        sql, values = raw_statement(target, needs, plan.raw, timeline.boundaries, selection, exact=exact)
        gathering.add(await connection.fetch(sql, *values), width)
    if plan.less:
        sql, values = raw_statement(
            target, needs, plan.less, timeline.boundaries, selection, exact=False, taken_away=True
        )
        gathering.add(await connection.fetch(sql, *values), width)
    # Merging large sketches takes tens of milliseconds of numpy: not on the event loop.
    if needs.sketches and len(gathering.rows) > 50:
        return await asyncio.to_thread(_merged, gathering, plan)
    return _merged(gathering, plan)


def _merged(gathering: _Gathering, plan: SourcePlan) -> Fetched:
    needs = gathering.needs
    size = len(gathering.groups) * gathering.buckets
    cells = Cells(needs, size)
    for name in needs.counters:
        sums = cells.counters[name]
        for cell, record in gathering.rows:
            sums[cell] += record[name]
    for kind in needs.distinct:
        counts = cells.distinct[kind] = [0] * size
        for cell, record in gathering.rows:
            counts[cell] = record[f"d_{kind}"]
    for name in needs.sketches:
        _spread(name, gathering, cells, size, precomputed=plan.slice is not None and plan.slice.precomputed)
    is_sketched = bool(needs.histograms) or bool(needs.fractions and plan.rollups)
    return Fetched(cells, list(gathering.groups), gathering.rows_read, is_sketched)


def _spread(name: str, gathering: _Gathering, cells: Cells, size: int, *, precomputed: bool) -> None:
    """Fill in quantiles and histograms of one sketch: exact arrays, stored percentiles or merged sketches."""
    fractions = cells.needs.fractions.get(name, ())
    columns: list[list[float | None]] = [[None] * size for _ in fractions]
    packed: list[bytes] = []
    owners: list[int] = []
    is_exact = False
    for records in gathering.statements(f"q_{name}"):
        is_exact = True
        for cell, record in records:
            for column, value in zip(columns, record[f"q_{name}"] or (), strict=False):
                column[cell] = value
    places = [_PRECOMPUTED_ORDER.index(fraction) for fraction in fractions] if precomputed else []
    for records in gathering.statements(f"p_{name}"):
        for cell, record in records:
            stored = record[f"p_{name}"]
            if stored:
                for column, place in zip(columns, places, strict=True):
                    column[cell] = stored[place]
    for records in gathering.statements(f"s_{name}"):
        for cell, record in records:
            entries = record[f"s_{name}"]
            if entries:
                packed.append(entries)
                owners.append(cell)
    if packed:
        merged = sketch.merge(packed, owners, size)
        if fractions and not is_exact:
            merged_cells = sorted(set(owners))
            for cell, values in zip(merged_cells, merged.quantiles(fractions)[merged_cells].tolist(), strict=True):
                for column, value in zip(columns, values, strict=True):
                    column[cell] = None if value != value else value
        if name in cells.needs.histograms:
            cells.histograms[name] = merged.counts_up_to(HISTOGRAM_BOUNDS).tolist()
    if name in cells.needs.histograms and name not in cells.histograms:
        cells.histograms[name] = [[0] * (len(HISTOGRAM_BOUNDS) + 1)] * size
    for column, fraction in zip(columns, fractions, strict=True):
        cells.quantiles[name, fraction] = column
