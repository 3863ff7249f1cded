"""Retention: partitions of spans are dropped by the week, rollups stay longer, and both are created ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from server.distribution_settings import NONE
from server.errors import DatabaseUnavailable
from server.ingest.writing.span_changes import forget_expired_traces
from server.periodic_task import PeriodicTask
from server.settings import Settings
from server.storage.database import Database
from server.storage.living_nodes import each_project
from server.storage.statements import statement
from server.telemetry.observations import PartitionsDropped, observe
from server.upkeep.partitions import ensure_partitions

CHECK_EVERY: Final = 3600.0
"""Seconds between two checks."""
FIRST_CHECK: Final = 10.0
"""Seconds until the first check, and until the next after a failure: starting up has more urgent work."""

TASK: Final = "retention"

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
            TASK, self._run, first_pause=FIRST_CHECK, pause=CHECK_EVERY, pause_after_failure=FIRST_CHECK
        )

    async def _run(self) -> None:
        now = datetime.now(UTC)
        oldest = min(self._settings.ingest_max_age_days, self._settings.retention_days)
        try:
            await ensure_partitions(self._worker, now, oldest)
        finally:
            await apply_retention(self._worker, self._settings, now)


async def apply_retention(worker: Database, settings: Settings, now: datetime) -> list[str]:
    """Drop data older than the settings allow; return the names of the dropped partitions.

    Partitions have rows of all projects: while a node of the database is away they stay, and all else that is too old
    goes for the projects of the other nodes. Raises :class:`DatabaseUnavailable` then.
    """
    try:
        dropped = await _drop_partitions(worker, now - timedelta(days=settings.retention_days))
    except DatabaseUnavailable:
        if worker.distribution != NONE:
            await _forget_old_rows(worker, settings, now)
        raise
    if dropped is None:
        return []
    if dropped:
        observe(PartitionsDropped(tuple(dropped)))
    await _forget_old_rows(worker, settings, now)
    return dropped


async def _drop_partitions(worker: Database, cutoff: datetime) -> list[str] | None:
    """Return the names of those that were dropped; None if another process is at it."""
    async with worker.unscoped() as connection:
        if not await connection.fetchval(statement("lock_retention")):
            return None
        await connection.execute(statement("advance_raw_since"), cutoff)
        dropped = [row[0] for row in await connection.fetch(statement("drop_partitions"), cutoff)]
        await connection.execute(statement("drop_vector_partitions"), cutoff)
    return dropped


async def _forget_old_rows(worker: Database, settings: Settings, now: datetime) -> None:
    async with worker.unscoped() as connection:
        (state,) = await connection.fetch(
            statement("advance_rollup_5m_since"), now - timedelta(days=settings.rollup_5m_days)
        )
        projects = [row["project_id"] for row in await connection.fetch(statement("list_all_projects"))]
    kept_since = now - timedelta(days=max(settings.rollup_retention_days, settings.retention_days))

    async def forget(project: str) -> None:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                return
            await connection.execute(statement("delete_old_rollup_5m"), project, state["rollup_5m_since"])
            for table in _ROLLUPS:
                await connection.execute(statement(f"delete_old_{table}"), project, kept_since)
            await connection.execute(statement("delete_old_vector_counts"), project, state["raw_since"])
        async with worker.unscoped() as connection:
            await forget_expired_traces(connection, project, state["raw_since"])

    await each_project(worker, TASK, projects, forget)
