"""A connection to the database for a command, without a server in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import asyncpg

from server.access.audit import AuditEvent
from server.embedded.stores import Stores
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.database import Database
from server.storage.statements import statement
from server.terminal.output import CommandFailed, say

T = TypeVar("T")
ACTOR = "cli"
# Seconds per statement: a command may take long, but not forever.
STATEMENT_SECONDS = {"observatory_api": 30.0, "observatory_worker": 3600.0}


def administrate(
    environ: Mapping[str, str], work: Callable[[Database, Settings], Awaitable[T]], *, as_worker: bool = False
) -> T:
    """Run ``work`` on the configured database, or on the private one, which is started for this call; return its
    result.

    :param as_worker: use the role that sees every project's rows instead of the API's role.
    :raises CommandFailed: ``work`` raised a ValueError: the request is impossible.
    """
    stores = Stores(environ, announce=say, join=True)
    with stores as settings:
        if stores.are_private:
            asyncio.run(migrate(settings.owner_url, distribution=settings.database_distribution))
        try:
            return asyncio.run(_with_database(settings, work, as_worker))
        except ValueError as refusal:
            raise CommandFailed(str(refusal)) from refusal


async def _with_database(settings: Settings, work: Callable[[Database, Settings], Awaitable[T]], as_worker: bool) -> T:
    role = "observatory_worker" if as_worker else "observatory_api"
    database = Database(
        settings.worker_url if as_worker else settings.database_url,
        role=role,
        size=2,
        acquire_timeout=10.0,
        statement_timeout=STATEMENT_SECONDS[role],
        application_name="llm-observatory command",
        distribution=settings.database_distribution,
    )
    await database.open()
    try:
        return await work(database, settings)
    finally:
        await database.close()


def change(environ: Mapping[str, str], work: Callable[[asyncpg.Connection, Settings], Awaitable[T]]) -> T:
    """Run ``work`` in one transaction of the API role, and otherwise like :func:`administrate`."""

    async def in_transaction(database: Database, settings: Settings) -> T:
        async with database.write(()) as connection:
            return await work(connection, settings)

    return administrate(environ, in_transaction)


async def note(
    connection: asyncpg.Connection, action: str, target_type: str, target_id: str, projects: Iterable[str]
) -> None:
    """Record an action of the command line about ``projects`` in the audit log, in the same transaction."""
    event = AuditEvent(
        action=action,
        actor=ACTOR,
        actor_kind="cli",
        target_type=target_type,
        target_id=target_id,
        projects=tuple(projects),
    )
    await connection.execute(statement("insert_audit"), *event.row())
