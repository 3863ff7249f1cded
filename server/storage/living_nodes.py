"""Questions over all projects while a node of the database is away: the other nodes answer with their rows."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from server.distribution_settings import NONE
from server.errors import DatabaseUnavailable
from server.storage.database import Database
from server.storage.statements import statement
from server.telemetry.observations import BackgroundWorkFailed, observe

EVERYWHERE: Final = "IS NOT NULL"
"""The condition on a project while every node is there."""


async def fetch_of_living_nodes(worker: Database, task: str, name: str, *args: Any) -> list[asyncpg.Record]:
    """Return the rows of the statement ``name``; while a node is away, those of the projects of all other nodes.

    The text has ``{among}`` behind each column of projects, as the condition on it. A node that is away is observed as
    a failure of ``task``. Raises :class:`DatabaseUnavailable` if the whole database is away.
    """
    text = statement(name)
    try:
        async with worker.unscoped() as connection:
            return list(await connection.fetch(text.replace("{among}", EVERYWHERE), *args))
    except DatabaseUnavailable as error:
        if worker.distribution == NONE:
            raise
        observe(BackgroundWorkFailed(task=task, cause=error.code))
    async with worker.unscoped() as connection:
        living = [row["project_id"] for row in await connection.fetch(statement("list_projects_of_living_nodes"))]
        among = f"= ANY (${len(args) + 1}::text[])"
        return list(await connection.fetch(text.replace("{among}", among), *args, living))
