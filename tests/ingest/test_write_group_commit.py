"""Group commit: who shares a transaction, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from server.errors import DatabaseUnavailable, Overloaded, ShareExhausted
from server.http.services import Services
from server.ingest.writing.dimensions import OTHER, Dimensions
from server.ingest.writing.group_commit import GroupCommit
from server.ingest.writing.prepared_span import COLUMNS, DIMENSIONS, PreparedSpan, prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.settings import Settings
from server.storage.database import Database
from tests.conftest import ProjectMaker
from tests.span_factory import make_span

CommitMaker = Callable[..., GroupCommit]


@pytest.fixture
async def group_commit(services: Services) -> AsyncIterator[CommitMaker]:
    """Makes group commits on the test's database; all are closed after the test."""
    made: list[GroupCommit] = []

    def make(**limits: Any) -> GroupCommit:
        writer = SpanWriter(services.writes, Dimensions(services.writes, most_combinations=1000), None)
        values = {"writers": 2, "most_pending_rows": 5000, "most_pending_bytes": 50_000_000} | limits
        made.append(GroupCommit(writer, **values))
        return made[-1]

    yield make
    for commits in made:
        await commits.close()


def prepared(count: int, **overrides: Any) -> list[PreparedSpan]:
    return [prepare_span("alpha", make_span(**overrides)) for _ in range(count)]


def poison(span: PreparedSpan) -> PreparedSpan:
    """Return ``span`` with a value that passes every check of ours and that PostgreSQL refuses."""
    span.values[COLUMNS.index("attributes")] = '{"a": "\\u0000"}'
    return span


