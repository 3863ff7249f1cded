"""Resource attributes once: spans have an id in their place, and nothing that is read shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.mapping.mapping_result import SpanUpdate
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.content_start import ALWAYS, NEVER, ContentStart
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.shared_content import SharedParts
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.facet_reader import FacetQuestion, read_facet
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import START, Writer, migrated_again, rows_of, scope, talk
from tests.ingest.test_shared_content_deletion import found_in_dump
from tests.span_factory import make_span

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")


def of(host: str, number: int, **more: Any) -> SpanRecord:
    """Return a span of trace ``number`` from a process on ``host``."""
    resource = {"host.name": host, "service.version": "1.2", "telemetry.sdk.name": "opentelemetry-for-tests"}
    values = {"ts": START + timedelta(seconds=number), "span_id": f"{number:016x}", "trace_id": f"{number:032x}"}
    return make_span(**{"resource_attributes": resource, **values, **more})


async def count(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM span_resources"))


async def test_the_resource_of_many_spans_is_stored_once(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    spans = [of(f"web-{number % 2}", number) for number in range(1, 21)]
    for server in (Writer(services), Writer(services)):
        await server.store("alpha", spans[:10])
        await server.store("alpha", spans[5:])
    assert await count(owner) == 2
    assert {row[0] for row in await owner.fetch("SELECT resource_attributes FROM llm_traces")} == {"{}"}
    stored = [row["resource_attributes"] for row in await rows_of(services, "alpha")]
    assert stored == [span.resource_attributes for span in reversed(spans)]


async def test_resources_that_were_just_shown_are_not_read_again(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    span = of("web-1", 1)
    await Writer(services).store("alpha", [span])
    question = ListQuestion(fields=("span_id", "resource_attributes"))
    first = (await list_spans(services.reads, scope("alpha"), question)).rows
    await owner.execute("DELETE FROM span_resources")
    again = (await list_spans(services.reads, scope("alpha"), question)).rows
    assert first == again == [{"span_id": span.span_id, "resource_attributes": span.resource_attributes}]


async def test_values_and_keys_of_resources_are_counted_wherever_they_are(
    services: Services, project: ProjectMaker
) -> None:
    await project("alpha")
    await Writer(services, "inline").store("alpha", [of("web-1", 1), of("web-2", 2)])
    await Writer(services).store("alpha", [of("web-2", 3), of("web-2", 4, resource_attributes={"host.name": "short"})])
    for field, expected in {
        "resource.host.name": {"web-2": 2, "web-1": 1, "short": 1},
        "resource_keys": {"host.name": 4, "service.version": 3, "telemetry.sdk.name": 3},
    }.items():
        question = FacetQuestion(field=field, start=START - timedelta(days=1), end=START + timedelta(days=1))
        answer = await read_facet(services.reads, scope("alpha"), question)
        assert {item["value"]: item["count"] for item in answer.values} == expected


async def test_deleting_a_trace_removes_the_resource_that_no_other_span_has(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = Writer(services)
    later = replace(of("hush-hush", 2), duration_ms=99_000.0)
    for batch in ([of("first-secret", 2), of("web-1", 1)], [later], [of("first-secret", 2)], [of("web-1", 3)]):
        await writer.store("alpha", batch)
    assert await found_in_dump(owner, "hush-hush") == {"span_resources"}
    assert await found_in_dump(owner, "first-secret") == {"span_resources"}
    assert await delete_trace(services.writes, services.freshness, "alpha", later.trace_id) == 1
    assert await delete_trace(services.writes, services.freshness, "alpha", of("web-1", 1).trace_id) == 1
    assert await found_in_dump(owner, "hush-hush") == set()
    assert await found_in_dump(owner, "first-secret") == set()
    assert await owner.fetchval("SELECT count(*) FROM resource_garbage") == 0
    assert [row["resource_attributes"]["host.name"] for row in await rows_of(services, "alpha")] == ["web-1"]
    await writer.store("alpha", [later])
    names = [row["resource_attributes"]["host.name"] for row in await rows_of(services, "alpha")]
    assert names == ["web-1", "hush-hush"], "what was remembered as stored is forgotten"


async def test_whether_a_resource_is_used_is_read_from_a_small_index(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Two thousand spans of four kilobytes: eight summaries, in one page."""
    await project("alpha")
    await Writer(services).store("alpha", [of("web-1", 1)])
    await owner.execute(
        "CREATE TEMP TABLE more AS SELECT t.* FROM llm_traces t CROSS JOIN generate_series(1, 2000);"
        " UPDATE more SET span_id = ctid::text, input_text = repeat('x', 4000), resource_id = gen_random_uuid();"
        " INSERT INTO llm_traces SELECT * FROM more; DROP TABLE more"
    )
    week = "date_trunc('week', ts, 'UTC')"
    part = await owner.fetchval("SELECT tableoid::regclass::text FROM llm_traces LIMIT 1")
    await owner.execute(f"VACUUM {part}")
    assert await owner.fetchval("SELECT pg_relation_size($1::text::regclass)", f"{part}_resource") <= 3 * 8192
    used = f"SELECT bool_and(resource_is_used({week}, resource_id)) FROM (SELECT * FROM llm_traces LIMIT 20) AS s"
    assert await owner.fetchval(used)
    assert not await owner.fetchval(f"SELECT resource_is_used({week}, gen_random_uuid()) FROM llm_traces LIMIT 1")


