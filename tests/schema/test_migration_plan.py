"""``migrate --plan`` names locks and work of each pending migration, and holds up nobody."""

from __future__ import annotations

import asyncpg
import pytest

from server.schema.migrate import Migration, MigrationError, load_migrations, migrate
from server.schema.migration_plan import PREFIX, lines, plan_migrations
from tests.span_factory import make_span, store

PENDING = {
    "ALTER TABLE scores ADD COLUMN plan_a text": {
        "scores": ("AccessExclusiveLock", "is altered, or read once to check it")
    },
    "ALTER TABLE scores ALTER COLUMN value TYPE numeric": {"scores": ("AccessExclusiveLock", "is rewritten")},
    "CREATE INDEX plan_c ON trace_summaries (project_id, root_span_name)": {
        "trace_summaries": ("ShareLock", "gets an index")
    },
    "UPDATE llm_traces SET provider = lower(provider); CREATE TABLE plan_d (a text)": {
        "llm_traces": ("RowExclusiveLock", "may change rows")
    },
    "CREATE TABLE plan_e (a text); CREATE FUNCTION plan_f() RETURNS integer LANGUAGE sql RETURN 1": {},
    "DROP TABLE budgets": {"budgets": ("AccessExclusiveLock", "is dropped")},
}


def with_pending(*sql: str) -> list[Migration]:
    return [*load_migrations(), *(Migration(9000 + n, f"9{n:03}_pending.sql", text) for n, text in enumerate(sql))]


async def test_each_pending_migration_is_told_with_its_locks_and_what_it_does(
    services: object, project: object, owner: asyncpg.Connection, owner_url: str
) -> None:
    await project("alpha")  # type: ignore[operator]
    await store(services, "alpha", [make_span() for _ in range(20)])  # type: ignore[arg-type]
    await owner.execute("ANALYZE")
    reader = owner.transaction()
    await reader.start()  # a plan that took a lock of its own would wait for this reader
    await owner.fetch("SELECT * FROM scores, llm_traces, trace_summaries, budgets")
    steps = await plan_migrations(owner_url, migrations=with_pending(*PENDING))
    await reader.rollback()
    assert [{item.table: (item.lock, item.work) for item in step.tables} for step in steps] == list(PENDING.values())
    (spans,) = steps[3].tables
    assert spans.rows == 20
    assert spans.size > 0
    told = lines(steps)
    assert told[0] == "9000_pending.sql: under a second"
    assert "AccessExclusiveLock: reads and writes wait" in told[1]
    left = await owner.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE $1", f"{PREFIX}%")
    assert left == []
    assert await owner.fetchval("SELECT max(number) FROM schema_migrations") == load_migrations()[-1].number


async def test_a_current_schema_has_an_empty_plan(owner_url: str) -> None:
    assert lines(await plan_migrations(owner_url)) == ["the schema is up to date"]


async def test_a_migration_that_fails_is_told_and_leaves_nothing(owner: asyncpg.Connection, owner_url: str) -> None:
    with pytest.raises(MigrationError, match=r"9000_pending\.sql, in an empty copy"):
        await plan_migrations(owner_url, migrations=with_pending("ALTER TABLE nothing ADD COLUMN a text"))
    assert not await owner.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE $1", f"{PREFIX}%")
    await migrate(owner_url)
