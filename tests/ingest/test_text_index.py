"""When the pending list of the text index is settled, and what that does."""

from __future__ import annotations

import asyncpg

from server.http.services import Services
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.text_index import LEAST_WORDS, LONGEST_SECONDS, MOST_WORDS, TextIndexUpkeep
from tests.conftest import ProjectMaker
from tests.span_factory import make_span


class Upkeep(TextIndexUpkeep):
    """One whose writer the test plays."""

    def __init__(self, services: Services, processes: int = 1) -> None:
        super().__init__(services.worker, written=lambda: self.words, pending=lambda: self.spans, processes=processes)
        self.words = self.spans = 0


async def test_it_waits_for_a_pause_of_the_writers(services: Services) -> None:
    upkeep = Upkeep(services)
    await upkeep.settle_if_due()
    assert not upkeep.is_due(), "nothing was written"
    for _ in range(3):
        upkeep.words += LEAST_WORDS
        assert not upkeep.is_due(), "they are at it"
    upkeep.spans = 1
    assert not upkeep.is_due(), "a slow commit"
    upkeep.spans = 0
    assert upkeep.is_due(), "a pause"
    await upkeep.settle_if_due()
    assert not upkeep.is_due(), "done"


async def test_a_short_list_waits_for_more_through_pauses(services: Services) -> None:
    """Each word's list of places is written again, whether one place comes in or a hundred."""
    upkeep = Upkeep(services, processes=2)
    await upkeep.settle_if_due()
    for words in (1, LEAST_WORDS // 2 - 2):
        upkeep.words += words
        assert not upkeep.is_due(), "they are at it"
        assert not upkeep.is_due(), "a pause, and hardly any words"
    upkeep.words += 1
    assert not upkeep.is_due(), "at it"
    assert upkeep.is_due(), "a pause, and the share of one of two processes"


async def test_a_long_list_is_settled_while_writers_go_on(services: Services) -> None:
    upkeep = Upkeep(services, processes=2)
    await upkeep.settle_if_due()
    upkeep.words += MOST_WORDS // 2 - 1
    assert not upkeep.is_due()
    upkeep.words += 1
    await upkeep.settle_if_due()
    upkeep.words += 1000
    assert not upkeep.is_due()


async def test_what_others_write_is_settled_at_intervals(services: Services) -> None:
    """Of two processes each does it every other time."""
    for processes in (1, 2):
        upkeep = Upkeep(services, processes)
        assert upkeep.is_due(), "at the start"
        await upkeep.settle_if_due()
        assert not upkeep.is_due()
        upkeep._settled_at -= LONGEST_SECONDS * processes - 1
        assert not upkeep.is_due()
        upkeep._settled_at -= 1
        assert upkeep.is_due()


async def test_stored_words_are_counted(services: Services, project: ProjectMaker, owner: asyncpg.Connection) -> None:
    await project("alpha")
    spans = [make_span(input_text="one two one"), make_span(input_text="größe zwei")]
    writer = services.ingestion.writer
    await writer.store([prepare_span("alpha", span) for span in spans])
    written = writer.words_written
    entries = await owner.fetchval("SELECT sum(length(search_vector)) FROM llm_traces")
    assert 0 < written <= entries + len(spans)
    await writer.store([prepare_span("alpha", span) for span in spans])
    assert writer.words_written == written, "a replay adds none"
