"""A job for each project and day, by setting: the spans that began on the day before.

Every server process looks; the id of a job follows from its project and day, so that it exists once, whichever process
is first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from server.errors import Conflict
from server.export.export_store import ExportStore, new_export, owner_key
from server.export.formats import FORMATS
from server.export.pages import database_now
from server.periodic_task import PeriodicTask
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, ListQuestion, Sort, select_fields
from server.queries.records.project_list import ProjectList
from server.storage.database import Database

LOOK_SECONDS: Final = 300.0
LATE_HOURS: Final = 2
"""How long after midnight (UTC) a day is exported: spans come late."""
CATCH_UP_DAYS: Final = 3
"""Number of past days that are exported later if the servers were down."""
SCHEDULE_OWNER: Final = owner_key({"kind": "schedule"})
"""The owner of these jobs: administrators of every project find them."""
CREATED_BY: Final = "daily export"


class DailyExports:
    """Adds the jobs; :class:`~server.export.export_jobs.ExportJobs` works on them."""

    def __init__(
        self, store: ExportStore, reads: Database, projects: ProjectList, *, format_name: str, keep_days: int
    ) -> None:
        """``format_name`` empty: there are none."""
        self._store = store
        self._reads = reads
        self._projects = projects
        self._format = format_name
        self._keep = timedelta(days=keep_days)
        self.task = PeriodicTask("daily exports", self.look, pause=LOOK_SECONDS, first_pause=10.0)

    async def look(self) -> None:
        """Add the jobs that are due and not there yet. Raises the database's errors."""
        if not self._format:
            return
        now = await database_now(self._reads)
        due = {
            daily_id(project, day, self._format): (project, day)
            for day in due_days(now)
            for project in await self._projects.ids()
        }
        for export_id in sorted(due.keys() - await self._store.known(list(due))):
            await self._add(export_id, *due[export_id], now)

    async def _add(self, export_id: str, project: str, day: datetime, now: datetime) -> None:
        question = ListQuestion(
            window=TimeRange(day, day + timedelta(days=1)),
            sort=(Sort("ts", descending=False),),
            fields=select_fields(VIEWS["spans"], ["all"]),
        )
        export = new_export(
            question,
            now,
            self._keep,
            export_id=export_id,
            kind="job",
            state="queued",
            owner=SCHEDULE_OWNER,
            created_by=CREATED_BY,
            projects=(project,),
            may_read_content=True,
            format=self._format,
            compression="none" if FORMATS[self._format].is_compressed_inside else "zstd",
            options={"guard": False, "trailer": False, "requested_projects": [project]},
        )
        try:
            await self._store.add(export)
        except Conflict:
            return  # another process was quicker


def due_days(now: datetime) -> Sequence[datetime]:
    """Return the beginnings of the days that should have been exported by ``now``, which is in UTC."""
    today = (now.astimezone(UTC) - timedelta(hours=LATE_HOURS)).replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=back) for back in range(1, CATCH_UP_DAYS + 1)]


def daily_id(project: str, day: datetime, format_name: str) -> str:
    """Return the id of the export of ``day``: the same in every process."""
    digest = hashlib.blake2b(f"{project}\n{day:%Y-%m-%d}\n{format_name}".encode(), digest_size=15).digest()
    return f"exp_{base64.b32encode(digest).decode().lower()[:20]}"
