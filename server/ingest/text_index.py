"""Keeps the pending list of the text index short, beside the writers instead of within their commits.

A GIN index collects new entries in a list, which is cheap, and somebody has to move them into the index in the
end. Left to itself the writer does whose entry finds the list full: one commit in fifty then takes a second. Here
the list is emptied every second, so that it is full only under a load that this cannot follow.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from server.database import Database
from server.errors import ApiError
from server.observations import BackgroundWorkFailed, observe
from server.queries.statements import statement

PAUSE_SECONDS: Final = 1.0


class TextIndexUpkeep:
    """The background task; processes that run one at the same time leave the work to the first."""

    def __init__(self, worker: Database) -> None:
        """``worker``: a pool of the role observatory_worker."""
        self._worker = worker
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, until :meth:`close`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="text index")

    async def close(self) -> None:
        """Stop; what is in the middle is rolled back and done later."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> int:
        """Move what is pending into the index; gives the number of pages. Raises what :class:`Database` raises."""
        async with self._worker.unscoped() as connection:
            return int(await connection.fetchval(statement("settle_text_index")))

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await self.settle()
            except ApiError as error:
                observe(BackgroundWorkFailed(task="text index", cause=error.code))
            await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - started))
