"""Of two transactions that wait for each other both are done in the end."""

from __future__ import annotations

import asyncio

import pytest

from server.errors import ApiError, DatabaseUnavailable
from server.http.services import Services
from server.storage.deadlocks import repeat_after_deadlock


async def test_two_transactions_that_wait_for_each_other_are_both_done(services: Services) -> None:
    meeting = asyncio.Barrier(2)
    begun = []

    async def lock(first: int, second: int) -> tuple[int, int]:
        begun.append(first)
        is_first_try = begun.count(first) == 1
        async with services.writes.write(["alpha"]) as connection:
            await connection.execute("SET LOCAL lock_timeout = '60s'")
            await connection.fetchval("SELECT pg_advisory_xact_lock($1)", first)
            if is_first_try:
                await meeting.wait()
            await connection.fetchval("SELECT pg_advisory_xact_lock($1)", second)
        return first, second

    done = await asyncio.gather(
        repeat_after_deadlock(lambda: lock(1, 2)),
        repeat_after_deadlock(lambda: lock(2, 1)),
    )
    assert list(done) == [(1, 2), (2, 1)]
    assert len(begun) > 2, "they did not meet"


async def test_other_errors_are_not_repeated() -> None:
    tries = []

    async def fail() -> None:
        tries.append(1)
        raise DatabaseUnavailable("gone") from OSError()

    with pytest.raises(ApiError):
        await repeat_after_deadlock(fail)
    assert tries == [1]
