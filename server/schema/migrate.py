"""Numbered migrations in ``server/schema``, applied in order.

Each file runs once, in order, in a transaction of its own, under an advisory lock, so that any number of processes may
start at the same time. The checksum of every applied file is kept, and a file that changed afterwards is refused,
because otherwise two installations would differ silently.

Servers go on meanwhile. Whoever waits for a lock of a table keeps all those waiting who come later, so a file that does
not get its locks within a moment is rolled back and tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import asyncpg

from server.distribution_settings import NONE
from server.schema import partition_indexes, safeguards
from server.schema.distribution import DistributionError, distribute
from server.schema.sql_statements import split_statements

logger = logging.getLogger("observatory.migrate")

MINIMUM_SERVER_VERSION = 180000
_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK_KEY = 0x6C6C6D6F
QUEUE_SECONDS = 0.3
"""Time that a file waits for a lock, and so keeps others waiting, before it is tried again."""
PAUSE_SECONDS = 0.7

_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The schema cannot be brought up to date."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``server/schema``."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """Return all migrations in order. Raises :class:`MigrationError` if a number is used twice."""
    found: dict[int, Migration] = {}
    for entry in files("server.schema").iterdir():
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise MigrationError(f"two migrations have the number {number}")
        found[number] = Migration(number, entry.name, entry.read_text(encoding="utf-8"))
    return [found[number] for number in sorted(found)]


async def migrate(
    url: str,
    *,
    distribution: str = NONE,
    migrations: Sequence[Migration] | None = None,
    lock_timeout: float = 30.0,
    warn: Callable[[str], None] = logger.warning,
) -> list[str]:
    """Bring the database at ``url`` up to date; return the names of the files that were applied.

    Roles and rights that a restore has lost are put back first (:mod:`server.schema.safeguards`). ``distribution``: how
    tables are spread over nodes, afterwards (:mod:`server.schema.distribution`). ``migrations`` None: all of them.
    ``lock_timeout``: seconds for which a file is tried again while others hold locks that it needs. ``warn`` receives a
    sentence for each thing that was put back, and for each optional step that failed.

    Raises :class:`MigrationError` if nothing answers at ``url``, the server is too old, a file changed after it was
    applied, or a statement fails (then nothing of that file remains); asyncpg's errors if the database refuses the
    login.
    """
    async with connected(url) as connection:
        connection.add_log_listener(lambda _, message: warn(message.message) if message.severity == "WARNING" else None)
        version = int(await connection.fetchval("SHOW server_version_num"))
        if version < MINIMUM_SERVER_VERSION:
            raise MigrationError(
                "PostgreSQL 18 or newer is needed (RETURNING old/new keeps the rollups exact), "
                f"this is {version // 10000}"
            )
        await connection.execute("SET TIME ZONE 'UTC'")
        await connection.execute(f"SET lock_timeout = '{int(lock_timeout * 1000)}ms'")
        async with asyncio.timeout(lock_timeout + 300):
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
            await safeguards.restore(connection, warn)
            files = load_migrations() if migrations is None else migrations
            done = await _apply_pending(connection, files, apart=distribution != NONE, patience=lock_timeout)
            try:
                await distribute(connection, distribution)
            except (DistributionError, asyncpg.PostgresError) as error:
                raise MigrationError(f"spreading the tables: {error}") from error
            await safeguards.record(connection)
        if distribution == NONE:
            # A concurrent build waits for whoever has an older snapshot: nobody may wait for this connection then.
            await connection.execute("SELECT pg_advisory_unlock_all(); SET lock_timeout = 0")
            attach = partial(_patiently, connection, patience=lock_timeout, what="an index of partitions")
            try:
                await partition_indexes.finish(connection, attach)
            except asyncpg.PostgresError as error:
                raise MigrationError(f"an index of partitions: {error}: the next migrate goes on with it") from error
        return done


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection to the database at ``url``. Raises :class:`MigrationError` if nothing answers."""
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except OSError as failure:  # includes TimeoutError
        reason = failure.strerror or str(failure) or "no answer within 10 s"
        raise MigrationError(
            f"the database cannot be reached ({reason}): look at DATABASE_OWNER_URL, else at DATABASE_URL"
        ) from failure
    try:
        yield connection
    finally:
        await connection.close()


async def pending_migrations(
    connection: asyncpg.Connection, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Return the names of the files that ``connection``'s database has not seen yet; ``migrations`` None: of all."""
    files = load_migrations() if migrations is None else migrations
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return [migration.name for migration in files]
    applied = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
    return [migration.name for migration in files if migration.number not in applied]


async def _apply_pending(
    connection: asyncpg.Connection, migrations: Sequence[Migration], *, apart: bool, patience: float
) -> list[str]:
    await connection.execute(_HISTORY)
    await _open_history_for_reading(connection)
    rows = await connection.fetch("SELECT number, checksum FROM schema_migrations")
    applied = {row["number"]: row["checksum"] for row in rows}
    done: list[str] = []
    for migration in migrations:
        if migration.number in applied:
            if applied[migration.number] != migration.checksum:
                raise MigrationError(
                    f"{migration.name} was changed after it was applied to this database: "
                    "go back to the version that made it, or begin with an empty database"
                )
            continue
        sql = migration.sql if apart else await partition_indexes.without_partitions(connection, migration.sql)

        async def apply(migration: Migration = migration, sql: str = sql) -> None:
            for text in split_statements(sql) if apart else (sql,):
                await connection.execute(text)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )

        await _patiently(connection, apply, patience=patience, what=migration.name)
        done.append(migration.name)
    await _open_history_for_reading(connection)
    return done


async def _patiently(
    connection: asyncpg.Connection, work: Callable[[], Awaitable[None]], *, patience: float, what: str
) -> None:
    """Do ``work`` in a transaction, again while somebody holds a lock that it needs."""
    deadline = time.monotonic() + patience
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{int(QUEUE_SECONDS * 1000)}ms'")
                await work()
                return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"{what}: {error}: others have held a table for {patience:.0f} s; end the longest transactions of "
                    "pg_stat_activity, or try again when there are none"
                ) from error
            await asyncio.sleep(PAUSE_SECONDS)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"{what}: {error}") from error


async def _open_history_for_reading(connection: asyncpg.Connection) -> None:
    # Readiness compares the history with the files; the role exists once migration 1 has run.
    await connection.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'observatory_api') THEN
                GRANT SELECT ON schema_migrations TO observatory_api, observatory_worker;
            END IF;
        END $$
        """
    )
