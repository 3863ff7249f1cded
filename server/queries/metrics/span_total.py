"""The number of stored spans of a range, from rollups: exact, and as cheap for millions as for ten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import asyncpg

from server.queries.filters.time_range import TimeRange
from server.queries.metrics.metric_fetch import fetch
from server.queries.metrics.metric_formula import Needs
from server.queries.metrics.raw_sql import Target
from server.queries.metrics.source_plan import Timeline, plan_sources
from server.storage.row_scope import RowScope
from server.storage.statements import statement

END_OF_TIME: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""No span is later."""
_NEEDS: Final = Needs("spans", "spans", ("spans",), {}, frozenset(), ())


async def count_spans(connection: asyncpg.Connection, scope: RowScope, window: TimeRange) -> int:
    """Return how many spans of ``scope`` start within ``window``, in a transaction of that scope.

    What the transaction does afterwards joins by hash (``join_by_hash``).
    """
    (state,) = await connection.fetch(statement("read_rollup_state"))
    start, end = stored_window(window, state["raw_since"])
    timeline = Timeline(start, end, (start, end))
    target = Target(scope, (), None)
    plan = plan_sources(target, _NEEDS, timeline, state["rollup_5m_since"], state["raw_since"])
    found = await fetch(connection, target, _NEEDS, plan, timeline, None)
    return int(found.cells.counters["spans"][0])


def stored_window(window: TimeRange, raw_since: datetime) -> tuple[datetime, datetime]:
    """Return the part of ``window`` that retention has left."""
    end = min(window.end or END_OF_TIME, END_OF_TIME)
    start = max(window.start or raw_since, raw_since)
    return min(start, end), end
