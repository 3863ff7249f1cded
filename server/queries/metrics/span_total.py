"""The number of stored spans in ranges, from rollups: as cheap for millions as for ten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg

from server.queries.filters.time_range import TimeRange
from server.queries.metrics.metric_fetch import fetch
from server.queries.metrics.metric_formula import Needs
from server.queries.metrics.raw_sql import Piece, Target
from server.queries.metrics.source_plan import GRAINS, HOURS, Timeline, joined, plan_sources
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import ceil_to, floor_to

END_OF_TIME: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""Later than any span."""
_NEEDS: Final = Needs("spans", "spans", ("spans",), {}, frozenset(), ())


async def count_spans(connection: asyncpg.Connection, scope: RowScope, window: TimeRange) -> int:
    """Return how many spans of ``scope`` start within ``window``, in a transaction of that scope.

    Later statements of the transaction join by hash, too (``join_by_hash``).
    """
    (state,) = await connection.fetch(statement("read_rollup_state"))
    start, end = stored_window(window, state["raw_since"])
    timeline = Timeline(start, end, (start, end))
    target = Target(scope, (), None)
    plan = plan_sources(target, _NEEDS, timeline, state["rollup_5m_since"], state["raw_since"])
    found = await fetch(connection, target, _NEEDS, plan, timeline, None)
    return int(found.cells.counters["spans"][0])


async def estimate_spans(
    connection: asyncpg.Connection, scope: RowScope, pieces: Sequence[Piece], rollup_5m_since: datetime
) -> float:
    """Return about how many spans of ``scope`` begin within ``pieces``, as if they were spread evenly over an hour."""
    if not pieces:
        return 0
    hour = GRAINS[HOURS].width
    start, end = floor_to(min(low for low, _ in pieces), hour), ceil_to(max(high for _, high in pieces), hour)
    timeline = Timeline(start, end, tuple(start + hour * number for number in range((end - start) // hour + 1)))
    target = Target(scope, (), None)
    plan = plan_sources(target, _NEEDS, timeline, rollup_5m_since)
    found = await fetch(connection, target, _NEEDS, plan, timeline, None)
    counts = found.cells.counters["spans"]
    total = 0.0
    for low, high in joined(pieces):
        for number in range((low - start) // hour, (ceil_to(high, hour) - start) // hour):
            begin = start + hour * number
            total += counts[number] * ((min(high, begin + hour) - max(low, begin)) / hour)
    return total


def stored_window(window: TimeRange, raw_since: datetime) -> tuple[datetime, datetime]:
    """Return the part of ``window`` that retention has left."""
    end = min(window.end or END_OF_TIME, END_OF_TIME)
    start = max(window.start or raw_since, raw_since)
    return min(start, end), end
