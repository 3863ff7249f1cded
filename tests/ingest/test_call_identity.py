"""A counted call has the user, session, tags and agent of the nearest span above that has them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.counting.call_identity import Ancestry
from server.ingest.mapping.span_record import SpanRecord
from tests.conftest import ProjectMaker
from tests.ingest.spans_in_both_encodings import map_document, request, span
from tests.ingest.stored_state import recomputed_summaries, stored_summaries
from tests.ingest.test_counts_of_split_traces import START, reporting, send, send_in_pieces, server

CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o", "gen_ai.usage.input_tokens": 5,
}  # fmt: skip
TOOL: dict[str, Any] = {"gen_ai.operation.name": "execute_tool"}
AGENT: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "tea"}
WHO: dict[str, Any] = {"user.id": "ada", "session.id": "s-1", "tag.tags": ["blue"], "gen_ai.prompt.name": "order"}


def mapped(*spans: dict[str, Any]) -> list[SpanRecord]:
    """Return the rows of spans above each other, the topmost first."""
    documents = [
        span(values, spanId=f"{number:016x}", **({"parentSpanId": f"{number - 1:016x}"} if number > 1 else {}))
        for number, values in enumerate(spans, start=1)
    ]
    return map_document(request(*documents)).records


def test_a_call_takes_who_asked_from_the_spans_above() -> None:
    *_, call = mapped(WHO, {**AGENT, "session.id": "s-2"}, {}, CALL)
    assert (call.user_id, call.session_id, call.tags, call.agent_name) == ("ada", "s-2", ["blue"], "tea")
    assert call.inherited == {
        "user_id": f"{1:016x}", "session_id": f"{2:016x}", "tags": f"{1:016x}", "agent_name": f"{2:016x}",
    }  # fmt: skip


def test_a_prompt_belongs_to_one_call_and_a_tool_takes_nothing() -> None:
    _, tool, call = mapped(WHO, TOOL, CALL)
    assert (tool.user_id, tool.inherited, call.user_id, call.prompt_name) == (None, None, "ada", None)


def test_a_call_keeps_the_user_it_names() -> None:
    _, call = mapped(WHO, {**CALL, "user.id": "bob"})
    assert (call.user_id, call.session_id) == ("bob", "s-1")


def test_of_two_reports_the_one_that_counts_takes_the_user_above_the_other() -> None:
    same = {**CALL, "gen_ai.response.id": "msg_1"}
    root, client, vendor = (span(WHO), span(same, spanId="c" * 16, parentSpanId=span()["spanId"]), span(same))
    vendor |= {"spanId": "d" * 16, "traceId": "e" * 32, "kind": 2}
    records = map_document(request(root, client, vendor)).records
    (counted,) = (record for record in records if record.is_generation)
    assert counted.user_id == "ada"


def test_parents_in_a_ring_lend_and_end() -> None:
    agent = span({**AGENT, **WHO}, spanId="a" * 16, parentSpanId="b" * 16)
    call = map_document(request(agent, span(CALL, spanId="b" * 16, parentSpanId="a" * 16))).records[1]
    assert call.user_id == "ada"
    silent = [span({}, spanId=f"{n:016x}", parentSpanId=f"{n % 3 + 1:016x}") for n in (1, 2, 3)]
    below = span(CALL, spanId="f" * 16, parentSpanId=f"{1:016x}")
    assert map_document(request(span(WHO), *silent, below)).records[-1].user_id is None


def test_each_span_is_asked_once_on_a_long_way_up() -> None:
    asked: list[str] = []

    def has(span_id: str, _: str) -> bool:
        asked.append(span_id)
        return span_id == "0"

    ancestry = Ancestry({str(number): str(number - 1) if number else None for number in range(1000)}, has)
    assert {ancestry.lender(str(number), "user_id") for number in reversed(range(1, 1000))} == {"0"}
    assert len(asked) == 999


COLUMNS = ("user_id", "session_id", "tags", "agent_name")


async def identity_of(owner: asyncpg.Connection, number: int) -> tuple[Any, ...]:
    row = await owner.fetchrow("SELECT * FROM llm_traces WHERE span_id = $1", f"{number:016x}")
    assert row is not None
    return tuple(row[column] for column in COLUMNS)


async def calls_by_user(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Return calls and tokens of each user, by the rollups."""
    rows = await owner.fetch(
        "SELECT actor, sum(calls) AS calls, sum(total_tokens) AS tokens FROM actor_delta WHERE kind = 'user'"
        " GROUP BY actor HAVING sum(spans) > 0"
    )
    return {row["actor"]: (row["calls"], row["tokens"]) for row in rows}


