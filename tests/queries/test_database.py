"""Connections end in time, whatever the server at their other end does."""

from __future__ import annotations

import os
import signal
import time

import pytest

from server.database import Database
from server.errors import QueryTimeout
from server.queries.row_scope import RowScope


async def test_fp3_a_frozen_postgresql_is_a_time_out_and_never_a_hang(database_url: str) -> None:
    """It cannot confirm that a query was cancelled, which a driver that gives a connection back waits for."""
    database = Database(
        database_url,
        role="observatory_api",
        size=1,
        acquire_timeout=5,
        statement_timeout=0.1,
        application_name="frozen",
    )
    await database.open()
    scope = RowScope(("alpha",))
    async with database.read(scope) as connection:
        backend = connection.get_server_pid()
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
