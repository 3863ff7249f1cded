"""Search with the layout ``shared``: the words of a message once, found in every span that has it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import asyncpg
import pytest

from server.distribution_settings import CITUS
from server.http.services import Services
from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.shared_words import find_shared_words
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import START, Writer, call, message, rows_of, scope, search, talk

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")


async def test_a_phrase_is_found_within_a_message_and_words_anywhere_in_a_span(
    services: Services, project: ProjectMaker
) -> None:
    await project("alpha")
    span = call([message("user", "the quick fox"), message("user", "jumps high")], [message("assistant", "over it")])
    await Writer(services).store("alpha", [span])
    for text, is_found in {
        '"quick fox"': True,
        '"fox jumps"': False,
        "fox over": True,
        "fox -over": False,
        "fox -under": True,
        "ju* hi*": True,
        "under OR high": True,
    }.items():
        assert len(await rows_of(services, "alpha", search(text))) == is_found, text


@pytest.mark.parametrize(
    ("text", "is_asked"), [("fox", False), ("fox -over", False), ("fox OR -over", True), ("-fox -over", True)]
)
def test_where_the_words_of_a_row_are_is_asked_only_if_a_row_without_words_passes(text: str, *, is_asked: bool) -> None:
    """Else the condition is that of the indexes alone, and is not compared again with each row that they found."""
    assert ("parts IS NULL" in compile_filter(parse_filter(search(text)), [], scope=scope("alpha"))) is is_asked


async def test_what_is_new_is_found_in_the_call_that_said_it(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rare words, whose parts are named, words whose parts are named beside others, and words in too many parts."""
    await project("alpha")
    spans = talk(4)
    for span in spans:
        await Writer(services).store("alpha", [span])
    histories = await owner.fetch("SELECT history_parts FROM llm_traces ORDER BY ts")
    assert [row[0] for row in histories] == [None, 3, 5, 7], "the system message, questions and answers before"

    async def found(text: str) -> list[int]:
        document = {"field": "text", "operator": "search_new", "value": text}
        return [spans.index(next(s for s in spans if s.ts == row["ts"])) for row in await rows_of(
            services, "alpha", document)]  # fmt: skip

    for most, together, compared in ((500, 500, 500), (500, 500, 0), (1, 500, 0), (0, 500, 0), (0, 0, 0)):
        monkeypatch.setattr("server.queries.filters.words_in_parts.MOST_COMPARED", compared)
        monkeypatch.setattr("server.queries.filters.shared_words.MOST_PARTS", most)
        monkeypatch.setattr("server.queries.filters.shared_words.MOST_TOGETHER", together)
        assert await found("1") == [1]
        assert await found("question answer 2") == [2]
        assert await found("helpful") == [0]
        assert await found("question 3 -answer") == []
        assert await found("talk -helpful") == [3, 2, 1]
        assert await found('"question 1" OR "answer 3"') == [3, 1]
        assert await found("nowhere") == []
    assert len(await rows_of(services, "alpha", search("helpful"))) == 4


async def test_all_of_a_call_without_shared_content_is_new(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    await Writer(services, "inline").store("alpha", talk(2))
    document = {"field": "text", "operator": "search_new", "value": "question 0"}
    assert len(await rows_of(services, "alpha", document)) == 2


async def test_a_common_word_is_found_as_a_rare_one(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(**window: Any) -> list[dict[str, Any]]:
        return await rows_of(services, "alpha", search("question talk -nothing"), **window)

    is_common = "SELECT is_common_term('alpha', $1, 'question', 'question')"
    await project("alpha")
    await Writer(services).store("alpha", [span for number in range(4) for span in talk(2, number)])
    rare = await found()
    with monkeypatch.context() as patch:
        patch.setattr("server.queries.filters.words_in_parts.MOST_COMPARED", 0)
        assert await found() == rare, "in many parts for a comparison"
        patch.setattr("server.queries.filters.shared_words.MOST_PARTS", 2)
        assert await found() == rare, "in too many parts for the index"
        patch.setattr("server.queries.filters.shared_words.MOST_TOGETHER", 2)
        assert await found() == rare, "in too many parts to name them"
    assert len(rare) == 8
    assert not await owner.fetchval(is_common, START)
    await Writer(services).store("alpha", [span for number in range(4, 7) for span in talk(3, number)])
    assert await owner.fetchval(is_common, START), "in most parts of a sample"
    common = await found()
    assert len(common) == 8 + 9
    assert common[9:] == rare
    assert await found(window=TimeRange(START + timedelta(minutes=4), START + timedelta(minutes=5))) == common[6:9]


async def test_rank_finds_what_says_it_more_often(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    often = call([message("user", "amber amber amber"), message("user", "amber")], [message("assistant", "amber")])
    once = call([message("user", "amber"), message("user", "other things")], [message("assistant", "yes")])
    await Writer(services).store("alpha", [once, often])
    question = ListQuestion(filter=parse_filter(search("amber")), sort=(Sort("rank"),), fields=("span_id",))
    page = await list_spans(services.reads, scope("alpha"), question)
    assert [row["span_id"] for row in page.rows] == [often.span_id, once.span_id]
    assert page.rows[0]["rank"] > page.rows[1]["rank"] > 0


async def test_a_search_on_a_cluster_leaves_parts_alone() -> None:
    tree = parse_filter({"and": [search("amber -basalt"), {"trace": {"has": search("cedar")}}]})
    found = await find_shared_words(
        cast("asyncpg.Connection", None), scope("alpha"), tree, TimeRange(), distribution=CITUS
    )
    assert found is not None
    assert "content_parts" not in compile_filter(found, [], scope=scope("alpha"))


async def test_without_full_text_words_are_not_indexed(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    await Writer(services, full_text=False).store("alpha", talk(1, 1))
    assert await rows_of(services, "alpha", search("question")) == []
    await Writer(services).store("alpha", talk(1, 2))
    assert len(await rows_of(services, "alpha", search("question"))) == 1
    assert len(await rows_of(services, "alpha", search("helpful"))) == 1, (
        "words of the same message before are no obstacle"
    )
