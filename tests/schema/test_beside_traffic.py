"""``migrate`` keeps nobody waiting: locks are asked for a moment at a time, indexes of partitions are built beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from server.schema import migrate as module
from server.schema.migrate import Migration, MigrationError, load_migrations, migrate, pending_migrations
from tests.span_factory import make_span, store

INDEX = "CREATE INDEX probe ON llm_traces (project_id, lower(model) DESC) WHERE model IS NOT NULL"
STATE = """
SELECT i.indexrelid::regclass::text AS name, i.indisvalid AS is_valid, h.inhparent IS NOT NULL AS is_attached
FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
WHERE pg_get_indexdef(i.indexrelid) LIKE '%lower(model) DESC%'
"""
BUILDERS = "FROM pg_stat_activity WHERE query LIKE '% INDEX CONCURRENTLY%' AND pid <> pg_backend_pid()"
BUILDING = f"SELECT EXISTS (SELECT {BUILDERS})"
WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'scores'::regclass)"
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass"


def with_pending(sql: str) -> list[Migration]:
    return [*load_migrations(), Migration(9000, "9000_pending.sql", sql)]


@asynccontextmanager
async def in_a_transaction(url: str, statement: str) -> AsyncIterator[None]:
    """Somebody whose transaction with ``statement`` stays open meanwhile."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement)
    yield
    await transaction.rollback()
    await connection.close()


async def until(connection: asyncpg.Connection, query: str) -> None:
    async with asyncio.timeout(30):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.02)


async def test_an_index_of_partitions_keeps_no_writer_waiting_and_survives_an_interruption(
    services: object, project: object, owner: asyncpg.Connection, owner_url: str
) -> None:
    await project("alpha")  # type: ignore[operator]
    await store(services, "alpha", make_span())  # type: ignore[arg-type]
    part = await owner.fetchval("SELECT tableoid::regclass::text FROM llm_traces")
    for is_first in (True, False):
        async with in_a_transaction(owner_url, f"UPDATE {part} SET error_message = 'busy'"):
            work = asyncio.create_task(migrate(owner_url, migrations=with_pending(INDEX)))
            await until(owner, BUILDING)  # waits for that transaction
            assert await pending_migrations(owner, with_pending(INDEX)) == []
            async with asyncio.timeout(10):
                await store(services, "alpha", make_span())  # type: ignore[arg-type]
            if is_first:
                await owner.execute(f"SELECT pg_terminate_backend(pid) {BUILDERS}")
                with pytest.raises((MigrationError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                    await work
        if not is_first:
            await work
    rows = await owner.fetch(STATE)
    assert len(rows) == 1 + await owner.fetchval(PARTITIONS)
    assert all(row["is_valid"] for row in rows)
    assert [row["name"] for row in rows if not row["is_attached"]] == ["probe"]
    part = await owner.fetchval("SELECT ensure_trace_partition('2020-02-02Z')")
    indexes = await owner.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", part)
    assert any("lower(model)" in row[0] for row in indexes)


async def test_a_file_that_waits_for_a_reader_keeps_other_readers_waiting_only_for_moments(
    owner: asyncpg.Connection, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
    alter = with_pending("ALTER TABLE scores ADD COLUMN pending_a text")
    async with in_a_transaction(owner_url, "SELECT FROM scores"):
        work = asyncio.create_task(migrate(owner_url, migrations=alter))
        tries = 0
        while tries < 3 and not work.done():
            await until(owner, WAITING)
            begun = time.monotonic()
            await owner.fetch("SELECT FROM scores")
            assert time.monotonic() - begun < 10, "waited for as long as the reader who was first"
            tries += 1
        assert not work.done()
        assert not await owner.fetch("SELECT FROM schema_migrations WHERE number = 9000")
    assert await work == ["9000_pending.sql"]


async def test_a_file_that_does_not_get_its_locks_says_so_and_leaves_nothing(
    owner: asyncpg.Connection, owner_url: str
) -> None:
    async with in_a_transaction(owner_url, "SELECT FROM scores"):
        with pytest.raises(MigrationError, match=r"9000_pending.sql: .*others have held a table"):
            await migrate(owner_url, migrations=with_pending("ALTER TABLE scores ADD a text"), lock_timeout=0.0)
    assert not await owner.fetch("SELECT FROM schema_migrations WHERE number = 9000")
