"""Migrations: the same schema from every starting point, once whoever runs them, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from server.schema.migrate import Migration, MigrationError, load_migrations, migrate, pending_migrations
from tests.conftest import Cluster

# The parts of a schema, as text that can be compared; names of objects, never their ids.
STRUCTURE = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage::text,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')""",
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "policies": "SELECT tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies",
    "tables": """
        SELECT relname, relkind::text, relrowsecurity, relforcerowsecurity, relacl::text, reloptions::text
        FROM pg_class WHERE relnamespace = 'public'::regnamespace""",
}


@pytest.fixture
async def empty_database(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Makes databases without a schema; returns the owner's URL of a new one at each call."""
    admin = await asyncpg.connect(cluster.url("postgres", "owner_url"))
    made: list[str] = []

    async def make() -> str:
        name = f"empty_{abs(hash(request.node.nodeid)) % 10**8}_{len(made)}"
        await admin.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        made.append(name)
        return cluster.url(name, "owner_url")

    yield make
    for name in made:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def structure(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        return {
            part: sorted(str(tuple(row.values())) for row in await connection.fetch(query))
            for part, query in STRUCTURE.items()
        }
    finally:
        await connection.close()


async def test_an_empty_and_every_older_database_end_in_the_same_schema(empty_database: Any) -> None:
    everything = load_migrations()
    fresh = await empty_database()
    assert await migrate(fresh) == [migration.name for migration in everything]
    expected = await structure(fresh)
    assert expected["policies"], "the comparison sees policies"
    for count in range(1, len(everything)):
        older = await empty_database()
        await migrate(older, migrations=everything[:count])
        assert await migrate(older) == [migration.name for migration in everything[count:]]
        assert await structure(older) == expected, everything[count - 1].name
    assert await migrate(fresh) == []


async def test_partitions_that_are_there_already_note_their_copies_too(empty_database: Any) -> None:
    url = await empty_database()
    await migrate(url, migrations=[migration for migration in load_migrations() if migration.number < 12])
    owner = await asyncpg.connect(url)
    try:
        older = await owner.fetchval("SELECT ensure_trace_partition('2026-11-01Z')")
        await migrate(url)
        newer = await owner.fetchval("SELECT ensure_trace_partition('2026-11-24Z')")
        noted = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'note_copied_spans'"
        assert {row[0] for row in await owner.fetch(noted)} == {older, newer}
    finally:
        await owner.close()


async def test_any_number_of_processes_may_migrate_at_once(empty_database: Any) -> None:
    url = await empty_database()
    applied = await asyncio.gather(*(migrate(url) for _ in range(4)))
    names = [name for names in applied for name in names]
    assert sorted(names) == [migration.name for migration in load_migrations()]


async def test_a_file_that_changed_after_it_was_applied_is_refused(empty_database: Any) -> None:
    url = await empty_database()
    first, *_ = load_migrations()
    await migrate(url, migrations=[first])
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        await migrate(url, migrations=[replace(first, sql=first.sql + "\n-- another word")])


async def test_a_file_that_fails_leaves_nothing_behind(empty_database: Any) -> None:
    url = await empty_database()
    broken = Migration(1, "0001_broken.sql", "CREATE TABLE half (id int); SELECT no_such_function();")
    with pytest.raises(MigrationError, match="0001_broken"):
        await migrate(url, migrations=[broken])
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT to_regclass('half')") is None
        assert await pending_migrations(connection) == [migration.name for migration in load_migrations()]
    finally:
        await connection.close()


async def test_what_a_file_could_not_do_is_told_and_does_not_stop_it(empty_database: Any) -> None:
    told: list[str] = []
    careful = Migration(
        1, "0001_careful.sql", "DO $$ BEGIN RAISE NOTICE 'by the way'; RAISE WARNING 'ask for help'; END $$"
    )
    assert await migrate(await empty_database(), migrations=[careful], warn=told.append) == ["0001_careful.sql"]
    assert told == ["ask for help"]


async def test_every_table_with_a_project_has_its_wall(owner: asyncpg.Connection) -> None:
    """A new table with a project_id must call enable_project_isolation, or say here why not."""
    outside = {
        "projects",  # read before a scope exists
        "oauth_clients",
        "api_keys",
        "audit_log",
    }
    rows = await owner.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id'"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert {row["relname"] for row in rows} <= outside
