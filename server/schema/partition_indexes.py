"""Indexes of partitioned tables, built partition by partition beside traffic.

``CREATE INDEX`` on a partitioned table keeps all writers waiting until the last partition is read. So a migration makes
the index of the parent alone, which takes no time, and the partitions get theirs after its COMMIT, with
``CONCURRENTLY``. Until all of them have one PostgreSQL calls the parent's invalid: an interrupted build is taken up by
the next ``migrate``, and queries use meanwhile what is there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import asyncpg

from server.schema.sql_statements import split_statements

Patiently = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs work that needs a strong lock for a moment, again until it gets it."""

_CREATE: Final = re.compile(r"\A((?:\s|--[^\n]*\n)*CREATE INDEX \w+ ON )(?!ONLY\b)(\w+)", re.IGNORECASE)
_HEAD: Final = re.compile(r"\ACREATE INDEX \S+ ON (?:ONLY )?\S+ ")

_PARTITIONED: Final = """
SELECT DISTINCT relname FROM pg_class JOIN pg_inherits ON inhparent = pg_class.oid
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'p'
"""

# The newest partition without an index that is attached to the parent's.
_MISSING: Final = """
SELECT top.indexrelid::regclass::text AS index, pg_get_indexdef(top.indexrelid) AS definition,
       part.inhrelid::regclass::text AS partition, own.name, own.place IS NOT NULL AS is_there,
       EXISTS (SELECT FROM pg_index WHERE indexrelid = own.place AND indisvalid) AS is_built
FROM pg_index top
JOIN pg_class top_class ON top_class.oid = top.indexrelid AND top_class.relkind = 'I'
JOIN pg_inherits part ON part.inhparent = top.indrelid AND NOT part.inhdetachpending
JOIN pg_class part_class ON part_class.oid = part.inhrelid
CROSS JOIN LATERAL (SELECT format('%I', left(part_class.relname || '_' || top_class.relname, 63)) AS name) AS named
CROSS JOIN LATERAL (SELECT named.name, to_regclass(named.name) AS place) AS own
WHERE NOT top.indisvalid AND top_class.relnamespace = current_schema()::regnamespace
  AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid
                  WHERE i.indrelid = part.inhrelid AND h.inhparent = top.indexrelid)
ORDER BY part.inhrelid DESC
LIMIT 1
"""
_BUILDER: Final = 0x6C6C6D70


async def without_partitions(connection: asyncpg.Connection, sql: str) -> str:
    """Return the migration ``sql`` with indexes of tables that have partitions already made for the parent alone."""
    statements = split_statements(sql)
    if not any(_CREATE.match(text) for text in statements):
        return sql
    partitioned = {row[0] for row in await connection.fetch(_PARTITIONED)}

    def alone(found: re.Match[str]) -> str:
        return f"{found[1]}ONLY {found[2]}" if found[2] in partitioned else found[0]

    return ";\n".join(_CREATE.sub(alone, text) for text in statements)


async def finish(connection: asyncpg.Connection, patiently: Patiently) -> list[str]:
    """Build what partitions lack, newest partition first, and return the names of the indexes.

    It takes as long as reading the partitions takes, and keeps nobody waiting. A process that comes while another one
    builds does nothing.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _BUILDER):
        return []
    built: list[str] = []
    while (missing := await connection.fetchrow(_MISSING)) is not None:
        try:
            if not missing["is_built"]:
                await _build(connection, missing)
            await patiently(partial(_attach, connection, missing))
        except asyncpg.UndefinedTableError:  # retention was faster
            if await connection.fetchval("SELECT to_regclass($1)", missing["partition"]) is not None:
                raise
            continue
        built.append(missing["name"])
    return built


async def _build(connection: asyncpg.Connection, missing: asyncpg.Record) -> None:
    if missing["is_there"]:  # left by a build that was interrupted
        await connection.execute(f"DROP INDEX CONCURRENTLY {missing['name']}")
    what = _HEAD.sub("", missing["definition"])
    await connection.execute(f"CREATE INDEX CONCURRENTLY {missing['name']} ON {missing['partition']} {what}")


async def _attach(connection: asyncpg.Connection, missing: asyncpg.Record) -> None:
    await connection.execute(f"ALTER INDEX {missing['index']} ATTACH PARTITION {missing['name']}")
