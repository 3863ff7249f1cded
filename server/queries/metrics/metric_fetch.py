"""Execution of a plan's statements, and merging of their rows cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, Final

import asyncpg

from server.errors import QueryTooLarge
from server.fairness.off_loop import off_loop
from server.queries.metrics.metric_catalog import HISTOGRAM_BOUNDS
from server.queries.metrics.metric_formula import Cells, Needs
from server.queries.metrics.raw_sql import Binds, Selection, Target, raw_statement
from server.queries.metrics.rollup_sql import RollupSource, RollupTable, rollup_statement
from server.queries.metrics.source_plan import GRAINS, HOURS, SourcePlan, Timeline
from server.rollups import sketch
from server.rollups.sketch import PERCENTILES
from server.storage.statements import statement
from server.text.instants import floor_to

_PRECOMPUTED_ORDER: Final = tuple(PERCENTILES.values())
# Deltas first: the hours that they change have stale stored percentiles.
_ORDER: Final[tuple[RollupTable, ...]] = ("rollup_delta", "rollup_5m", "slice_1h", "rollup_1h", "rollup_1d")

MOST_CELLS: Final = 1_000_000
"""Most values of one counter in memory: groups times points in time."""
_SKETCH_WEIGHT: Final = 40
"""Work for one sketch, about a tenth of a millisecond, as a number of values (see :func:`off_loop`)."""

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


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one statement: the cell of each, and their values column by column."""

    cells: list[int]
    columns: dict[str, tuple[Any, ...]]


@dataclass(slots=True)
class _Gathering:
    """Cells under construction: groups may still be added; cells are numbered ``group × buckets + bucket``."""

    needs: Needs
    buckets: int
    groups: dict[Key, int] = field(default_factory=dict)
    statements: list[_Rows] = field(default_factory=list)
    rows_read: int = 0

    def add(self, records: Sequence[asyncpg.Record], width: int) -> None:
        """Add the rows of one statement, whose first ``width`` columns name the group."""
        if not records:
            return
        groups, buckets = self.groups, self.buckets
        values = list(zip(*records, strict=True))
        columns = dict(zip(records[0].keys(), values, strict=True))
        keys = zip(*values[:width], strict=True) if width else repeat((), len(records))
        numbers = [groups.setdefault(key, len(groups)) for key in keys]
        cells = [number * buckets + bucket for number, bucket in zip(numbers, columns["b"], strict=True)]
        self.statements.append(_Rows(cells, columns))
        self.rows_read += sum(columns["n"])

    def selected(self, column: str) -> Iterator[tuple[list[int], tuple[Any, ...]]]:
        """Yield cells and values of each statement that selected ``column``."""
        for rows in self.statements:
            if column in rows.columns:
                yield rows.cells, rows.columns[column]


async def fetch(
    connection: asyncpg.Connection,
    target: Target,
    needs: Needs,
    plan: SourcePlan,
    timeline: Timeline,
    selection: Selection | None,
) -> Fetched:
    """Read all sources of ``plan``, in the transaction's one snapshot, and merge them.

    With a selection the groups are numbered as chosen; without, every group is returned.
    """
    gathering = await _gather(connection, target, needs, plan, timeline, selection)
    # Merging large sketches takes tens of milliseconds in numpy: not on the event loop.
    read = sum(len(rows.cells) for rows in gathering.statements)
    weight = read * _SKETCH_WEIGHT if needs.sketches else read + len(gathering.groups) * gathering.buckets
    return await off_loop(weight, partial(_merged, gathering, plan))


async def fetch_sketches(
    connection: asyncpg.Connection, target: Target, needs: Needs, plan: SourcePlan, timeline: Timeline
) -> tuple[Fetched, list[int], list[bytes]]:
    """Return the counters of every group, and the sketches of ``needs`` (one name) as they are stored, each with its
    cell.
    """
    (name,) = needs.sketches
    gathering = await _gather(connection, target, needs, plan, timeline, None)
    owners, sketches = _stored_sketches(gathering, name)
    counters = replace(needs, fractions={}, histograms=frozenset())
    weight = len(owners) + len(gathering.groups) * gathering.buckets
    return await off_loop(weight, partial(_merged, replace(gathering, needs=counters), plan)), owners, sketches


async def _gather(
    connection: asyncpg.Connection,
    target: Target,
    needs: Needs,
    plan: SourcePlan,
    timeline: Timeline,
    selection: Selection | None,
) -> _Gathering:
    gathering = _Gathering(needs, timeline.buckets)
    width = 1 if selection is not None else len(target.dimensions)
    if selection is not None:
        numbers = [*range(1, len(selection.groups) + 1), *([0] if selection.with_other else [])]
        gathering.groups = {(number,): index for index, number in enumerate(numbers)}
    elif not width:
        gathering.groups = {(): 0}
    await _read_rollups(connection, target, plan, timeline, selection, gathering, width)
    binds, exact = Binds(), not plan.rollups
    raw = [
        raw_statement(
            target, needs, pieces, timeline.boundaries, selection, binds, exact=exact, taken_away=pieces is plan.less
        )
        for pieces in (plan.raw, plan.less)
        if pieces
    ]
    if raw:
        text = raw[0] if len(raw) == 1 else " UNION ALL ".join(f"({each})" for each in raw)
        await _add(connection, text, binds.values, gathering, width)
    return gathering


