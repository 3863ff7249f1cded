"""The layout ``shared``: messages once, and everything that is read the same as with the layout ``inline``."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from server.distribution_settings import CITUS
from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.message_rendering import render_messages
from server.ingest.writing.content_layout import split_content
from server.ingest.writing.content_start import ALWAYS, NEVER, ContentStart
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.shared_words import find_shared_words
from server.queries.filters.span_fields import FIELDS
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.queries.lists.part_contents import _with_finish
from server.queries.lists.trace_tree import TraceQuestion, read_span, read_trace
from server.schema import migrate
from server.storage.database import Database
from server.storage.row_scope import RowScope
from tests.conftest import AppFactory, ProjectMaker
from tests.ingest.otlp_payloads import JSON
from tests.span_factory import make_span

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
ALL = tuple(name for name, item in FIELDS.items() if item.selectable)
WORDS = [
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "falcon",
    "garnet",
    "harbor",
    "indigo",
    "jasper",
    "東京都",
    "größer",
    "2e3x",
]
LONG = "a long definition " * 40
OWN = {"project_id", "ingested_at"}
"""Fields in which equal spans of two projects differ."""


def scope(project: str) -> RowScope:
    return RowScope((project,), may_read_content=True, may_read_costs=True)


def message(role: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts], **more}


def call(
    asked: Sequence[dict[str, Any]] | None, answered: Sequence[dict[str, Any]] | None = None, **more: Any
) -> SpanRecord:
    """A call with these messages, whose texts are those that the mapping makes of them."""
    return make_span(
        input_type="chat",
        input_messages=None if asked is None else list(asked),
        input_text=render_messages(list(asked)) if asked else None,
        output_messages=None if answered is None else list(answered),
        output_text=render_messages(list(answered)) if answered else None,
        **more,
    )


def talk(turns: int, number: int = 0, secret: str = "") -> list[SpanRecord]:
    """The calls of a conversation, each with all that was said before."""
    said = [message("system", f"You are helpful {secret}.")]
    spans = []
    for turn in range(turns):
        said.append(message("user", f"question {turn} of talk {number} {secret}"))
        answer = message("assistant", f"answer {turn} of talk {number}")
        place: dict[str, Any] = {
            "ts": START + timedelta(minutes=number, seconds=turn),
            "trace_id": f"{number + 1:032x}",
        }
        spans.append(call(said, [{**answer, "finish_reason": "stop"}], finish_reason="stop", **place))
        said = [*said, answer]
    return spans


class Writer:
    """A server that stores spans in a layout."""

    def __init__(self, services: Services, layout: str = "shared", *, full_text: bool = True) -> None:
        dimensions = Dimensions(services.writes, most_combinations=20_000)
        self._writer = SpanWriter(services.writes, dimensions, None, full_text=full_text)
        self._options: dict[str, Any] = {"shared_from": ALWAYS if layout == "shared" else NEVER, "full_text": full_text}

    async def store(self, project: str, spans: Sequence[SpanRecord]) -> int:
        return await self._writer.store([prepare_span(project, span, **self._options) for span in spans])


async def rows_of(services: Services, project: str, document: Any = None, **more: Any) -> list[dict[str, Any]]:
    """Rows of a list with all fields, but for those in which projects differ."""
    tree = None if document is None else parse_filter(document)
    question = ListQuestion(filter=tree, fields=ALL, limit=1000, **more)
    page = await list_spans(services.reads, scope(project), question)
    return [{name: value for name, value in row.items() if name not in OWN} for row in page.rows]


def search(text: str) -> dict[str, Any]:
    return {"field": "text", "operator": "search", "value": text}


async def counts(owner: asyncpg.Connection) -> tuple[int, int]:
    """Number of parts, and of spans that have some."""
    return (
        await owner.fetchval("SELECT count(*) FROM content_parts"),
        await owner.fetchval("SELECT count(*) FROM llm_traces WHERE parts IS NOT NULL"),
    )


async def test_a_conversation_is_stored_once(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = Writer(services)
    for span in talk(6):
        assert await writer.store("alpha", [span]) == 1
    assert await counts(owner) == (13, 6), "a system message, six questions, six answers"
    kept = await owner.fetchrow("SELECT * FROM llm_traces ORDER BY ts DESC LIMIT 1")
    assert kept is not None
    assert [kept[name] for name in ("input_text", "input_messages", "output_text", "output_messages")] == [None] * 4
    assert str(kept["search_vector"]) == ""


async def test_a_late_turn_takes_hardly_more_room_than_an_early_one(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Rows, parts and their words; with ``inline`` the twentieth turn takes eight times the room of the second."""
    await project("alpha")
    chance, writer, said, sizes = random.Random(5), Writer(services), list[dict[str, Any]](), []
    for turn in range(20):
        question, answer = (
            message(role, " ".join(f"word{chance.randrange(3000)}" for _ in range(80)))
            for role in ("user", "assistant")
        )
        span = call([*said, question], [answer], ts=START + timedelta(seconds=turn), trace_id=f"{turn + 1:032x}")
        said += [question, answer]
        await writer.store("alpha", [span])
        sizes.append(
            await owner.fetchval(
                "SELECT (SELECT sum(pg_column_size(t)) FROM llm_traces t)"
                " + (SELECT coalesce(sum(pg_column_size(c)), 0) FROM content_parts c)"
            )
        )
    second, twentieth = sizes[1] - sizes[0], sizes[19] - sizes[18]
    assert twentieth < 1.3 * second


