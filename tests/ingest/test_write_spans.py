"""Storing spans: what is in the tables afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from server.errors import DatabaseUnavailable
from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.copy_rows import copy_rows
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import COLUMNS, UnstorableSpan, prepare_span
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.storage.living_nodes import EVERYWHERE
from server.storage.statements import statement
from tests.conftest import ProjectMaker
from tests.ingest.stored_state import counted_totals, everything, recomputed_summaries, stored_summaries
from tests.span_factory import make_span, store

CONFLICT_STATES = {"40P01", "40001", "55P03"}
"""55P03: a lock of somebody who waits in a deadlock himself, which takes a second to be found."""

notes_by_trigger = pytest.mark.one_postgresql("triggers note copied spans; partitions on nodes have none")

ALL_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 11,
    "total_tokens": 31,
    "cached_tokens": 7,
    "cache_write_tokens": 5,
    "reasoning_tokens": 3,
    "prompt_cost_usd": Decimal("0.00123456789"),
    "completion_cost_usd": Decimal("0.02"),
    "total_cost_usd": Decimal("0.02123456789"),
    "cache_savings_usd": Decimal("0.0004"),
}


async def test_a_span_becomes_a_row_with_its_summaries(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    span = make_span(session_id="s1", user_id="u1", total_tokens=30, prompt_tokens=20, completion_tokens=10)
    assert await store(services, "alpha", span) == 1
    row = await owner.fetchrow("SELECT * FROM llm_traces")
    assert row is not None
    assert row["ts"] == span.ts
    session = await owner.fetchrow("SELECT * FROM session_summaries")
    assert session is not None
    assert (session["trace_count"], session["user_id"], session["total_tokens"]) == (1, "u1", 30)
    user = await owner.fetchrow("SELECT * FROM user_summaries")
    assert user is not None
    assert (user["session_count"], user["trace_count"]) == (1, 1)


async def test_a_replay_changes_nothing(services: Services, project: ProjectMaker, owner: asyncpg.Connection) -> None:
    await project("alpha")
    spans = [make_span(session_id="s1", user_id="u1", total_tokens=30) for _ in range(5)]
    assert await store(services, "alpha", spans) == 5
    before = await everything(owner)
    for _ in range(10):
        assert await store(services, "alpha", spans) == 0
    assert await everything(owner) == before


async def test_the_same_batch_at_two_writers_at_once_is_stored_once(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    spans = [make_span(session_id="s1", user_id="u1", total_tokens=3, trace_id=f"{n % 7:032x}") for n in range(100)]
    stored = await asyncio.gather(*(store(services, "alpha", spans) for _ in range(4)))
    assert sum(stored) == 100
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))
    assert (await counted_totals(owner))["spans"] == 100


async def test_spans_that_another_server_stores_at_the_same_moment_are_stored_once(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """The trace is unknown when it is looked up, and there when the spans are copied into their partition."""
    await project("alpha")
    span = make_span(total_tokens=30)
    await store(services, "alpha", make_span())  # so that dimensions and partition are there
    async with owner.transaction():
        await owner.execute(
            """INSERT INTO llm_traces (project_id, ts, trace_id, span_id, span_name, span_kind, environment,
                   operation_type, is_generation, cost_source, duration_ms, status_code, dialect, dim_id, version)
               SELECT project_id, $1, $2, $3, 'first', span_kind, environment, operation_type, is_generation,
                      cost_source, 1, status_code, dialect, dim_id, 1 FROM llm_traces""",
            span.ts,
            span.trace_id,
            span.span_id,
        )
        storing = asyncio.create_task(store(services, "alpha", [make_span(), span]))
        await asyncio.sleep(0.3)
        assert not storing.done(), "it waits for who was first"
    assert await storing == 2
    names = await owner.fetch("SELECT span_name FROM llm_traces WHERE trace_id = $1", span.trace_id)
    assert [row[0] for row in names] == ["chat gpt-4o"], "the later end wins"


async def test_a_partition_that_may_not_be_written_directly_costs_speed_only(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await project("alpha")
    span = make_span()
    partition = await owner.fetchval("SELECT ensure_trace_partition($1)", span.ts)
    await owner.execute(f"REVOKE INSERT ON {partition} FROM observatory_api")
    writer = services.ingestion.writer
    for number in range(1, 4):
        assert await writer.store([prepare_span("alpha", make_span(ts=span.ts))]) == 1
        assert await owner.fetchval("SELECT count(*) FROM llm_traces") == number
    warnings = [record.message for record in caplog.records if "more slowly" in record.message]
    assert len(warnings) == 1


async def test_new_and_known_traces_of_several_projects_and_weeks_share_a_batch(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await project("beta")
    old = make_span(user_id="u1", session_id="s1", total_tokens=3)
    await store(services, "alpha", old)
    later = make_span(**(dataclasses.asdict(old) | {"duration_ms": old.duration_ms + 1, "total_tokens": 5}))
    week = timedelta(weeks=1)
    batch = [
        prepare_span("alpha", later),
        prepare_span("alpha", make_span(trace_id=old.trace_id, user_id="u1", session_id="s1", total_tokens=7)),
        prepare_span("alpha", make_span(ts=old.ts - week, user_id="u1", session_id="s1", total_tokens=11)),
        prepare_span("beta", make_span(trace_id=old.trace_id, span_id=old.span_id, total_tokens=13)),
        prepare_span("beta", make_span(ts=old.ts - 2 * week, input_text="größer", total_tokens=17)),
    ]
    assert await services.ingestion.writer.store(batch) == 5
    assert await services.ingestion.writer.store(batch) == 0
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert sorted((row["project_id"], row["total_tokens"]) for row in rows) == [
        ("alpha", 5), ("alpha", 7), ("alpha", 11), ("beta", 13), ("beta", 17),
    ]  # fmt: skip
    assert await stored_summaries(owner) == recomputed_summaries(rows)
    totals = await counted_totals(owner)
    assert (totals["spans"], totals["total_tokens"]) == (5, 53)


async def ready_for_copy(services: Services, owner: asyncpg.Connection, span: SpanRecord) -> tuple[str, list[Any]]:
    """Return the partition of ``span`` in project alpha, and its row."""
    partition: str = await owner.fetchval("SELECT ensure_trace_partition($1)", span.ts)
    prepared = prepare_span("alpha", span)
    await Dimensions(services.writes, most_combinations=10).intern([prepared])
    return partition, prepared.values


@notes_by_trigger
async def test_the_note_of_copied_spans_leaves_nothing_out(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Summaries and rollups are made of values that have the type and the value of the stored column."""
    await project("alpha")
    span = make_span(user_id="u1", session_id="s1", parent_span_id="ab" * 8, ttft_ms=3.5, **ALL_USAGE)
    partition, values = await ready_for_copy(services, owner, span)
    async with services.writes.write(["alpha"]) as connection:
        await ensure_change_tables(connection)
        await copy_rows(connection, partition, [values], columns=COLUMNS)
        columns = await connection.fetch(
            """SELECT c.attname AS name, format_type(c.atttypid, c.atttypmod) AS type,
                      format_type(t.atttypid, t.atttypmod) AS stored
               FROM pg_attribute c LEFT JOIN pg_attribute t
                 ON t.attrelid = 'llm_traces'::regclass AND t.attname = c.attname
               WHERE c.attrelid = 'pg_temp.span_changes'::regclass AND c.attnum > 0"""
        )
        change = dict((await connection.fetch("SELECT * FROM pg_temp.span_changes"))[0])
    assert (change.pop("pass"), change.pop("sign")) == (0, 1)
    assert all(column["type"] == column["stored"] for column in columns if column["name"] in change)
    stored = (await owner.fetch("SELECT * FROM llm_traces"))[0]
    assert change == {name: stored[name] for name in change}
    assert None not in change.values(), "each column is told from its neighbour"


