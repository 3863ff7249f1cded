"""Removal of rows that no longer matter: dead tokens' revocations, old audit rows and notes, deleted projects."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.living_nodes import each_project, fetch_of_living_nodes
from server.storage.statements import statement

logger = logging.getLogger("observatory.access")

EVERY_SECONDS: Final = 3600.0
FIRST_SECONDS: Final = 60.0
NOTES_KEPT: Final = timedelta(days=1)
"""Two reports of one call that come in two traces, further apart than this, are two calls."""


class Housekeeping:
    """Background work; several processes may run it at once, because a repeated deletion does nothing."""

    def __init__(self, worker: Database, *, audit_days: int) -> None:
        """``worker`` must run as the role observatory_worker."""
        self._worker = worker
        self._audit_days = audit_days
        self.task = PeriodicTask("access housekeeping", self.tidy, first_pause=FIRST_SECONDS, pause=EVERY_SECONDS)

    async def tidy(self) -> None:
        """Remove everything that has expired. Raises the database's errors."""
        oldest = datetime.now(UTC) - timedelta(days=self._audit_days)
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("forget_old_access"), oldest)
            projects = [row["project_id"] for row in await connection.fetch(statement("list_projects_to_purge"))]
        await each_project(self._worker, self.task.name, projects, self._purge)
        await fetch_of_living_nodes(
            self._worker, self.task.name, "forget_old_response_notes", datetime.now(UTC) - NOTES_KEPT
        )

    async def _purge(self, project: str) -> None:
        async with self._worker.unscoped() as connection:
            rows = await connection.fetchval(statement("purge_project"), project)
        logger.info("deleted project purged", extra={"project": project, "rows": rows})