ROOT: dict[str, Any] = {"user_id": "ada", "session_id": "s-1", "tags": ["blue"], "agent_name": "tea"}
LENT = ("ada", "s-1", ["blue"], "tea")


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
async def test_one_call_has_its_user_in_whatever_order_the_spans_above_come(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, order: Sequence[int]
) -> None:
    await project("alpha")
    spans = {
        1: reporting(1, 1, None, "other", 0, **ROOT),
        2: reporting(1, 2, 1, "chain", 0),
        3: reporting(1, 3, 2, "chat", 100),
    }
    for number in order:
        await send(server(services), [spans[number]])
    assert await identity_of(owner, 3) == LENT
    assert await calls_by_user(owner) == {"ada": (1, 100)}
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))


@pytest.mark.parametrize("part", COLUMNS)
async def test_each_part_is_lent_alone_to_a_call_that_came_before(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, part: str
) -> None:
    await project("alpha")
    await send(server(services), [reporting(1, 3, 1, "chat", 100)])
    await send(server(services), [reporting(1, 1, None, "tool", 0, **{part: ROOT[part]})])
    assert dict(zip(COLUMNS, await identity_of(owner, 3), strict=True))[part] == ROOT[part]
    # and the call may come last
    await send(server(services), [reporting(1, 4, 1, "chat", 70)])
    assert dict(zip(COLUMNS, await identity_of(owner, 4), strict=True))[part] == ROOT[part]


async def test_a_nearer_span_that_comes_later_lends_instead(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await send(server(services), [reporting(1, 1, None, "other", 0, **ROOT), reporting(1, 3, 1, "chat", 100)])
    assert await identity_of(owner, 3) == LENT
    await send(server(services), [reporting(2, 1, None, "other", 0, **ROOT), reporting(2, 3, 2, "chat", 100)])
    await send(server(services), [reporting(2, 2, 1, "chain", 0, user_id="bob")])
    users = await owner.fetch("SELECT user_id FROM llm_traces WHERE is_generation ORDER BY trace_id")
    assert [row["user_id"] for row in users] == ["ada", "bob"]


async def test_a_user_that_changes_changes_for_the_calls_below(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    root = reporting(1, 1, None, "agent", 0, **ROOT)
    await send(writer, [root, reporting(1, 2, 1, "chat", 100)])
    root.user_id, root.tags, root.duration_ms = "bob", [], root.duration_ms + 1
    await send(writer, [root])
    assert await identity_of(owner, 2) == ("bob", "s-1", [], "tea")
    assert await calls_by_user(owner) == {"bob": (1, 100)}


async def test_calls_of_an_export_keep_their_user_without_the_spans_above(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    taken = {"inherited": dict.fromkeys(COLUMNS, f"{1:016x}")}
    for number in (2, 3):
        await send(server(services), [reporting(1, number, 1, "chat", 100, **ROOT, **taken)])
    assert [await identity_of(owner, number) for number in (2, 3)] == [LENT, LENT]


async def test_any_order_and_split_gives_every_call_the_nearest_user(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(97)
    servers = [server(services) for _ in range(3)]
    expected: dict[str, list[int]] = {}
    for trace in range(1, 25):
        spans = _tree(chance, trace)
        by_id = {record.span_id: record for record in spans}
        for record in spans:
            user = _nearest_user(record, by_id)
            if record.is_generation and user is not None:
                expected.setdefault(user, []).append(record.total_tokens or 0)
        await send_in_pieces(chance, servers, spans, at_once=trace % 2 == 1)
    found = {user: sums for user, sums in (await calls_by_user(owner)).items() if sums[0]}
    assert found == {user: (len(tokens), sum(tokens)) for user, tokens in expected.items()}
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))


def _tree(chance: random.Random, trace: int) -> list[SpanRecord]:
    """Return agents, chains and tools with calls as leaves, no two of which could be one call; some name a user."""
    first, spans, inner = 100 * trace, [], [0]
    for number in range(1, chance.randint(3, 10)):
        operation = chance.choice(["agent", "chain", "tool", "chat", "chat"]) if number > 1 else "agent"
        parent = first + chance.choice(inner[1:]) if number > 1 else None
        if operation != "chat":
            inner.append(number)
        tokens = 1000 * trace + number if operation == "chat" else 0
        user = chance.choice([None, None, "ada", "bob"])
        spans.append(
            reporting(trace, first + number, parent, operation, tokens, user_id=user, ts=START, duration_ms=1000.0)
        )
    return spans


def _nearest_user(record: SpanRecord, by_id: dict[str, SpanRecord]) -> str | None:
    while record.user_id is None and record.parent_span_id is not None:
        record = by_id[record.parent_span_id]
    return record.user_id
