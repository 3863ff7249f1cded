"""Rebuilding of rollups from raw rows: after a restore, a bulk load, or a doubt.

A day at a time, in one REPEATABLE READ transaction under the project's lock: forget the day's rollups and the deltas
that this snapshot sees, and add up the raw rows that this snapshot sees, straight into the rollups. Changes that commit
meanwhile leave deltas outside of the snapshot, which stay. So every answer is exact before, during and after.

The sums are made in SQL, in windows of whole 5 minutes with at most :data:`MOST_SPANS` spans (or 5 minutes that have
more), so that a day of any size takes the memory of a window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from server.rollups.actor_fold import add_taken_actors, merge_past_actors
from server.rollups.counters import counter_statement
from server.rollups.fold import add_taken, make_taken_table
from server.storage.database import Database
from server.storage.statements import statement

MOST_SPANS: Final = 500_000
"""Number of spans in one window, unless 5 minutes alone have more."""

_SLOT: Final = timedelta(minutes=5)
_LOCK_PAUSE: Final = 0.05
_FORGOTTEN: Final = (
    "rollup_delta",
    "rollup_5m",
    "rollup_1h",
    "rollup_1d",
    "slice_1h",
    "actor_delta",
    "actor_pack",
)


async def rebuild_rollups(
    worker: Database,
    projects: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    progress: Callable[[str, datetime], None] | None = None,
) -> int:
    """Rebuild the rollups of ``projects`` for the UTC days that touch ``[start, end)``; return the number of days.

    Days whose spans were dropped by retention are left as they are. ``progress`` is called after each day.
    """
    async with worker.unscoped() as connection:
        (state,) = await connection.fetch(statement("read_rollup_state"))
    rebuilt = 0
    for project in projects:
        for day in days_between(max(start, state["raw_since"]), end):
            await _rebuild_day(worker, project, day, state["rollup_5m_since"])
            rebuilt += 1
            if progress is not None:
                progress(project, day)
    while await merge_past_actors(worker, datetime.now(UTC)):
        pass
    return rebuilt


async def _rebuild_day(worker: Database, project: str, day: datetime, rollup_5m_since: datetime) -> None:
    whole = (project, day, day + timedelta(days=1))
    async with worker.plain() as connection:
        await _hold(connection, project)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                await make_taken_table(connection)
                await connection.execute(statement("create_taken_actors"))
                await connection.execute(statement("sort_in_memory"))
                for table in _FORGOTTEN:
                    await connection.execute(statement(f"forget_day_of_{table}"), *whole)
                width = timedelta(minutes=5) if day >= rollup_5m_since else timedelta(hours=1)
                for window in _windows(await connection.fetch(statement("count_spans_of_day"), *whole)):
                    await connection.execute(counter_statement("take_spans"), project, *window, width)
                    await add_taken(connection, project, rollup_5m_since, removals=False)
                    await connection.execute(statement("forget_taken"))
                    await connection.execute(statement("take_actors"), project, *window)
                    await add_taken_actors(connection, project)
                    await connection.execute(statement("forget_taken_actors"))
        finally:
            await connection.execute(statement("release_project_rollups"), project)


async def _hold(connection: asyncpg.Connection, project: str) -> None:
    """Take the project's lock as soon as the folder releases it. Waiting for it in the database would time out."""
    held = False
    while not held:
        held = await connection.fetchval(statement("hold_project_rollups"), project)
        if not held:
            await asyncio.sleep(_LOCK_PAUSE)


def _windows(counts: Sequence[asyncpg.Record]) -> list[tuple[datetime, datetime]]:
    """Split a day into windows of whole 5 minutes, given the number of spans in each 5 minutes."""
    windows: list[tuple[datetime, datetime]] = []
    spans = MOST_SPANS
    for bucket, count in counts:
        spans += count
        if spans > MOST_SPANS:
            windows.append((bucket, bucket))
            spans = count
        windows[-1] = (windows[-1][0], bucket + _SLOT)
    return windows


def days_between(start: datetime, end: datetime) -> list[datetime]:
    """Return the first moment of each UTC day that touches ``[start, end)``."""
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    count = max(-((first - end) // timedelta(days=1)), 0)
    return [first + timedelta(days=day) for day in range(count)]