async def _read_rollups(
    connection: asyncpg.Connection,
    target: Target,
    plan: SourcePlan,
    timeline: Timeline,
    selection: Selection | None,
    gathering: _Gathering,
    width: int,
) -> None:
    """Read all rollup tables of ``plan``, by one statement where that can be: each costs a way to the database."""
    if not plan.rollups:
        return
    tables = {**plan.rollups, "rollup_delta": plan.rolled_up}
    sources = [
        RollupSource(table, tables[table], plan.slice if table == "slice_1h" else None)
        for table in _ORDER
        if tables.get(table)
    ]
    await connection.execute(statement("join_by_hash"))
    if plan.slice is not None and plan.slice.precomputed and gathering.needs.sketches:
        # Stored percentiles are columns that the others do not have, and the deltas say which of them count.
        pending: set[datetime] = {floor_to(low, GRAINS[HOURS].width) for low, _ in plan.less}
        for source in sources:
            if source.slice is not None:
                stale = replace(source.slice, pending=tuple(sorted(pending)))
                source = replace(source, slice=stale)
            sql, values = rollup_statement(target, gathering.needs, [source], timeline.boundaries, selection)
            records = await _add(connection, sql, values, gathering, width)
            if source.table == "rollup_delta":
                pending |= {timeline.boundaries[record["b"]] for record in records}
    else:
        sql, values = rollup_statement(target, gathering.needs, sources, timeline.boundaries, selection)
        await _add(connection, sql, values, gathering, width)
    await connection.execute(statement("join_as_planned"))


async def _add(
    connection: asyncpg.Connection, sql: str, values: Sequence[Any], gathering: _Gathering, width: int
) -> list[asyncpg.Record]:
    """Add the rows of a statement, and return them."""
    records: list[asyncpg.Record] = await connection.fetch(sql, *values)
    await off_loop(len(records), partial(gathering.add, records, width))
    return records


def _merged(gathering: _Gathering, plan: SourcePlan) -> Fetched:
    needs = gathering.needs
    size = len(gathering.groups) * gathering.buckets
    if size > MOST_CELLS:
        raise QueryTooLarge(
            f"{len(gathering.groups)} series at {gathering.buckets} points in time are too many: sum by fewer labels, "
            "or choose a shorter range or a wider step."
        )
    cells = Cells(needs, size)
    for name in needs.counters:
        sums = cells.counters[name]
        for owners, values in gathering.selected(name):
            for cell, value in zip(owners, values, strict=True):
                sums[cell] += value
    for kind in needs.distinct:
        counts = cells.distinct[kind] = [0] * size
        for owners, values in gathering.selected(f"d_{kind}"):
            for cell, value in zip(owners, values, strict=True):
                counts[cell] = value
    for name in needs.sketches:
        _spread(name, gathering, cells, size, precomputed=plan.slice is not None and plan.slice.precomputed)
    is_sketched = bool(needs.histograms) or bool(needs.fractions and plan.rollups)
    return Fetched(cells, list(gathering.groups), gathering.rows_read, is_sketched)


def _spread(name: str, gathering: _Gathering, cells: Cells, size: int, *, precomputed: bool) -> None:
    """Fill in quantiles and histograms of one sketch, from exact arrays, stored percentiles or merged sketches."""
    fractions = cells.needs.fractions.get(name, ())
    columns: list[list[float | None]] = [[None] * size for _ in fractions]
    is_exact = False
    for owners, arrays in gathering.selected(f"q_{name}"):
        is_exact = True
        for cell, array in zip(owners, arrays, strict=True):
            for column, value in zip(columns, array or (), strict=False):
                column[cell] = value
    places = [_PRECOMPUTED_ORDER.index(fraction) for fraction in fractions] if precomputed else []
    for owners, arrays in gathering.selected(f"p_{name}"):
        for cell, array in zip(owners, arrays, strict=True):
            if array:
                for column, place in zip(columns, places, strict=True):
                    column[cell] = array[place]
    packed_of, packed = _stored_sketches(gathering, name)
    if name in cells.needs.histograms:
        cells.histograms[name] = [[0] * (len(HISTOGRAM_BOUNDS) + 1)] * size
    for merged_cells, merged in sketch.merge_in_parts(packed, packed_of):
        if fractions and not is_exact:
            for column, values in zip(columns, merged.quantiles(fractions).T.tolist(), strict=True):
                for cell, value in zip(merged_cells, values, strict=True):
                    column[cell] = None if value != value else value
        if name in cells.needs.histograms:
            for cell, counts in zip(merged_cells, merged.counts_up_to(HISTOGRAM_BOUNDS).tolist(), strict=True):
                cells.histograms[name][cell] = counts
    for column, fraction in zip(columns, fractions, strict=True):
        cells.quantiles[name, fraction] = column


def _stored_sketches(gathering: _Gathering, name: str) -> tuple[list[int], list[bytes]]:
    """Return every sketch that was read, with its cell."""
    packed: list[bytes] = []
    packed_of: list[int] = []
    for owners, sketches in gathering.selected(f"s_{name}"):
        present = [place for place, entries in enumerate(sketches) if entries]
        packed += [sketches[place] for place in present]
        packed_of += [owners[place] for place in present]
    return packed_of, packed
