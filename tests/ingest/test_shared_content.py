"""The layout ``shared``: messages once, and everything that is read the same as with the layout ``inline``."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.content_layout import split_content
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.lists.part_contents import _with_finish
from server.queries.lists.trace_tree import TraceQuestion, read_span, read_trace
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import ALL, OWN, START, Writer, call, counts, message, rows_of, scope, search, talk
from tests.span_factory import make_span

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")

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
RESULTS = [f"{word} " * 30 + "{}" for word in ("amber", "cedar 東京都", "ember")]
RESOURCES: list[dict[str, Any]] = [
    {},
    {"host": "short"},
    {"host": "web-1", "cores": 4, "note": "long enough to be stored once, by its id"},
    {"host": "web-2", "cores": 16, "note": ["long enough to be stored once, by its id"], "none": None},
]


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
    assert kept["search_vector"] is None


async def test_the_index_of_words_in_rows_leaves_out_rows_whose_words_are_in_parts(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Other rows are in it, those without words too, and searches see no difference."""
    await project("alpha")
    apart = call([message("user", "amber")], [message("assistant", "basalt")], ts=START)
    own = make_span(ts=START + timedelta(minutes=1), input_text="amber cedar")
    silent = make_span(ts=START + timedelta(minutes=2), input_text=None, output_text=None)
    await Writer(services).store("alpha", [apart, own, silent])
    indexed = await owner.fetch(
        "SELECT pg_get_expr(i.indpred, i.indrelid), (SELECT count(*) FROM llm_traces WHERE search_vector IS NOT NULL)"
        " FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid"
        " WHERE h.inhparent = 'llm_traces_text'::regclass"
    )
    assert set(map(tuple, indexed)) == {("(search_vector IS NOT NULL)", 2)}
    minutes = {"amber": [1, 0], "basalt": [0], "amber -basalt": [1], "-amber": [2], "-cedar": [2, 0]}
    for text, expected in minutes.items():
        rows = await rows_of(services, "alpha", search(text))
        assert [round((row["ts"] - START) / timedelta(minutes=1)) for row in rows] == expected, text
        others = await rows_of(services, "alpha", {"not": search(text)})
        assert {row["span_id"] for row in (*rows, *others)} == {apart.span_id, own.span_id, silent.span_id}, text


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
    """Return a span of any kind of content, often of a known conversation."""

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
            response = chance.choice([words(3), *RESULTS])
            return {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": response}]}
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
        "resource_attributes": dict(chance.choice(RESOURCES)),
    }
    kind = chance.randrange(9)
    if kind == 8:  # a tool
        named = {"gen_ai.tool.call.id": "c1"}
        more["attributes"] = chance.choice([{}, named, {**named, "x": LONG}])
        return make_span(**more, input_text=words(3) or None, output_text=chance.choice(RESULTS))
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
    """Return the same span again: a replay, a later version, one with other words, one with another start."""
    kind = chance.randrange(4)
    if kind == 0:
        return span
    longer = replace(span, duration_ms=span.duration_ms + chance.choice([-0.5, 1000.0]))
    if kind == 1:
        return chance.choice([longer, replace(longer, resource_attributes=dict(chance.choice(RESOURCES)))])
    if kind == 2:
        return replace(longer, ts=span.ts - timedelta(milliseconds=1), duration_ms=longer.duration_ms + 1000)
    return replace(longer, output_text="changed jasper", output_messages=None)


def questions(chance: random.Random) -> list[Any]:
    """Return filters over content: words, phrases in a message, negations, alternatives, substrings, comparisons."""
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
    for key, operator, value in (
        ("host", "eq", "web-1"),
        ("host", "ne", "web-1"),
        ("host", "in", ["short", "web-2"]),
        ("host", "contains", "web"),
        ("host", "ends_with", "-2"),
        ("cores", "gt", 4),
        ("cores", "between", [1, 8]),
        *((name, "exists", sign) for name in ("host", "none", "other") for sign in (True, False)),
    ):
        leaf = {"field": f"resource.{key}", "operator": operator, "value": value}
        found += [leaf, {"not": leaf}, {"or": [leaf, search(chance.choice(WORDS))]}, {"trace": {"has": leaf}}]
    found += [{"field": "resource_attributes", "operator": "exists", "value": sign} for sign in (True, False)]
    return found


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


def test_a_finish_reason_stands_where_jsonb_has_it() -> None:
    for more in ({}, {"name_of_this_one": 1}, {"名前名前名": 1}, {"zzzzzzzzzzzzz": 1}, {"aaaaaaaaaaaaa": 1}):
        whole = sorted(
            {"role": 0, "parts": 0, "finish_reason": "stop", **more}, key=lambda name: (len(name.encode()), name)
        )
        bare = {name: 0 for name in whole if name != "finish_reason"}
        assert list(_with_finish(bare, "stop")) == whole
