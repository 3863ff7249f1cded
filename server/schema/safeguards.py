"""The parts of the schema that a dump does not carry, or that a restore may leave out; ``migrate`` puts them back.

pg_dump leaves out what belongs to the cluster: roles, and the marks on functions of PostgreSQL itself. pg_restore goes
on after a grant or a policy whose role is missing, and with ``--no-acl`` it leaves out all grants, which also opens to
everybody what was revoked from everybody. So each migration ends with a record of grants, policies and row-level
security as statements, and each begins by comparing it with what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncpg

ROLES: Final = ("observatory_api", "observatory_worker")

LEAKPROOF: Final = (
    "ts_match_vq(tsvector,tsquery)",
    "arrayoverlap(anyarray,anyarray)",
    "arraycontains(anyarray,anyarray)",
    "numeric_eq(numeric,numeric)",
    "numeric_lt(numeric,numeric)",
    "numeric_le(numeric,numeric)",
    "numeric_gt(numeric,numeric)",
    "numeric_ge(numeric,numeric)",
)
"""Functions of operators that row-level security would keep out of indexes (migration 0002)."""

STATISTICS_FROM_BYTES: Final = 1 << 20
"""A smaller partition is planned well enough without statistics."""

_RECORD: Final = "CREATE TABLE IF NOT EXISTS schema_safeguards (statement text PRIMARY KEY)"

# Each row is the statement that makes one thing what it is now.
_PRESENT: Final = """
WITH ours AS (SELECT oid FROM pg_roles WHERE rolname = ANY ($1)),
     relations AS (SELECT * FROM pg_class WHERE relnamespace = current_schema()::regnamespace),
     routines AS (SELECT * FROM pg_proc WHERE pronamespace = current_schema()::regnamespace)
SELECT format('GRANT %s ON %s %s TO %s', privilege_type, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
              oid::regclass, grantee::regrole)
FROM relations, aclexplode(relacl) WHERE grantee IN (SELECT oid FROM ours)
UNION ALL
SELECT format('GRANT %s (%I) ON TABLE %s TO %s', privilege_type, attname, attrelid::regclass, grantee::regrole)
FROM relations JOIN pg_attribute ON attrelid = oid, aclexplode(attacl) WHERE grantee IN (SELECT oid FROM ours)
UNION ALL
SELECT format('GRANT %s ON ROUTINE %s TO %s', privilege_type, oid::regprocedure, grantee::regrole)
FROM routines, aclexplode(proacl) WHERE grantee IN (SELECT oid FROM ours)
UNION ALL
SELECT format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', oid::regprocedure)
FROM routines WHERE proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)
UNION ALL
SELECT format('GRANT %s ON SCHEMA %s TO %s', privilege_type, oid::regnamespace, grantee::regrole)
FROM pg_namespace, aclexplode(nspacl)
WHERE oid = current_schema()::regnamespace AND grantee IN (SELECT oid FROM ours)
UNION ALL
SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', oid::regclass, how)
FROM relations, LATERAL (VALUES ('ENABLE', relrowsecurity), ('FORCE', relforcerowsecurity)) AS wall (how, is_so)
WHERE is_so
UNION ALL
SELECT format('CREATE POLICY %I ON %I.%I FOR %s TO %s USING (%s) WITH CHECK (%s)', policyname, schemaname, tablename,
              cmd, array_to_string(roles, ', '), qual, coalesce(with_check, 'true'))
FROM pg_policies WHERE schemaname = current_schema()
UNION ALL
SELECT format('ALTER FUNCTION %s LEAKPROOF', oid::regprocedure)
FROM pg_proc WHERE proleakproof AND oid = ANY ($2::text[]::regprocedure[])
"""

# Statements that must hold whatever the record says: a database of an older version has no record, and partitions come
# and go without one.
_ALWAYS: Final = """
SELECT format('ALTER FUNCTION %s LEAKPROOF', name::regprocedure) FROM unnest($1::text[]) AS name
UNION ALL
SELECT format('GRANT INSERT ON TABLE %s TO observatory_api', inhrelid::regclass)
FROM pg_inherits WHERE inhparent = to_regclass('llm_traces')
"""

_MAKE_ROLE: Final = "CREATE ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"

# The parent of the partitions has none: its plans use those of the partitions.
_WITHOUT_STATISTICS: Final = """
SELECT inhrelid::regclass::text
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent = to_regclass('llm_traces') AND pg_relation_size(c.oid) > $1
  AND NOT EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = c.relnamespace::regnamespace::text
                                           AND s.tablename = c.relname)
"""


async def restore(connection: asyncpg.Connection, warn: Callable[[str], None]) -> None:
    """Put back what a restore lost in a database that was migrated before; ``warn`` is told what."""
    await connection.execute(_RECORD)
    expected = {row[0] for row in await connection.fetch("SELECT statement FROM schema_safeguards")}
    if await connection.fetchval("SELECT to_regclass('llm_traces')") is None:
        return
    for role in ROLES:
        if await connection.fetchval("SELECT to_regrole($1)", role) is None:
            await _put_back(connection, _MAKE_ROLE.format(role), warn)
            await _put_back(connection, f"GRANT {role} TO CURRENT_USER", lambda _: None)
    expected |= {row[0] for row in await connection.fetch(_ALWAYS, list(LEAKPROOF))}
    for lost in sorted(expected - await _present(connection)):
        await _put_back(connection, lost, warn)
    for partition in await connection.fetch(_WITHOUT_STATISTICS, STATISTICS_FROM_BYTES):
        await _put_back(connection, f"ANALYZE {partition[0]}", warn)


async def record(connection: asyncpg.Connection) -> None:
    """Record the present roles and rights, after the migrations have run."""
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass('llm_traces')"
    names = {row[0] for row in await connection.fetch(partitions)}
    lasting = [line for line in await _present(connection) if not names.intersection(line.split())]
    async with connection.transaction():
        await connection.execute("DELETE FROM schema_safeguards")
        await connection.executemany("INSERT INTO schema_safeguards VALUES ($1)", [(line,) for line in lasting])


async def _present(connection: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await connection.fetch(_PRESENT, list(ROLES), list(LEAKPROOF))}


async def _put_back(connection: asyncpg.Connection, lost: str, warn: Callable[[str], None]) -> None:
    try:
        async with connection.transaction():
            await connection.execute(lost)
    except (asyncpg.UndefinedObjectError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError):
        return  # the object itself is gone
    except asyncpg.PostgresError as error:
        warn(f"missing, and only a superuser can put it back ({error}): {lost};")
    else:
        warn(f"was missing, as after a restore, and is put back: {lost};")
