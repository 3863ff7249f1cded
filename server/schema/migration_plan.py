"""The locks that pending migrations would take, and for about how long: measured in an empty copy of the schema.

The applied migrations are run in a schema of their own without rows, then the pending ones, one transaction each. Each
such transaction takes the same locks on the tables before it as the real one will. A table that is rewritten has
another file afterwards (``pg_relation_filenode``), and one that gets an index has one more. Nothing of the real schema
is locked. Times follow from the sizes of the real tables, at the rates below.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from server.schema.migrate import Migration, MigrationError, connected, load_migrations, pending_migrations

REWRITTEN_BYTES_PER_SECOND: Final = 50_000_000
INDEXED_ROWS_PER_SECOND: Final = 200_000
CHANGED_ROWS_PER_SECOND: Final = 50_000

BESIDE_TRAFFIC: Final = "is altered for a moment; its partitions get an index afterwards, beside traffic"

PREFIX: Final = "observatory_plan_"

STOPS: Final = {
    "AccessExclusiveLock": "reads and writes wait",
    "ExclusiveLock": "writes wait",
    "ShareRowExclusiveLock": "writes wait",
    "ShareLock": "writes wait",
    "RowExclusiveLock": "nobody waits, except for rows that it changes",
}
"""The meaning of each lock for others, strongest first; weaker locks stop nobody."""

_TABLES: Final = """
SELECT c.oid, c.relname AS name, pg_relation_filenode(c.oid) AS file, c.relkind = 'p' AS is_partitioned,
       ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = c.oid) AS indexes
FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p')
"""

_LOCKS: Final = """
SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = ANY ($1)
"""

# A partitioned table is as large as its partitions; reltuples is -1 while nothing is known.
_SIZES: Final = """
SELECT root.relname AS name, sum(pg_total_relation_size(part.oid))::bigint AS size,
       sum(greatest(part.reltuples, 0))::bigint AS rows
FROM pg_class root
JOIN LATERAL (SELECT relid AS oid FROM pg_partition_tree(root.oid) UNION SELECT root.oid) AS place ON true
JOIN pg_class part ON part.oid = place.oid AND part.relkind = 'r'
WHERE root.relnamespace = current_schema()::regnamespace AND root.relname = ANY ($1)
GROUP BY root.relname
"""


@dataclass(frozen=True, slots=True)
class TableStep:
    """The change that one migration makes to one existing table. ``seconds`` is an estimate."""

    table: str
    lock: str
    work: str
    rows: int
    size: int
    seconds: float

    @property
    def others(self) -> str:
        """The effect on others while the lock is held: until the migration's COMMIT."""
        return STOPS[self.lock]


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """One pending migration."""

    name: str
    tables: tuple[TableStep, ...]


async def plan_migrations(url: str, *, migrations: Sequence[Migration] | None = None) -> list[MigrationStep]:
    """Return what each pending migration would do to the database at ``url``; nothing there is changed or locked.

    ``migrations`` None: all of them. Raises :class:`MigrationError` if a migration fails in the copy, or the database
    does not answer.
    """
    files = load_migrations() if migrations is None else migrations
    async with connected(url) as connection:
        pending = await pending_migrations(connection, files)
        if not pending:
            return []
        async with _empty_copy(connection, [item for item in files if item.name not in pending]) as schema:
            found = [(item, await _rehearse(connection, schema, item)) for item in files if item.name in pending]
        names = sorted({table for _, tables in found for table in tables})
        sizes = {row["name"]: (row["rows"], row["size"]) for row in await connection.fetch(_SIZES, names)}
        return [
            MigrationStep(
                item.name,
                tuple(_step(name, *tables[name], *sizes.get(name, (0, 0))) for name in sorted(tables)),
            )
            for item, tables in found
        ]


def lines(steps: Sequence[MigrationStep]) -> list[str]:
    """Return the plan as text for a person."""
    if not steps:
        return ["the schema is up to date"]
    told = []
    for step in steps:
        total = sum(table.seconds for table in step.tables)
        told.append(f"{step.name}: about {total:.0f} s" if total >= 1 else f"{step.name}: under a second")
        told += [
            f"  {table.table} ({table.rows:,} rows, {table.size / 1e6:,.0f} MB): {table.work}; "
            f"{table.lock}: {table.others}"
            for table in step.tables
        ]
        if not step.tables:
            told.append("  touches nothing that is there")
    return told


def _step(name: str, lock: str, work: str, rows: int, size: int) -> TableStep:
    seconds = {
        "is rewritten": size / REWRITTEN_BYTES_PER_SECOND,
        "gets an index": rows / INDEXED_ROWS_PER_SECOND,
        BESIDE_TRAFFIC: rows / INDEXED_ROWS_PER_SECOND,
        "may change rows": rows / CHANGED_ROWS_PER_SECOND,
    }.get(work, 0.0)
    return TableStep(name, lock, work, rows, size, seconds)


@asynccontextmanager
async def _empty_copy(connection: asyncpg.Connection, applied: Sequence[Migration]) -> AsyncIterator[str]:
    schema = PREFIX + secrets.token_hex(4)
    before: str = await connection.fetchval("SHOW search_path")
    await connection.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}")
    try:
        for item in applied:
            await _run(connection, item)
        yield schema
    finally:
        await connection.execute("SELECT set_config('search_path', $1, false)", before)
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")


async def _rehearse(connection: asyncpg.Connection, schema: str, item: Migration) -> dict[str, tuple[str, str]]:
    """Run ``item`` in the copy; return lock and work by table."""
    before = {row["oid"]: row for row in await connection.fetch(_TABLES, schema)}
    async with connection.transaction():
        await _run(connection, item)
        held: dict[int, set[str]] = {}
        for row in await connection.fetch(_LOCKS, list(before)):
            held.setdefault(row["relation"], set()).add(row["mode"])
        after = {row["oid"]: row for row in await connection.fetch(_TABLES, schema)}
    found = {}
    for oid, modes in held.items():
        lock = next((mode for mode in STOPS if mode in modes), None)
        if lock is not None:
            found[before[oid]["name"]] = (lock, _work(before[oid], after.get(oid), lock))
    return found


def _work(before: asyncpg.Record, after: asyncpg.Record | None, lock: str) -> str:
    if after is None:
        return "is dropped"
    if after["file"] != before["file"]:
        return "is rewritten"
    if set(after["indexes"]) - set(before["indexes"]):
        return BESIDE_TRAFFIC if before["is_partitioned"] else "gets an index"
    if lock == "RowExclusiveLock":
        return "may change rows"
    return "is altered, or read once to check it"


async def _run(connection: asyncpg.Connection, item: Migration) -> None:
    try:
        await connection.execute(item.sql)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{item.name}, in an empty copy of the schema: {error}") from error
