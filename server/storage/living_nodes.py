"""Background work on all projects while a node of the database is away: that of all other nodes goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import asyncpg

from server.distribution_settings import NONE
from server.errors import ApiError, DatabaseUnavailable
from server.storage.database import Database
from server.storage.statements import statement
from server.telemetry.observations import BackgroundWorkFailed, observe

_T = TypeVar("_T")

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
        living = list(await _living(connection))
        among = f"= ANY (${len(args) + 1}::text[])"
        return list(await connection.fetch(text.replace("{among}", among), *args, living))


async def each_project(
    worker: Database, task: str, projects: Iterable[str], work: Callable[[str], Awaitable[_T]]
) -> list[_T]:
    """Do ``work`` for one of ``projects`` after the other; return what it returned.

    A failure is observed as one of ``task`` and keeps no other project waiting. Nor does a node that is away: its
    projects are left out after the first.
    """
    done: list[_T] = []
    living: frozenset[str] | None = None
    for project in projects:
        if living is not None and project not in living:
            continue
        try:
            done.append(await work(project))
        except ApiError as error:
            observe(BackgroundWorkFailed(task=task, cause=error.code))
            if isinstance(error, DatabaseUnavailable) and worker.distribution != NONE:
                living = await living_projects(worker)
    return done


async def living_projects(worker: Database) -> frozenset[str]:
    """Return all projects but those of nodes that do not answer. Raises the database's errors."""
    async with worker.unscoped() as connection:
        return await _living(connection)


async def _living(connection: asyncpg.Connection) -> frozenset[str]:
    return frozenset(row["project_id"] for row in await connection.fetch(statement("list_projects_of_living_nodes")))
