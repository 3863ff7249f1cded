"""Segments of words: put together in the background, and without the words of what was removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.writing import word_segments
from server.ingest.writing.trace_deletion import delete_trace
from server.ingest.writing.word_segments import LARGEST, clear_segments, due
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.word_lookup import KnownIds
from server.queries.lists.change_reader import Change, read_changed_spans
from server.queries.lists.feed_position import FeedPosition
from server.schema import migrate
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import START, Writer, rows_of, scope, search, segments_of, talk, words_in_parts

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")


async def test_segments_of_about_the_same_size_become_one(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = Writer(services)
    for number in range(8):
        await writer.store("alpha", talk(2, number))
    before = [await rows_of(services, "alpha", search(text)) for text in ("question 1", '"talk 3"', "answ* -1")]
    assert [len(rows) for rows in before] == [9, 2, 7]
    assert sorted(size for size, _ in await segments_of(owner)) == [4] * 7 + [5], "the system message is stored already"
    assert await services.ingestion.word_segments.join() == 8
    assert [size for size, _ in await segments_of(owner)] == [33]
    assert await services.ingestion.word_segments.join() == 0
    again = [await rows_of(services, "alpha", search(text)) for text in ("question 1", '"talk 3"', "answ* -1")]
    assert again == before


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([5] * 7, []),
        ([5] * 8, [8]),
        ([1] * 8 + [40] * 9, [8, 9]),
        ([LARGEST] * 20, []),
        ([LARGEST // 2] * 20, [2]),
        ([0] * 8, [8]),
    ],
)
def test_what_is_put_together(sizes: list[int], expected: list[int]) -> None:
    assert [len(members) for members in due(range(len(sizes)), sizes)] == expected


@pytest.mark.parametrize("joined", [False, True])
async def test_words_of_removed_parts_go_with_them(
    services: Services,
    project: ProjectMaker,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    *,
    joined: bool,
) -> None:
    monkeypatch.setattr(word_segments, "TOGETHER", 2)
    await project("alpha")
    writer = Writer(services)
    kept, gone = talk(3, 1), talk(3, 2, "hushhush")
    await writer.store("alpha", kept)
    await writer.store("alpha", gone)
    if joined:
        assert await services.ingestion.word_segments.join() == 2
    assert any("hushhush" in words for _, words in await segments_of(owner))
    await delete_trace(services.writes, services.freshness, "alpha", gone[0].trace_id)
    assert await rows_of(services, "alpha", search("hushhush")) == []
    assert await services.ingestion.word_segments.join() == 0
    left = await segments_of(owner)
    assert [size for size, _ in left] == [7]
    assert not any("hushhush" in words for _, words in left)
    assert await owner.fetchval("SELECT count(*) FROM content_words_garbage") == 0
    assert len(await rows_of(services, "alpha", search("question"))) == 3
    await writer.store("alpha", gone)
    assert len(await rows_of(services, "alpha", search("hushhush"))) == 3


async def test_a_part_that_was_stored_again_keeps_its_words(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Its note from the removal is worked off later."""
    await project("alpha")
    await Writer(services).store("alpha", talk(1))
    await owner.execute(
        "INSERT INTO content_words_garbage (project_id, week, part_id)"
        " SELECT project_id, week, part_id FROM content_parts"
    )
    assert await clear_segments(services.writes, "alpha") == 0
    assert len(await rows_of(services, "alpha", search("question"))) == 1
    assert await owner.fetchval("SELECT count(*) FROM content_words_garbage") == 0


async def test_words_of_another_project_are_not_found(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
    await Writer(services).store("alpha", talk(1, 1, "ours"))
    await Writer(services).store("beta", talk(1, 1, "theirs"))
    assert await rows_of(services, "alpha", search("theirs")) == []
    assert len(await rows_of(services, "alpha", search("ours"))) == 1
    everything = "SELECT * FROM word_blocks('{alpha,beta}', $1, $2, '{a}', '{z}')"
    window = START - timedelta(days=8), START + timedelta(days=8)
    async with services.writes.write(["alpha"]) as connection:
        assert {row["project_id"] for row in await connection.fetch(everything, *window)} == {"alpha"}


async def test_retention_drops_words_with_their_week(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    old = [replace(span, ts=span.ts - timedelta(weeks=3), trace_id=f"{9:032x}") for span in talk(2)]
    await Writer(services).store("alpha", [*old, *talk(2)])
    assert len(await segments_of(owner)) == 2
    await owner.fetch("SELECT drop_trace_partitions(now() - interval '10 days')")
    assert len(await segments_of(owner)) == 1


async def test_a_database_with_content_of_an_earlier_version_has_segments_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Until then a server of that version, which knows no segments, may serve beside this one."""
    script = (Path(migrate.__file__).parent / "0103_words_in_segments.sql").read_text()
    decision = script[script.index("DO $$") : script.index("END $$;") + len("END $$;")]
    await project("alpha")
    await words_in_parts(owner)
    await Writer(services).store("alpha", talk(1, 1))
    await owner.execute("DROP FUNCTION words_in_segments_from()")
    await owner.execute(decision)
    begins = await owner.fetchval("SELECT words_in_segments_from()")
    assert begins == await owner.fetchval("SELECT date_trunc('week', now(), 'UTC') + interval '7 days'")
    assert await owner.fetchval("SELECT to_regclass('content_parts_words') IS NOT NULL")
    await owner.execute("GRANT EXECUTE ON FUNCTION words_in_segments_from() TO observatory_api")
    later = [replace(span, ts=begins + timedelta(hours=1), trace_id=f"{9:032x}") for span in talk(1, 2)]
    await Writer(services).store("alpha", [*talk(1, 3), *later])
    assert len(await segments_of(owner)) == 1
    assert len(await rows_of(services, "alpha", search('"question 0"'))) == 3


async def test_a_change_is_compared_with_the_words_of_its_parts(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    spans = talk(2)
    await Writer(services).store("alpha", spans)
    changes = [Change("alpha", span.trace_id, span.span_id, span.ts, False, FeedPosition("")) for span in spans]
    filters = [parse_filter(search(text)) for text in ("question", '"question 1"', "nowhere")]
    async with services.reads.read(scope("alpha"), follows_index=True) as connection:
        found = await read_changed_spans(connection, scope("alpha"), ("span_id",), filters, changes)
    assert [span.matches for span in found] == [(0,), (0, 1)]


def test_the_ids_of_segments_that_were_not_asked_for_are_forgotten_first() -> None:
    known = KnownIds(most=40)
    known.keep(1, b"a" * 16)
    known.keep(2, b"b" * 16)
    assert known.get(1) == b"a" * 16
    known.keep(3, b"c" * 16)
    assert [known.get(number) is not None for number in (1, 2, 3)] == [True, False, True]
    known.keep(4, b"d" * 50)
    assert [known.get(number) is not None for number in (1, 3, 4)] == [False] * 3
