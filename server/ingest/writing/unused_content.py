"""Removal of shared content and resources that no span has any more.

Whatever takes a part or resource from a span (a deletion, a later version, a second row of one span) leaves a note in
``content_garbage`` or ``resource_garbage``, in its own transaction. The noted ones are looked at one by one while no
writer holds their project, right after the deletion of a trace and else once a minute.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.living_nodes import each_project, fetch_of_living_nodes
from server.storage.statements import statement

EVERY_SECONDS: Final = 60.0


async def collect_unused_content(database: Database, project_id: str) -> int:
    """Remove the unused parts of a project for good; return how many notes there were. Raises the errors of
    :class:`Database`: the rest is done by the background work.
    """
    seen = 0
    while True:
        # A transaction for a thousand: writers of the project wait for it.
        async with database.write([project_id]) as connection:
            await connection.fetchval(statement("hold_content_alone"), project_id)
            some = await connection.fetchval(statement("collect_unused_content"), project_id)
            some += await connection.fetchval(statement("collect_unused_resources"), project_id)
        if not some:
            return seen
        seen += some


class UnusedContent:
    """The background work; several processes may do it at once, because one waits for the other."""

    def __init__(self, worker: Database) -> None:
        """``worker`` must run as the role observatory_worker."""
        self._worker = worker
        self.task = PeriodicTask("unused content", self.collect, pause=EVERY_SECONDS)

    async def collect(self) -> int:
        """Remove what is unused in all projects; return how many notes there were. Raises the database's errors."""
        task = self.task.name
        rows = await fetch_of_living_nodes(self._worker, task, "list_projects_with_unused_content")
        projects = [row["project_id"] for row in rows]
        collect = partial(collect_unused_content, self._worker)
        return sum(await each_project(self._worker, task, projects, collect))