async def test_whatever_is_asked_both_layouts_answer_alike(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Random spans, later versions, replays and deletions, at two servers each."""
    chance = random.Random(20261129)
    layouts = {"inline": "alpha", "shared": "beta"}
    servers = {}
    for layout, name in layouts.items():
        await project(name)
        servers[layout] = [Writer(services, layout) for _ in range(2)]
    spans: list[SpanRecord] = []
    for round_number in range(8):
        batch = [random_span(chance, spans) for _ in range(8)]
        spans += batch
        again = [later(chance, span) for span in chance.sample(spans, min(len(spans), 6))]
        place = chance.randrange(2)
        for layout, name in layouts.items():
            for part in (batch, again):
                await servers[layout][place].store(name, copy.deepcopy(part))
        if round_number % 4 == 3:
            gone = chance.choice(spans).trace_id
            for name in layouts.values():
                await delete_trace(services.writes, services.freshness, name, gone)
    alpha, beta = [await rows_of(services, name) for name in layouts.values()]
    assert len(alpha) > 40
    assert alpha == beta
    assert (await counts(owner))[1] > 25, "most spans are stored apart"
    short = ListQuestion(previews=True, limit=100)
    pages = [await list_spans(services.reads, scope(name), short) for name in layouts.values()]
    assert pages[0].clipped_fields == pages[1].clipped_fields
    assert "input_text" in pages[0].clipped_fields
    cut = [[(row["input_text"], row["output_text"]) for row in page.rows] for page in pages]
    assert cut[0] == cut[1]
    for document in questions(chance):
        found = [await rows_of(services, name, document) for name in layouts.values()]
        assert found[0] == found[1], document
    for trace_id in {row["trace_id"] for row in alpha}:
        question = TraceQuestion(trace_id=trace_id, fields=ALL)
        traces = [(await read_trace(services.reads, scope(name), question)).trace for name in layouts.values()]
        assert [without_own(trace) for trace in traces[:1]] == [without_own(trace) for trace in traces[1:]]
    row = alpha[0]
    one = [
        await read_span(services.reads, scope(name), row["trace_id"], row["span_id"], ("input_text", "output_messages"))
        for name in layouts.values()
    ]
    assert one[0] == one[1]


def without_own(trace: dict[str, Any]) -> Any:
    spans = [{name: value for name, value in span.items() if name not in OWN} for span in trace["spans"]]
    return {**{name: value for name, value in trace.items() if name not in OWN}, "spans": spans}


def random_span(chance: random.Random, known: Sequence[SpanRecord]) -> SpanRecord:
    """A span of any kind of content, often of a known conversation."""

    def words(most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(0, most)))

    def random_message() -> dict[str, Any]:
        kind = chance.randrange(6)
        role = chance.choice(["user", "assistant", "tool", "system"])
        if kind == 0:
            return {
                "role": role,
                "parts": [{"type": "tool_call", "name": words(1), "id": "c1", "arguments": {"a": words(2)}}],
            }
        if kind == 1:
            return {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": words(3)}]}
        if kind == 2:
            return {
                "role": role,
                "parts": [{"type": "reasoning", "content": words(3)}, {"type": "text", "content": words(4)}],
            }
        if kind == 3:
            return {"role": role, "parts": [{"type": "uri", "modality": "image", "uri": "https://example.com/1.png"}]}
        if kind == 4:
            return {"role": role, "parts": []}
        length = chance.choice([1, 1, 1, 80])
        return message(role, *(words(5) * length for _ in range(chance.randint(1, 2))), name=words(1))

    history = []
    if known and chance.random() < 0.6:
        earlier = chance.choice(known)
        history = [*(earlier.input_messages or []), *(earlier.output_messages or [])]
    asked = [*history, *(random_message() for _ in range(chance.randint(0, 2)))]
    trace = chance.choice(known).trace_id if known and chance.random() < 0.5 else f"{chance.getrandbits(64):032x}"
    more: dict[str, Any] = {
        "trace_id": trace,
        "ts": START - timedelta(days=chance.choice([0, 0, 0, 8]), milliseconds=chance.randrange(3_600_000)),
        "span_id": f"{chance.getrandbits(62):016x}",
        "duration_ms": float(chance.randint(1, 900)),
    }
    kind = chance.randrange(8)
    if kind == 0:
        return make_span(**more, input_type="text", input_text=words(6) or None, output_text=words(6) or None)
    if kind == 1:  # words that do not follow from the messages, as of a sender that redacts one of them
        return make_span(**more, input_text=words(4) or "other", input_messages=[message("user", words(5))])
    if kind == 2:
        return make_span(**more)
    more["finish_reason"] = chance.choice(["stop", None])
    more["attributes"] = chance.choice([{}, {"tools": LONG, "x": 1, "none": None}, {"parts": [LONG], "y": {"z": LONG}}])
    answers = [
        {**random_message(), **chance.choice([{}, {"finish_reason": "stop"}])} for _ in range(chance.randint(0, 2))
    ]
    return call(asked or None, answers or None, **more)


def later(chance: random.Random, span: SpanRecord) -> SpanRecord:
    """The same span again: a replay, a later version, one with other words, one with another start."""
    kind = chance.randrange(4)
    if kind == 0:
        return span
    longer = replace(span, duration_ms=span.duration_ms + chance.choice([-0.5, 1000.0]))
    if kind == 1:
        return longer
    if kind == 2:
        return replace(longer, ts=span.ts - timedelta(milliseconds=1), duration_ms=longer.duration_ms + 1000)
    return replace(longer, output_text="changed jasper", output_messages=None)


def questions(chance: random.Random) -> list[Any]:
    """Filters over content: words and phrases within a message, negations, alternatives, substrings, comparisons."""
    found: list[Any] = [{"not": search(chance.choice(WORDS))}, search("-amber"), search("nowhere")]
    for _ in range(4):
        some = chance.sample(WORDS, 3)
        found += [
            search(some[0]),
            search(f"{some[0]} {some[1]}"),
            search(f"{some[0]} -{some[1]}"),
            search(f"{some[0]} OR {some[1]} {some[2]}"),
            search(f"{some[0][:3]}*"),
            {"and": [search(some[0]), {"or": [search(some[1]), {"field": "model", "operator": "eq", "value": "x"}]}]},
            {"trace": {"has": search(f"{some[0]} {some[2]}")}},
            {"field": "text", "operator": "contains", "value": some[0][1:4]},
            {"field": "text", "operator": "not_contains", "value": some[1]},
            {"field": "attribute.tools", "operator": "starts_with", "value": LONG[:20]},
            {"field": "attribute.tools", "operator": chance.choice(["eq", "ne"]), "value": LONG},
            {"field": "attribute.none", "operator": "exists", "value": chance.random() < 0.5},
        ]
    return found


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
    """Rare words, whose parts are named, and words that the statement looks up in each span."""
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

    for most in (500, 0):
        monkeypatch.setattr("server.queries.filters.shared_words.MOST_PARTS", most)
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

    is_common = "SELECT is_common_word('alpha', $1, 'question')"
    await project("alpha")
    await Writer(services).store("alpha", [span for number in range(4) for span in talk(2, number)])
    rare = await found()
    with monkeypatch.context() as patch:
        patch.setattr("server.queries.filters.shared_words.MOST_PARTS", 2)
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


async def test_parts_that_were_just_shown_are_not_read_again(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await Writer(services).store("alpha", talk(4))
    first = await rows_of(services, "alpha")
    await owner.execute("DELETE FROM content_parts")
    question = ListQuestion(fields=("input_text", "input_messages", "output_text", "output_messages"))
    again = await list_spans(services.reads, scope("alpha"), question)
    assert again.rows == [{name: row[name] for name in question.selected()} for row in first]
    assert again.rows[0]["output_text"] == "answer 3 of talk 0"


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
    """The tables whose rows hold ``text``, as a dump writes them; partitions under the name of the whole."""
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


async def test_without_full_text_words_are_not_indexed(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    await Writer(services, full_text=False).store("alpha", talk(1, 1))
    assert await rows_of(services, "alpha", search("question")) == []
    await Writer(services).store("alpha", talk(1, 2))
    assert len(await rows_of(services, "alpha", search("question"))) == 1
    assert len(await rows_of(services, "alpha", search("helpful"))) == 1, (
        "words of the same message before are no obstacle"
    )


@pytest.mark.parametrize(
    "span",
    [
        make_span(),
        make_span(input_text="other words", input_messages=[message("user", "words")]),
        make_span(input_text=None, input_messages=[message("user", "")]),
        make_span(input_text="a text alone", output_text="another"),
        make_span(input_text="x", input_messages=[]),
        make_span(input_text="x", input_messages=[{"parts": []}]),
        make_span(input_text="x", input_messages={"role": "user"}),
    ],
    ids=["nothing", "other words", "no words", "texts alone", "no messages", "no role", "no list"],
)
def test_content_whose_text_does_not_follow_from_it_stays_in_its_span(span: SpanRecord) -> None:
    assert split_content(span) is None


async def test_the_setting_decides_for_new_spans(
    start_app: AppFactory, project: ProjectMaker, bearer: Any, owner: asyncpg.Connection
) -> None:
    import httpx

    await project("alpha")
    for number, layout in enumerate(("inline", "shared", "inline", "auto"), 1):
        server = await start_app(content_layout=layout)
        async with httpx.AsyncClient(base_url=server.base_url, timeout=30, headers=bearer(projects=["alpha"])) as http:
            answer = await http.post("/v1/traces", content=request(number), headers={"Content-Type": JSON})
            assert answer.status_code == 200, answer.text
            rows = (await http.get("/api/v1/traces", params={"search": "weather", "fields": "io,span_id"})).json()[
                "data"
            ]
        assert len(rows) == number
        assert len({json.dumps([row["input_messages"], row["output_text"]]) for row in rows}) == 1
    assert await counts(owner) == (3, 2)


async def test_a_database_of_an_earlier_version_shares_content_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    migration = (Path(migrate.__file__).parent / "0075_shared_from_when.sql").read_text()
    await project("alpha")
    new = ContentStart("auto", services.writes)
    await new.learn()
    assert new.moment == ALWAYS, "a database without spans"
    await Writer(services, "inline").store("alpha", talk(1))
    await owner.execute("DROP FUNCTION shared_content_begins()")
    await owner.execute(migration)
    now = datetime.now(UTC)
    monday = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=7 - now.weekday())
    old = ContentStart("auto", services.writes)
    assert old.moment == NEVER
    await old.learn()
    assert old.moment == monday
    before, after = [
        prepare_span("alpha", replace(talk(1)[0], ts=at), shared_from=old.moment)
        for at in (monday - timedelta(microseconds=1), monday)
    ]
    assert (before.content, after.content is None) == (None, False)


def test_a_cluster_shares_no_content_and_looks_for_none() -> None:
    cluster = Database("postgresql://", role=None, size=1, acquire_timeout=1, statement_timeout=1,
                       application_name="none", distribution=CITUS)  # fmt: skip
    assert ContentStart("auto", cluster).moment == NEVER


async def test_a_search_on_a_cluster_leaves_parts_alone() -> None:
    tree = parse_filter({"and": [search("amber -basalt"), {"trace": {"has": search("cedar")}}]})
    found = await find_shared_words(
        cast("asyncpg.Connection", None), scope("alpha"), tree, TimeRange(), distribution=CITUS
    )
    assert found is not None
    assert "content_parts" not in compile_filter(found, [], scope=scope("alpha"))


def test_a_finish_reason_stands_where_jsonb_has_it() -> None:
    for more in ({}, {"name_of_this_one": 1}, {"名前名前名": 1}, {"zzzzzzzzzzzzz": 1}, {"aaaaaaaaaaaaa": 1}):
        whole = sorted(
            {"role": 0, "parts": 0, "finish_reason": "stop", **more}, key=lambda name: (len(name.encode()), name)
        )
        bare = {name: 0 for name in whole if name != "finish_reason"}
        assert list(_with_finish(bare, "stop")) == whole


def request(number: int) -> bytes:
    """A request in OTLP with one call."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([message("system", "be brief"), message("user", "how is the weather?")]),
        "gen_ai.output.messages": json.dumps([message("assistant", "fine", finish_reason="stop")]),
    }
    now = int(datetime.now(UTC).timestamp() * 1e9) - number * 1_000_000_000
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "startTimeUnixNano": str(now - 1_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
