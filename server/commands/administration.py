"""What the commands do in the database, without a server in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from server.commands.terminal import CommandFailed, say
from server.database import PROJECT_ID, Database
from server.queries.statements import statement
from server.schema.migrate import migrate
from server.stores import Stores

T = TypeVar("T")


def administrate(environ: Mapping[str, str], work: Callable[[Database], Awaitable[T]]) -> T:
    """The result of ``work`` on the database of the settings: one that runs, or the private one for a moment."""
    stores = Stores(environ, announce=say, join=True)
    with stores as settings:
        if stores.are_private:
            asyncio.run(migrate(settings.owner_url))

        async def run() -> T:
            database = Database(
                settings.database_url,
                role="observatory_api",
                size=1,
                acquire_timeout=10.0,
                statement_timeout=30.0,
                application_name="llm-observatory command",
            )
            await database.open()
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(run())


async def create_project(database: Database, project_id: str, name: str | None) -> bool:
    """Makes a project; False when the id was ever used.

    :raises CommandFailed: the id is not usable.
    """
    if not PROJECT_ID.fullmatch(project_id):
        raise CommandFailed(f"{project_id!r} is no project id: use lower-case letters, digits, - and _, at most 63")
    async with database.plain() as connection:
        return await connection.fetchval(statement("create_project"), project_id, name or project_id) is not None


async def list_projects(database: Database) -> list[tuple[str, str]]:
    """Id and name of every live project, by id."""
    async with database.plain() as connection:
        rows = await connection.fetch(statement("list_projects"), None)
    return [(row["project_id"], row["name"]) for row in rows]
