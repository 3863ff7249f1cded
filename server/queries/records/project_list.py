"""The projects of the installation, cached for a moment.

Every request needs the list (to turn a ``*`` grant into projects and to hide deleted ones), so it is read once every
few seconds and not once per request. If the list lacks a project that a caller expects, another process may have
created it since: then the list is read again at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from server.errors import DatabaseUnavailable, PoolTimeout, QueryTimeout
from server.fairness.party import server_context
from server.storage.database import Database
from server.storage.statements import statement

FRESH_SECONDS = 2.0


class ProjectList:
    """The ids of all live projects, at most two seconds old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: tuple[str, ...] | None = None
        self._deleted: frozenset[str] = frozenset()  # never used again, so no reason to read again
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._next_reading: asyncio.Task[None] | None = None

    async def ids(self, expected: Iterable[str] = ()) -> tuple[str, ...]:
        """Return all project ids, sorted; ``expected`` are there if they were created before this call.

        Falls back to the last known list while the database is down or overloaded, and raises the database's error if
        there is none.
        """
        if self._ids is not None and time.monotonic() - self._read_at < FRESH_SECONDS:
            known = self._ids
            if all(project_id in known or project_id in self._deleted for project_id in expected):
                return known
            return await self._after(self._read_anew())
        return await self._after(self._reading or self._read())

    async def _after(self, reading: asyncio.Task[None]) -> tuple[str, ...]:
        try:
            await asyncio.shield(reading)
        except (DatabaseUnavailable, PoolTimeout, QueryTimeout):
            if self._ids is None:
                raise
        assert self._ids is not None  # noqa: S101 - a reading that did not fail has set it
        return self._ids

    def _read(self) -> asyncio.Task[None]:
        """Begin to read the list. No project's share is charged for it, because everybody waits for it."""
        self._reading = asyncio.create_task(self._fetch(None), context=server_context())
        return self._reading

    def _read_anew(self) -> asyncio.Task[None]:
        """Return a reading that begins after this call. Callers that come while a reading is in progress share the next
        one."""
        if self._reading is None:
            return self._read()
        if self._next_reading is None:
            self._next_reading = asyncio.create_task(self._fetch(self._reading), context=server_context())
        return self._next_reading

    async def _fetch(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
            self._reading, self._next_reading = self._next_reading, None
        began = time.monotonic()
        try:
            async with self._database.plain() as connection:
                rows = await connection.fetch(statement("list_project_ids"))
            ids = tuple(row["project_id"] for row in rows if not row["is_deleted"])
            self._deleted = frozenset(row["project_id"] for row in rows if row["is_deleted"])
            # The same tuple as long as the projects are the same: callers check by identity whether their derived
            # values still hold.
            self._ids = self._ids if ids == self._ids else ids
            self._read_at = began
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    def forget(self) -> None:
        """Read the list again at the next use: call after creating or deleting a project."""
        self._read_at = float("-inf")