async def test_a_deletion_and_a_writer_of_the_same_resource_leave_no_hole(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writers = [Writer(services) for _ in range(2)]
    for number in range(8):
        await writers[0].store("alpha", [of("web-1", 1)])
        await asyncio.gather(
            delete_trace(services.writes, services.freshness, "alpha", of("web-1", 1).trace_id),
            writers[number % 2].store("alpha", [of("web-1", 2), talk(1, 5)[0]]),
        )
        rows = await rows_of(services, "alpha")
        assert [row["resource_attributes"] for row in rows if row["trace_id"] == of("web-1", 2).trace_id] == [
            of("web-1", 2).resource_attributes
        ]
        for trace_id in {row["trace_id"] for row in rows}:
            await delete_trace(services.writes, services.freshness, "alpha", trace_id)
        assert await count(owner) == 0


async def test_a_server_of_an_earlier_version_replaces_the_resource(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await Writer(services).store("alpha", [of("web-1", 1)])
    await owner.execute("UPDATE llm_traces SET version = version + 1, total_cost_usd = 1")
    assert (await rows_of(services, "alpha"))[0]["resource_attributes"]["host.name"] == "web-1"
    await owner.execute("""UPDATE llm_traces SET version = version + 1, resource_attributes = '{"host.name": "old"}'""")
    assert (await rows_of(services, "alpha"))[0]["resource_attributes"] == {"host.name": "old"}
    assert await services.ingestion.unused_content.collect() == 1
    assert await count(owner) == 0


async def test_retention_drops_resources_with_their_week(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await Writer(services).store("alpha", [of("web-1", 1, ts=START - timedelta(weeks=3)), of("web-1", 2)])
    assert await count(owner) == 2, "each week has its own"
    await owner.fetch("SELECT drop_trace_partitions(now() - interval '10 days')")
    assert await count(owner) == 1
    assert len(await rows_of(services, "alpha")) == 1


async def test_equal_resources_of_two_tenants_have_ids_that_tell_nothing(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
        await Writer(services).store(name, [of("web-1", 1)])
    assert await owner.fetchval("SELECT count(DISTINCT resource_id) FROM span_resources") == 2
    async with services.writes.write(["alpha"]) as connection:
        assert await connection.fetchval("SELECT count(*) FROM span_resources") == 1


async def test_a_project_with_very_many_resources_keeps_further_ones_in_the_spans(
    services: Services, project: ProjectMaker
) -> None:
    await project("alpha")
    shared = SharedParts(services.writes, full_text=True, most_resources=2)
    named = []
    for number in (1, 2, 3, 1, 4):
        span = prepare_span("alpha", of(f"web-{number}", number), resources_from=ALWAYS)
        batch = await shared.name([span])
        assert batch is not None
        batch.generations["alpha"] = 0
        shared.remember(batch)
        named.append(span.resource_id() is not None)
    assert named == [True, True, False, True, False]


async def test_a_database_of_an_earlier_version_shares_resources_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """With ``shared`` too: a server of the version before shows the parts of its spans, and no resources."""
    await project("alpha")
    await Writer(services, "inline").store("alpha", talk(1))
    monday = await migrated_again(owner, "0105_resources_once.sql", "shared_resources_begin")
    for layout, content in (("shared", ALWAYS), ("auto", ALWAYS), ("inline", NEVER)):
        start = ContentStart(layout, services.writes)
        await start.learn()
        assert (start.moment, start.resources) == (content, NEVER if layout == "inline" else monday)


async def test_a_log_record_about_a_span_leaves_its_resource(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    span = of("web-1", 1)
    await Writer(services).store("alpha", [span])
    update = SpanUpdate(ts=span.ts, trace_id=span.trace_id, span_id=span.span_id, columns={"user_id": "ann"})
    await services.ingestion.updates.take("alpha", [update])
    (row,) = await rows_of(services, "alpha")
    assert (row["user_id"], row["resource_attributes"]) == ("ann", span.resource_attributes)
