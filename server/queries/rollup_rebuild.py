"""Makes rollups anew from raw rows: after a restore, a bulk load, or a doubt.

A day at a time, in one REPEATABLE READ transaction under the project's lock: forget the day's rollups and the
deltas that this snapshot sees, and append fresh deltas from the raw rows that this snapshot sees. Changes
that commit meanwhile leave deltas outside of the snapshot, which stay. So every answer is exact before,
during and after; the folder then does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from server.database import Database
from server.queries.actor_fold import merge_past_actors
from server.queries.rollup import fold_project
from server.queries.statements import statement

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
    """Rebuild the rollups of ``projects`` for the UTC days that touch ``[start, end)``; gives the number of days.

    Days whose spans were dropped by retention are left as they are. ``progress`` is called after each day.
    """
    async with worker.unscoped() as connection:
        (state,) = await connection.fetch(statement("read_rollup_state"))
    rebuilt = 0
    for project in projects:
        for day in days_between(max(start, state["raw_since"]), end):
            await _rebuild_day(worker, project, day)
            await fold_project(worker, project)
            rebuilt += 1
            if progress is not None:
                progress(project, day)
    while await merge_past_actors(worker, datetime.now(UTC)):
        pass
    return rebuilt


async def _rebuild_day(worker: Database, project: str, day: datetime) -> None:
    arguments = (project, day, day + timedelta(days=1))
    async with worker.plain() as connection:
        await connection.execute(statement("hold_project_rollups"), project)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                for table in _FORGOTTEN:
                    await connection.execute(statement(f"forget_day_of_{table}"), *arguments)
                # The statement of the writer, over the spans of the day instead of the spans of a batch.
                spans = f"FROM ({statement('spans_of_day')})"
                appending = statement("append_rollup_delta").replace("FROM span_changes", spans)
                await connection.execute(appending, *arguments)
        finally:
            await connection.execute(statement("release_project_rollups"), project)


def days_between(start: datetime, end: datetime) -> list[datetime]:
    """The first moments of the UTC days that touch ``[start, end)``."""
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    count = max(-((first - end) // timedelta(days=1)), 0)
    return [first + timedelta(days=day) for day in range(count)]