@notes_by_trigger
async def test_a_partition_without_its_trigger_costs_speed_and_no_sum(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await project("alpha")
    span = make_span(user_id="u1", session_id="s1", total_tokens=30)
    partition = await owner.fetchval("SELECT ensure_trace_partition($1)", span.ts)
    await owner.execute(f"ALTER TABLE {partition} DISABLE TRIGGER note_copied_spans")
    writer = services.ingestion.writer
    assert await writer.store([prepare_span("alpha", span)]) == 1
    assert await writer.store([prepare_span("alpha", make_span(ts=span.ts))]) == 1
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))
    assert (await counted_totals(owner))["spans"] == 2
    warnings = [record.message for record in caplog.records if "more slowly" in record.message]
    assert len(warnings) == 1


async def test_a_server_of_an_earlier_version_sends_its_own_note(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """While servers are replaced one by one: nobody asked for the note on that server's connections."""
    await project("alpha")
    partition, values = await ready_for_copy(services, owner, make_span())
    async with services.writes.write(["alpha"]) as connection:
        await ensure_change_tables(connection)
        await connection.execute("RESET app.notes_copied_spans")
        await copy_rows(connection, partition, [values], columns=COLUMNS)
        assert await connection.fetchval("SELECT count(*) FROM pg_temp.span_changes") == 0


async def test_the_version_that_ends_later_wins_whatever_comes_first(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    early = make_span(duration_ms=10.0, total_tokens=1, output_text="started")
    late = make_span(
        ts=early.ts,
        trace_id=early.trace_id,
        span_id=early.span_id,
        duration_ms=20.0,
        total_tokens=5,
        output_text="done",
    )
    await store(services, "alpha", [early])
    await store(services, "alpha", [late])
    assert await store(services, "alpha", [early]) == 0
    rows = await owner.fetch("SELECT output_text, total_tokens FROM llm_traces")
    assert [tuple(row) for row in rows] == [("done", 5)]
    assert (await counted_totals(owner))["total_tokens"] == 5


async def test_of_two_versions_with_the_same_end_the_first_stays(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    first = make_span(output_text="first")
    second = make_span(ts=first.ts, trace_id=first.trace_id, span_id=first.span_id, output_text="second")
    await store(services, "alpha", first)
    await store(services, "alpha", second)
    assert await owner.fetchval("SELECT output_text FROM llm_traces") == "first"


async def test_a_later_version_with_another_start_time_does_not_become_a_second_row(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    first = make_span(duration_ms=10.0, total_tokens=1, session_id="s1")
    ids = {"trace_id": first.trace_id, "span_id": first.span_id, "session_id": "s1"}
    moved = make_span(ts=first.ts - timedelta(seconds=3), duration_ms=5000.0, total_tokens=7, **ids)
    await store(services, "alpha", first)
    await store(services, "alpha", moved)
    await store(services, "alpha", first)
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert [row["total_tokens"] for row in rows] == [7]
    assert await stored_summaries(owner) == recomputed_summaries(rows)
    totals = await counted_totals(owner)
    assert (totals["spans"], totals["traces"], totals["total_tokens"]) == (1, 1, 7)


async def test_two_writers_with_different_start_times_of_one_span_leave_one_row(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    for _ in range(5):
        first = make_span(duration_ms=10.0)
        other = make_span(
            ts=first.ts - timedelta(seconds=1), trace_id=first.trace_id, span_id=first.span_id, duration_ms=3000.0
        )
        await asyncio.gather(store(services, "alpha", first), store(services, "alpha", other))
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert [row["duration_ms"] for row in rows] == [3000.0] * 5
    assert await stored_summaries(owner) == recomputed_summaries(rows)


async def test_summaries_equal_the_raw_rows_after_a_random_history(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Stores, replays, later and moved versions, re-pricing and deletes, by four tasks at once."""
    chance = random.Random(20261123)
    for name in ("alpha", "beta"):
        await project(name)
    start = make_span().ts

    async def act(number: int) -> None:
        pick = random.Random(number)
        for _ in range(12):
            kind = pick.random()
            name = pick.choice(("alpha", "beta"))
            trace = f"{pick.randrange(12):032x}"
            if kind < 0.1:
                await delete_trace(services, name, trace)
                continue
            batch = [
                make_span(
                    trace_id=trace if pick.random() < 0.7 else f"{pick.randrange(12):032x}",
                    span_id=f"{pick.randrange(6):016x}",
                    parent_span_id=pick.choice((None, "00000000000000aa")),
                    span_name=f"step {pick.randrange(3)}",
                    ts=start + timedelta(milliseconds=pick.randrange(4) * 250),
                    duration_ms=float(pick.randrange(1, 2000)),
                    session_id=pick.choice((None, "s1", "s2", "s3")),
                    user_id=pick.choice((None, "u1", "u2")),
                    status_code=pick.choice(("OK", "ERROR")),
                    is_generation=pick.random() < 0.7,
                    prompt_tokens=pick.choice((None, pick.randrange(100))),
                    total_tokens=pick.choice((None, pick.randrange(100))),
                    total_cost_usd=pick.choice((None, Decimal(pick.randrange(1000)) / 7)),
                )
                for _ in range(pick.randrange(1, 8))
            ]
            await store_again_on_conflict(services, name, batch)

    await asyncio.gather(*(act(chance.randrange(1 << 30)) for _ in range(4)))
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert len({(row["project_id"], row["trace_id"], row["span_id"]) for row in rows}) == len(rows)
    assert await stored_summaries(owner) == recomputed_summaries(rows)
    pairs = await owner.fetchval("SELECT count(*) FROM user_sessions WHERE trace_count <= 0")
    assert pairs == 0
    totals = await counted_totals(owner)
    calls = [row for row in rows if row["is_generation"]]
    assert totals["spans"] == len(rows)
    assert totals["traces"] == sum(row["parent_span_id"] is None for row in rows)
    assert totals["total_tokens"] == sum(row["total_tokens"] or 0 for row in calls)
    assert totals["total_cost"] == sum(row["total_cost_usd"] or 0 for row in calls)


async def store_again_on_conflict(services: Services, name: str, batch: list[SpanRecord]) -> None:
    """Store a batch again on a conflict, as the group commit does."""
    while True:
        try:
            await store(services, name, batch)
            return
        except DatabaseUnavailable as error:
            if getattr(error.__cause__, "sqlstate", "") not in CONFLICT_STATES:
                raise


async def delete_trace(services: Services, name: str, trace_id: str) -> None:
    """Delete a trace through the protocol that all changes of spans use."""
    while True:
        try:
            async with services.writes.write([name]) as connection:
                await ensure_change_tables(connection)
                written = await connection.fetch(statement("delete_trace_spans"), name, [trace_id])
                if written:
                    await settle_span_changes(connection, spans_went=True)
            return
        except DatabaseUnavailable as error:
            if getattr(error.__cause__, "sqlstate", "") not in CONFLICT_STATES:
                raise


async def test_the_search_index_finds_words_of_input_and_output(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await store(services, "alpha", make_span(input_text="Where is the invoice?", output_text="東京都にあります"))
    for words in ("invoice", "京都"):
        found = await owner.fetchval(
            "SELECT count(*) FROM llm_traces WHERE search_vector @@ to_tsquery('simple', $1)", words
        )
        assert found == 1


@pytest.mark.parametrize(
    "change",
    [
        {"duration_ms": float("nan")},
        {"duration_ms": -0.1},
        {"ts": datetime(1999, 12, 31, tzinfo=UTC)},
        {"attributes": {"set": {1, 2}}},
        {"attributes": {"surrogate": "\ud800"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_encoded_is_found_before(change: dict[str, object]) -> None:
    with pytest.raises(UnstorableSpan):
        prepare_span("alpha", make_span(**change))


async def test_the_text_index_is_settled_beside_the_writers(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """New words wait in the pending list of the index until the upkeep moves them; both ways they are found."""
    await project("alpha")
    await store(services, "alpha", [make_span(input_text=f"heron{number} flies") for number in range(20)])
    query = "SELECT count(*) FROM llm_traces WHERE search_vector @@ to_tsquery('simple', 'flies')"
    await owner.execute("SET enable_seqscan = off")
    assert await owner.fetchval(query) == 20
    upkeep = services.ingestion.text_index
    assert await upkeep.settle() > 0
    assert await upkeep.settle() == 0
    assert await owner.fetchval(query) == 20


async def test_one_process_at_a_time_settles_the_text_index(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await store(services, "alpha", make_span(input_text="heron"))
    async with owner.transaction():
        await owner.fetchval("SELECT pg_advisory_xact_lock(hashtext('llm_traces text index'))")
        assert await services.ingestion.text_index.settle() == 0
    assert await services.ingestion.text_index.settle() > 0


@pytest.mark.one_postgresql("reads the plan of PostgreSQL, which nodes keep to themselves")
async def test_looking_for_held_updates_reads_no_spans_when_none_is_held(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """It is done every two seconds: what it costs must not grow with what is stored."""
    await project("alpha")
    await store(services, "alpha", [make_span(trace_id=f"{number % 20:032x}") for number in range(200)])
    sql = statement("list_held_span_updates").replace("{among}", EVERYWHERE)
    (plan,) = await owner.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
    nodes, scans = [json.loads(plan[0])[0]["Plan"]], {}
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node:
            scans[node["Relation Name"]] = node["Actual Loops"]
    assert scans.pop("span_updates") == 1
    assert scans
    assert not any(scans.values())
