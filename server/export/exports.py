"""The objects that a server process needs for exports, made and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from server.access.access_services import ConcurrencyLimit
from server.access.principal import Principal
from server.errors import Overloaded
from server.export.daily_exports import DailyExports
from server.export.export_files import ExportFiles
from server.export.export_jobs import ExportJobs
from server.export.export_store import ExportStore
from server.fairness.standing_places import StandingPlaces
from server.storage.database import Database

MOST_STREAMS: Final = 64
"""Streams and downloads of all callers in a process: each holds some megabytes."""


class Exports:
    """The store of exports, the jobs and their files, and the streams at work."""

    def __init__(
        self, store: ExportStore, jobs: ExportJobs, files: ExportFiles, daily: DailyExports, reads: Database,
        *, most_streams: int,
    ) -> None:  # fmt: skip
        """``reads`` has to see everything stored before an export began. ``most_streams``: streams of one principal in
        this process.
        """
        self.reads = reads
        self.daily = daily
        self.store = store
        self.jobs = jobs
        self.files = files
        self.streams = ConcurrencyLimit(most_streams)
        self.places = StandingPlaces(
            "export streams", MOST_STREAMS, exhausted=lambda: Overloaded("too many exports are being sent")
        )
        self._later: set[asyncio.Task[None]] = set()

    @contextmanager
    def hold(self, principal: Principal) -> Iterator[None]:
        """Hold a place for a stream or download of ``principal`` inside. Raises TooManyConcurrent, ShareExhausted and
        Overloaded.
        """
        slot = self.streams.take(principal)
        try:
            with self.places.hold():
                yield
        finally:
            self.streams.give_back(slot)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` although the request that it belongs to is over."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def close(self) -> None:
        """Stop the job at work and wait, two seconds at most, until its progress is stored."""
        await self.daily.task.stop()
        await self.jobs.task.stop()
        if self._later:
            await asyncio.wait(self._later, timeout=2)
