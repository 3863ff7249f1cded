"""Connections end in time, whatever the server at their other end does."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from typing import Any

import asyncpg
import pytest

from server.distribution_settings import CITUS, NONE
from server.errors import QueryTimeout
from server.http.services import Services
from server.storage.database import Database
from server.storage.openings import BEGINNINGS, opening_of
from server.storage.row_scope import RowScope


async def test_a_frozen_postgresql_is_a_time_out_and_never_a_hang(database_url: str) -> None:
    """It cannot confirm that a query was cancelled, and a driver waits for that before it returns a connection."""
    database = open_database(database_url)
    await database.open()
    scope = RowScope(("alpha",))
    async with database.read(scope) as connection:
        backend = connection.get_server_pid()
    await end_of_reads(database)
    os.kill(backend, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(QueryTimeout):
            async with database.read(scope) as connection:
                await connection.fetchval("SELECT 1")
        assert time.monotonic() - started < 4
    finally:
        os.kill(backend, signal.SIGCONT)
    # Its slot in the pool of one is free for a new connection.
    async with database.read(scope) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await database.close()


async def test_a_read_is_over_for_its_caller_when_it_has_its_rows(database_url: str) -> None:
    """The end of the transaction is not waited for, and when it is never confirmed the connection is not used again."""
    database = open_database(database_url)
    await database.open()
    scope = RowScope(("alpha",))
    started = time.monotonic()
    async with database.read(scope) as connection:
        backend = connection.get_server_pid()
        assert await connection.fetchval("SELECT 1") == 1
        os.kill(backend, signal.SIGSTOP)
    assert time.monotonic() - started < 1
    try:
        async with database.read(scope) as connection:
            assert connection.get_server_pid() != backend
            assert await connection.fetchval("SHOW app.projects") == "alpha"
    finally:
        os.kill(backend, signal.SIGCONT)
    await database.close()


async def test_what_a_read_has_set_ends_with_it(database_url: str) -> None:
    """Projects and planner settings are those of one transaction: the next user of the connection has its own."""
    database = open_database(database_url)
    await database.open()
    async with database.read(RowScope(("alpha",)), follows_index=True) as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        assert await connection.fetchval("SHOW enable_seqscan") == "off"
        backend = connection.get_server_pid()
    async with database.read(RowScope(("beta",))) as connection:
        assert connection.get_server_pid() == backend
        assert await connection.fetchval("SHOW app.projects") == "beta"
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
        assert await connection.fetchval("SHOW enable_seqscan") == "on"
    async with database.plain() as connection:
        assert connection.get_server_pid() == backend
        assert await connection.fetchval("SELECT current_setting('app.projects', true)") == ""
    await database.close()


@pytest.mark.parametrize("way", ["plain", "read", "write"])
async def test_a_cancelled_statement_leaves_nothing_for_the_next_borrower(
    database_url: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancelled at any moment: while the connection is opened, the statement prepared or run, or the end awaited."""
    database = open_database(database_url)
    await database.open()
    argument: Any = {"plain": [], "read": [RowScope(("alpha",))], "write": [("alpha",)]}[way]

    async def borrow(number: int) -> None:
        async with getattr(database, way)(*argument) as connection:
            await connection.fetchval(f"SELECT {number} + $1::int", 1)  # a new text is prepared again
            await connection.fetchval(f"SELECT {number} + $1::bigint", 1)

    for number in range(120):
        task = asyncio.create_task(borrow(number))
        await asyncio.sleep(number % 40 * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with database.read(RowScope(("alpha",))) as connection:
            assert await connection.fetchval("SHOW app.projects") == "alpha"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    await database.close()


@pytest.mark.parametrize("distribution", [NONE, CITUS])
async def test_one_message_opens_a_transaction_on_every_engine(owner: asyncpg.Connection, distribution: str) -> None:
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
    await owner.execute(opening_of(begin, ("alpha", "beta"), distribution))
    assert await owner.fetchval("SHOW transaction_isolation") == "repeatable read"
    assert await owner.fetchval("SHOW transaction_read_only") == "on"
    assert await owner.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
    assert await owner.fetchval("SELECT visible_projects()") == ["alpha", "beta"]
    await owner.execute("COMMIT")
    assert await owner.fetchval("SHOW plan_cache_mode") == "auto"
    assert await owner.fetchval("SELECT visible_projects()") == [], "it was open for that transaction alone"
    with pytest.raises(ValueError, match="not a project id"):
        opening_of("BEGIN", ("x'; END; SELECT '",), distribution)


def test_nodes_get_the_projects_and_nothing_else_of_the_opening() -> None:
    """Citus hands on the whole message of a SET LOCAL, and a node could not begin once more."""
    message = opening_of("BEGIN; SET LOCAL plan_cache_mode = force_custom_plan", ("alpha",), CITUS)
    assert re.findall("SET LOCAL [^;]*", message) == ["SET LOCAL app.projects = 'alpha'"]
    begin, block = message.split("; ", 1)
    assert begin == "BEGIN"
    assert block.startswith("DO "), "statements of a block are texts of their own"


async def test_no_plan_is_searched_for_partitions_that_break_a_check(services: Services) -> None:
    """Ranges of time choose the partitions; nodes of a cluster have the setting from the role (test_spreading)."""
    for database in (services.reads, services.writes, services.worker):
        async with database.plain() as connection:
            assert await connection.fetchval("SHOW constraint_exclusion") == "off"


def test_citus_may_keep_the_plan_of_a_read_that_follows_an_index() -> None:
    """Its coordinator only names the node, which plans for the values and by its own settings."""
    assert "SET" in BEGINNINGS[NONE, True]
    assert "SET" not in BEGINNINGS[CITUS, True]
    assert BEGINNINGS[CITUS, False] == BEGINNINGS[NONE, False]


def open_database(url: str) -> Database:
    """Open a pool of one connection with short time-outs."""
    return Database(
        url,
        role="observatory_api",
        size=1,
        acquire_timeout=5,
        statement_timeout=0.1,
        application_name="frozen",
    )


async def end_of_reads(database: Database) -> None:
    """Wait until all connections are back in their pool."""
    pool = database.raw_pool
    assert pool is not None
    while pool.get_idle_size() < pool.get_size():
        await asyncio.sleep(0.01)