async def test_many_small_requests_share_transactions(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit()
    await asyncio.gather(*(commits.submit(prepared(1)) for _ in range(300)))
    stored = await owner.fetchrow("SELECT count(*), count(DISTINCT xmin::text) AS commits FROM llm_traces")
    assert stored is not None
    assert stored["count"] == 300
    assert stored["commits"] < 30
    assert (commits.pending_rows, commits.pending_bytes) == (0, 0)


async def test_a_second_writer_helps_only_where_much_waits(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Two small transactions cost more than one larger: 300 rows that come during a commit are the next one's."""
    await project("alpha")
    commits = group_commit()
    first = asyncio.create_task(commits.submit(prepared(100)))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(commits.submit(prepared(30))) for _ in range(10)]
    await asyncio.gather(first, *rest)
    count = "SELECT count(DISTINCT xmin::text) FROM llm_traces"
    assert await owner.fetchval(count) == 2
    await asyncio.gather(*(commits.submit(prepared(500)) for _ in range(3)))
    # A thousand rows are what one transaction takes; the second writer takes the others meanwhile.
    assert await owner.fetchval(count) == 4


async def test_of_a_poisoned_batch_only_the_bad_rows_are_missing(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit(writers=1)
    requests = [prepared(20) for _ in range(20)]
    bad = [requests[3][5], requests[3][6], requests[17][0]]
    for span in bad:
        poison(span)
    answers = await asyncio.gather(*(commits.submit(spans) for spans in requests))
    assert [len(refusals) for refusals in answers] == [0] * 3 + [2] + [0] * 13 + [1] + [0] * 2
    assert all("SQLSTATE 22P05" in refusal.reason for refusals in answers for refusal in refusals)
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 397


async def test_a_value_that_the_driver_cannot_encode_costs_only_its_own_row(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    spans = prepared(9)
    for place, value in ((1, 2**70), (4, "text"), (7, "\ud800")):
        column = "output_text" if isinstance(value, str) and value != "text" else "total_tokens"
        spans[place].values[COLUMNS.index(column)] = value
    refusals = await group_commit().submit(spans)
    assert {id(refusal.span) for refusal in refusals} == {id(spans[place]) for place in (1, 4, 7)}
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"total_cost_usd": Decimal("NaN")}, "total_cost_usd must be between 0 and 1000000000"),
        ({"total_cost_usd": Decimal("Infinity")}, "total_cost_usd must be between 0 and 1000000000"),
        ({"completion_cost_usd": Decimal(-1)}, "completion_cost_usd must be between 0 and 1000000000"),
        ({"prompt_tokens": -1}, "prompt_tokens must be between 0 and 1000000000000"),
        ({"total_tokens": 2**63}, "total_tokens must be between 0 and 2000000000000"),
        ({"ttft_ms": float("nan")}, "ttft_ms must be between 0 and 1000000000000"),
        ({"session_id": "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))}, "session_id is longer than 512 characters"),
        ({"span_name": "a\0b"}, "a text contains a NUL character"),
        ({"trace_id": ""}, "trace_id must be 1 to 64 characters long"),
        ({"span_id": "f" * 65}, "span_id must be 1 to 64 characters long"),
        ({"cost_source": "guessed"}, "the database refuses a value (SQLSTATE 23514)"),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
async def test_what_postgresql_refuses_costs_only_its_own_row_and_the_reason_is_said(
    group_commit: CommitMaker,
    project: ProjectMaker,
    owner: asyncpg.Connection,
    change: dict[str, Any],
    reason: str,
) -> None:
    await project("alpha")
    bad = prepared(1, **change)
    commits = group_commit()
    requests = [prepared(3), [*prepared(2), *bad, *prepared(2)], prepared(3)]
    answers = await asyncio.gather(*map(commits.submit, requests))
    assert [[refusal.reason for refusal in refusals] for refusals in answers] == [[], [reason], []]
    assert answers[1][0].span is bad[0]
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 10


async def test_what_a_client_sent_before_it_went_away_is_durable(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit()
    waiting = [asyncio.create_task(commits.submit(prepared(2))) for _ in range(100)]
    await asyncio.sleep(0.004)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await commits.close()
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 200


async def test_a_project_cannot_fill_what_may_wait(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit(most_pending_rows=100)
    results = await asyncio.gather(*(commits.submit(prepared(30)) for _ in range(10)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ShareExhausted)]
    assert len(refused) == 8
    assert refused[0].headers["Retry-After"] == "1"
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 60
    assert await commits.submit(prepared(30)) == []


async def test_after_close_nothing_more_is_taken(group_commit: CommitMaker, project: ProjectMaker) -> None:
    await project("alpha")
    commits = group_commit()
    await commits.close()
    with pytest.raises(Overloaded):
        await commits.submit(prepared(1))


async def test_backends_killed_at_any_moment_cost_no_row_and_no_hang(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Backends of the writers are ended while COPY, INSERT or COMMIT run."""
    await project("alpha")
    commits = group_commit()
    acknowledged = 0
    killing = True

    async def kill() -> None:
        while killing:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'llm-observatory writes' AND datname = current_database()"
            )
            await asyncio.sleep(0.3)

    async def send() -> int:
        done = 0
        for _ in range(8):
            spans = prepared(40, input_text="word " * 400)
            while True:
                try:
                    async with asyncio.timeout(10):
                        await commits.submit(spans)
                except DatabaseUnavailable:
                    continue
                done += len(spans)
                break
        return done

    killer = asyncio.create_task(kill())
    acknowledged = sum(await asyncio.gather(*(send() for _ in range(4))))
    killing = False
    await killer
    assert acknowledged == 4 * 8 * 40
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == acknowledged


async def test_a_read_only_database_is_database_unavailable(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection, database_name: str
) -> None:
    await project("alpha")
    await owner.execute(f"ALTER DATABASE {database_name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable):
        await group_commit().submit(prepared(1))


async def test_a_partition_that_retention_dropped_is_made_again(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit()
    first = prepared(1)
    await commits.submit(first)
    part = await owner.fetchval("SELECT ensure_trace_partition(ts) FROM llm_traces")
    await owner.execute(f"DROP TABLE {part}")
    assert await commits.submit(prepared(2)) == []
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 2


async def test_past_the_limit_new_combinations_lose_their_open_ended_values(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = SpanWriter(services.writes, Dimensions(services.writes, most_combinations=10), None)
    for start in range(0, 60, 10):
        await writer.store(
            [prepare_span("alpha", make_span(agent_name=f"agent {n}", model=f"m{n}")) for n in range(start, start + 10)]
        )
    rows = await owner.fetch("SELECT agent_name, model FROM span_dimensions")
    assert len(rows) < 30
    assert OTHER in {row["agent_name"] for row in rows}
    assert await owner.fetchval("SELECT count(DISTINCT agent_name) FROM llm_traces") == 60


async def test_values_too_long_for_an_index_key_are_shortened_in_dimensions_only(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = SpanWriter(services.writes, Dimensions(services.writes, most_combinations=10), None)
    names = dict.fromkeys(set(DIMENSIONS) - {"status_code", "is_generation"}, "長" * 400)
    assert await writer.store([prepare_span("alpha", make_span(**names))]) == 1
    assert len(await owner.fetchval("SELECT agent_name FROM llm_traces")) == 400


async def test_two_processes_intern_the_same_combination_as_the_same_number(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    interners = [Dimensions(services.writes, most_combinations=100) for _ in range(4)]
    batches = [[prepare_span("alpha", make_span(agent_name=f"a{n}")) for n in range(5)] for _ in interners]
    await asyncio.gather(*(one.intern(spans) for one, spans in zip(interners, batches, strict=True)))
    numbers = {tuple(span.values[-1] for span in spans) for spans in batches}
    assert len(numbers) == 1
    assert await owner.fetchval("SELECT count(*) FROM span_dimensions") == 5


async def test_a_lock_that_is_held_for_long_is_503_within_seconds_and_a_short_one_is_waited_for(
    group_commit: CommitMaker, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    commits = group_commit()
    await commits.submit(prepared(1))
    async with owner.transaction():
        await owner.execute("LOCK TABLE trace_summaries IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(6):
            with pytest.raises(DatabaseUnavailable):
                await commits.submit(prepared(1))
    async with owner.transaction():
        await owner.execute("LOCK TABLE trace_summaries IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(commits.submit(prepared(1)))
        await asyncio.sleep(1.2)
    assert await waiting == []


@pytest.mark.one_postgresql("half a second is too short for the first statement through a coordinator")
async def test_a_frozen_postgresql_is_an_answer_after_one_time_out(
    settings: Settings, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """No second try: its other connections are frozen too, and a sender waits 10 seconds by default."""
    await project("alpha")
    database = Database(
        settings.database_url, role="observatory_api", size=2, acquire_timeout=1, statement_timeout=0.5,
        application_name="frozen",
    )  # fmt: skip
    await database.open()
    commits = GroupCommit(
        SpanWriter(database, Dimensions(database, most_combinations=1000), None),
        writers=1, most_pending_rows=5000, most_pending_bytes=50_000_000,
    )  # fmt: skip
    await commits.submit(prepared(1))
    query = (
        "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'frozen' AND datname = current_database()"
    )
    backends = await owner.fetchval(query)
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await commits.submit(prepared(1))
        assert time.monotonic() - started < 4
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)
    assert await commits.submit(prepared(1)) == []
    await commits.close()
    await database.close()
