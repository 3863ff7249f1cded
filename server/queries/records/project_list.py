"""The projects of the installation, cached for a moment.

Every request needs the list (to turn a ``*`` grant into projects and to hide deleted ones), so it is read once every
few seconds and not once per request.
"""

from __future__ import annotations

import asyncio
import time

from server.errors import DatabaseUnavailable, PoolTimeout, QueryTimeout
from server.storage.database import Database
from server.storage.statements import statement

FRESH_SECONDS = 2.0


class ProjectList:
    """The ids of all live projects, at most two seconds old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: tuple[str, ...] | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def ids(self) -> tuple[str, ...]:
        """Return all project ids, sorted. Falls back to the last known list while the database is down or overloaded,
        and raises the database's error if there is none.
        """
        if self._ids is not None and time.monotonic() - self._read_at < FRESH_SECONDS:
            return self._ids
        async with self._lock:
            if self._ids is not None and time.monotonic() - self._read_at < FRESH_SECONDS:
                return self._ids
            try:
                async with self._database.plain() as connection:
                    rows = await connection.fetch(statement("list_project_ids"))
            except (DatabaseUnavailable, PoolTimeout, QueryTimeout):
                if self._ids is None:
                    raise
                return self._ids
            self._ids = tuple(row["project_id"] for row in rows)
            self._read_at = time.monotonic()
            return self._ids

    def forget(self) -> None:
        """Read the list again at the next use: call after creating or deleting a project."""
        self._read_at = 0.0
