"""Removal of rows that no longer matter: revocations of dead tokens, old audit rows, rows of deleted projects."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from server.errors import ApiError
from server.storage.database import Database
from server.storage.statements import statement
from server.telemetry.observations import BackgroundWorkFailed, observe

logger = logging.getLogger("observatory.access")

EVERY_SECONDS: Final = 3600.0
FIRST_SECONDS: Final = 60.0


class Housekeeping:
    """Background task; several processes may run it at once, because a repeated deletion does nothing."""

    def __init__(self, worker: Database, *, audit_days: int) -> None:
        """``worker`` must run as the role observatory_worker."""
        self._worker = worker
        self._audit_days = audit_days
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start: a minute from now, then every hour."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is in the middle is rolled back."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def tidy(self) -> None:
        """Remove everything that has expired. Raises the database's errors."""
        oldest = datetime.now(UTC) - timedelta(days=self._audit_days)
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("forget_old_access"), oldest)
            projects = [row["project_id"] for row in await connection.fetch(statement("list_projects_to_purge"))]
        for project in projects:
            async with self._worker.unscoped() as connection:
                rows = await connection.fetchval(statement("purge_project"), project)
            logger.info("deleted project purged", extra={"project": project, "rows": rows})

    async def _run(self) -> None:
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = EVERY_SECONDS
            try:
                await self.tidy()
            except ApiError as error:
                observe(BackgroundWorkFailed(task="access housekeeping", cause=error.code))
