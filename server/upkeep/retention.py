"""Retention: partitions of spans are dropped by the week, rollups stay longer, and both are created ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from server.ingest.writing.span_changes import forget_expired_traces
from server.periodic_task import PeriodicTask
from server.settings import Settings
from server.storage.database import Database
from server.storage.statements import statement
from server.telemetry.observations import PartitionsDropped, observe
from server.upkeep.partitions import ensure_partitions

CHECK_EVERY: Final = 3600.0
"""Seconds between two checks."""
FIRST_CHECK: Final = 10.0
"""Seconds until the first check, and until the next after a failure: starting up has more urgent work."""

_ROLLUPS: Final = ("rollup_1h", "rollup_1d", "slice_1h", "actor_pack", "actor_names")


class Retention:
    """Background work that creates partitions ahead and drops old ones. An advisory lock leaves the dropping to one of
    several processes.
    """

    def __init__(self, worker: Database, settings: Settings) -> None:
        """``worker`` must run as the role observatory_worker."""
        self._worker = worker
        self._settings = settings
        self.task = PeriodicTask(
            "retention", self._run, first_pause=FIRST_CHECK, pause=CHECK_EVERY, pause_after_failure=FIRST_CHECK
        )

    async def _run(self) -> None:
        now = datetime.now(UTC)
        oldest = min(self._settings.ingest_max_age_days, self._settings.retention_days)
        await ensure_partitions(self._worker, now, oldest)
        await apply_retention(self._worker, self._settings, now)


async def apply_retention(worker: Database, settings: Settings, now: datetime) -> list[str]:
    """Drop data older than the settings allow; return the names of the dropped partitions."""
    raw_cutoff = now - timedelta(days=settings.retention_days)
    async with worker.unscoped() as connection:
        if not await connection.fetchval(statement("lock_retention")):
            return []
        raw_since = await connection.fetchval(statement("advance_raw_since"), raw_cutoff)
        rows = await connection.fetch(statement("drop_partitions"), raw_cutoff)
        dropped = [row[0] for row in rows]
        await connection.execute(statement("drop_vector_partitions"), raw_cutoff)
        short_since = await connection.fetchval(
            statement("advance_rollup_5m_since"), now - timedelta(days=settings.rollup_5m_days)
        )
        projects = [row["project_id"] for row in await connection.fetch(statement("list_all_projects"))]
    if dropped:
        observe(PartitionsDropped(tuple(dropped)))
    kept_since = now - timedelta(days=max(settings.rollup_retention_days, settings.retention_days))
    for project in projects:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                continue
            await connection.execute(statement("delete_old_rollup_5m"), project, short_since)
            for table in _ROLLUPS:
                await connection.execute(statement(f"delete_old_{table}"), project, kept_since)
            await connection.execute(statement("delete_old_vector_counts"), project, raw_since)
        if dropped:
            async with worker.unscoped() as connection:
                await forget_expired_traces(connection, project, raw_since)
    return dropped
