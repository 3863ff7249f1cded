"""A connection to the database for a command, without a server in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import asyncpg

from server.access.audit import AuditEvent
from server.commands.terminal import CommandFailed, say
from server.database import Database
from server.queries.statements import statement
from server.schema.migrate import migrate
from server.settings import Settings
from server.stores import Stores

T = TypeVar("T")
ACTOR = "cli"


def administrate(environ: Mapping[str, str], work: Callable[[asyncpg.Connection, Settings], Awaitable[T]]) -> T:
    """The result of ``work`` in one transaction: on the running services, or the private ones for a moment.

    :raises CommandFailed: what was asked cannot be (a ValueError of ``work``).
    """
    stores = Stores(environ, announce=say, join=True)
    with stores as settings:
        if stores.are_private:
            asyncio.run(migrate(settings.owner_url))
        try:
            return asyncio.run(_in_transaction(settings, work))
        except ValueError as refusal:
            raise CommandFailed(str(refusal)) from refusal


async def _in_transaction(settings: Settings, work: Callable[[asyncpg.Connection, Settings], Awaitable[T]]) -> T:
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
        async with database.write(()) as connection:
            return await work(connection, settings)
    finally:
        await database.close()


async def note(connection: asyncpg.Connection, action: str, target_type: str, target_id: str) -> None:
    """Writes into the audit log that the command line did something, in the same transaction."""
    await connection.execute(
        statement("insert_audit"),
        *AuditEvent(action=action, actor=ACTOR, actor_kind="cli", target_type=target_type, target_id=target_id).row(),
    )
