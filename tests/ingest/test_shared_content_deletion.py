"""Deletion and retention with the layout ``shared``: what no span has any more goes, and tells nobody anything."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.writing.trace_deletion import delete_trace
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import Writer, counts, rows_of, search, talk

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")


async def test_deleting_a_trace_removes_what_no_other_span_has(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Looked for in everything that a dump would hold; earlier versions and spans that were refused included."""
    await project("alpha")
    writer = Writer(services)
    kept, gone = talk(3, 1), talk(3, 2, "hushhush")
    old = replace(gone[0], output_text="firstsecret", output_messages=None)
    newer = replace(gone[0], duration_ms=gone[0].duration_ms + 1000)
    for batch in ([old, *kept], [newer], [old], gone[1:]):
        await writer.store("alpha", batch)
    assert await found_in_dump(owner, "hushhush") == {"content_parts"}
    assert await found_in_dump(owner, "firstsecret") == {"content_parts"}
    before = await rows_of(services, "alpha", {"field": "trace_id", "operator": "eq", "value": kept[0].trace_id})
    assert await delete_trace(services.writes, services.freshness, "alpha", gone[0].trace_id) == 3
    assert await found_in_dump(owner, "hushhush") == set()
    assert await found_in_dump(owner, "firstsecret") == set()
    assert await owner.fetchval("SELECT count(*) FROM content_garbage") == 0
    assert await rows_of(services, "alpha") == before
    await writer.store("alpha", gone)
    assert len(await rows_of(services, "alpha", search("hushhush"))) == 3, "what was remembered as stored is forgotten"


async def found_in_dump(owner: asyncpg.Connection, text: str) -> set[str]:
    """Return the tables whose rows hold ``text``, as a dump writes them; partitions under the name of the whole."""
    found = set()
    tables = await owner.fetch(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    for (table,) in tables:
        if await owner.fetchval(f"SELECT true FROM {table} AS r WHERE r::text LIKE $1 LIMIT 1", f"%{text}%"):
            found.add(table.rpartition("_2")[0] or table)
    return found


async def test_a_deletion_and_a_writer_of_the_same_words_leave_no_hole(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writers = [Writer(services) for _ in range(2)]
    for round_number in range(6):
        spans = [replace(span, trace_id=f"{n:032x}", span_id=f"{n:016x}") for n in range(1, 5) for span in talk(1)]
        await writers[0].store("alpha", spans[:2])
        await asyncio.gather(
            delete_trace(services.writes, services.freshness, "alpha", spans[0].trace_id),
            delete_trace(services.writes, services.freshness, "alpha", spans[1].trace_id),
            writers[round_number % 2].store("alpha", spans[2:]),
        )
        rows = await rows_of(services, "alpha")
        assert [row["output_text"] for row in rows] == ["answer 0 of talk 0"] * 2
        for span in spans[2:]:
            await delete_trace(services.writes, services.freshness, "alpha", span.trace_id)
        assert await counts(owner) == (0, 0)


async def test_a_later_version_leaves_what_it_replaces_to_the_background_work(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    (span,) = talk(1)
    writer = Writer(services)
    await writer.store("alpha", [span])
    await writer.store("alpha", [replace(span, duration_ms=2000.0, output_text="other", output_messages=None)])
    assert await found_in_dump(owner, "answer 0") == {"content_parts"}
    assert await services.ingestion.unused_content.collect() > 0
    assert await found_in_dump(owner, "answer 0") == set()
    assert (await rows_of(services, "alpha"))[0]["output_text"] == "other"
    assert (await rows_of(services, "alpha"))[0]["input_messages"] == span.input_messages


async def test_equal_words_of_two_tenants_have_ids_that_tell_nothing(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    writer = Writer(services)
    for name in ("alpha", "beta"):
        await project(name)
        await writer.store(name, talk(2))
    ids = [
        {row[0] for row in await owner.fetch("SELECT part_id FROM content_parts WHERE project_id = $1", name)}
        for name in ("alpha", "beta")
    ]
    assert len(ids[0]) == len(ids[1]) == 5
    assert ids[0].isdisjoint(ids[1])
    async with services.writes.write(["alpha"]) as connection:
        assert await connection.fetchval("SELECT count(*) FROM content_parts") == 5
        assert await connection.fetchval("SELECT count(*) FROM content_keys") == 1


async def test_retention_drops_content_with_its_week(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    old = [replace(span, ts=span.ts - timedelta(weeks=3), trace_id=f"{9:032x}") for span in talk(2)]
    await Writer(services).store("alpha", [*old, *talk(2)])
    assert await counts(owner) == (10, 4), "each week has its own"
    await owner.fetch("SELECT drop_trace_partitions(now() - interval '10 days')")
    assert await counts(owner) == (5, 2)
    assert [row["output_text"] for row in await rows_of(services, "alpha")] == [span.output_text for span in talk(2)][
        ::-1
    ]


async def test_what_a_server_of_an_earlier_version_replaces_has_no_old_parts(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    (span,) = talk(1)
    await Writer(services).store("alpha", [span])
    await owner.execute("UPDATE llm_traces SET version = version + 1, input_text = NULL, output_text = 'newer'")
    (row,) = await rows_of(services, "alpha")
    assert (row["input_text"], row["input_messages"], row["output_text"]) == (None, None, "newer")
    assert await services.ingestion.unused_content.collect() == 3
    assert await counts(owner) == (0, 0)


async def test_a_project_that_is_made_again_has_another_key(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = Writer(services)
    await writer.store("alpha", talk(1, 1))
    await owner.execute("UPDATE projects SET deleted_at = now()")
    await owner.execute("SELECT purge_project('alpha')")
    assert await counts(owner) == (0, 0)
    await owner.execute("UPDATE projects SET deleted_at = NULL, purged_at = NULL")
    assert await writer.store("alpha", talk(1, 1)) == 1
    assert (await rows_of(services, "alpha"))[0]["input_text"] == talk(1, 1)[0].input_text
