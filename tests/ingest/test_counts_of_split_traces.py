"""A trace that comes in pieces counts as if it had come at once: in any order, at several servers at the same time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from server.errors import ApiError
from server.http.services import Services
from server.ingest.mapping.request_counts import count_calls_once, rule_alone
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from tests.conftest import ProjectMaker
from tests.ingest.stored_state import counted_totals, recomputed_summaries, stored_summaries
from tests.span_factory import make_span

START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
_requests = itertools.count(1)


def reporting(trace: int, number: int, parent: int | None, operation: str, tokens: int, **fields: Any) -> SpanRecord:
    """Return a span as the mapping makes it, before anything else of its trace is known; ids are numbers."""
    rule = rule_alone(operation, is_call=True, has_usage=tokens > 0)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "total_cost_usd": Decimal(tokens)} if tokens else {}
    values = {
        "trace_id": f"{trace:032x}", "span_id": f"{number:016x}", "operation_type": operation, "count_rule": rule,
        "parent_span_id": None if parent is None else f"{parent:016x}", "is_generation": rule is not None,
        "ts": START + timedelta(milliseconds=number), "duration_ms": 1000.0 - 2 * number,
    }  # fmt: skip
    return make_span(**values | usage | fields)


def random_trace(
    chance: random.Random, trace: int, *, first: int = 1, answers: Sequence[str] = ("r1",)
) -> list[SpanRecord]:
    """Return agents, chains, tools, requests and calls below each other, some of them with usage, users and words.

    ``answers``: ids of the vendor's answers, of which each call names one or none.
    """
    spans = []
    for number in range(1, chance.randint(3, 9)):
        operation = chance.choice(["agent", "chain", "tool", "other", "chat", "chat", "chat", "embedding"])
        spans.append(
            reporting(
                trace,
                first + number,
                chance.choice([None, *range(first + 1, first + number)]) if number > 1 else None,
                operation,
                chance.choice([0, 100, 100, 70, 60]) if operation not in ("tool", "other") else 0,
                user_id=chance.choice([None, "ada", "bob"]),
                tags=chance.choice([[], ["blue"]]),
                input_text=chance.choice([None, f"question {number}"]),
                agent_name=chance.choice([None, "tea"]),
                cost_source=chance.choice(["computed", "reported"]),
                cached_tokens=chance.choice([None, 40]),
                ts=START + timedelta(milliseconds=number),
                duration_ms=1000.0 - 2 * number,
                attributes={
                    "otel.scope.name": chance.choice("ab"),
                    "gen_ai.response.id": chance.choice(["", *answers]),
                },
            )
        )
    return spans


def copies(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    return [make_span(**{name: getattr(span, name) for name in SpanRecord.__slots__}) for span in spans]


def moved(spans: Sequence[SpanRecord], *, trace_offset: int) -> list[SpanRecord]:
    """Return the same spans in other traces, with other answers."""
    pieces = copies(spans)
    for span in pieces:
        span.trace_id = f"{int(span.trace_id, 16) + trace_offset:032x}"
        answer = span.attributes["gen_ai.response.id"]
        span.attributes = {**span.attributes, "gen_ai.response.id": f"{answer}+{trace_offset}" if answer else ""}
    return pieces


def server(services: Services) -> SpanWriter:
    """Return the writer of a process of its own."""
    return SpanWriter(services.writes, Dimensions(services.writes, most_combinations=20_000), None)


async def send_in_pieces(
    chance: random.Random, servers: Sequence[SpanWriter], spans: Sequence[SpanRecord], *, at_once: bool
) -> None:
    """Send ``spans`` in any order, one to three a request, each to any server; ``at_once`` or one after the other."""
    pieces = list(spans)
    chance.shuffle(pieces)
    size = chance.randint(1, 3)
    requests = [send(chance.choice(servers), pieces[at : at + size]) for at in range(0, len(pieces), size)]
    if at_once:
        await asyncio.gather(*requests)
    else:
        for request in requests:
            await request


async def send(writer: SpanWriter, spans: Sequence[SpanRecord]) -> None:
    """Send one request."""
    request = copies(spans)
    count_calls_once(request)
    await writer.store([prepare_span("alpha", span, request=next(_requests)) for span in request])


COMPARED = (
    "span_id", "is_generation", "count_rule", "counted_in", "inherited", "user_id", "tags", "agent_name", "input_text",
    "search_vector", "operation_type", "tool_name",
)  # fmt: skip


async def rows_of(owner: asyncpg.Connection, trace: int) -> list[tuple[Any, ...]]:
    rows = await owner.fetch("SELECT * FROM llm_traces WHERE trace_id = $1 ORDER BY span_id", f"{trace:032x}")
    return [tuple(row[name] for name in COMPARED) for row in rows]


async def test_any_order_and_split_ends_as_one_request_does(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(16)
    servers = [server(services) for _ in range(3)]
    total = 0
    for trace in range(1, 25):
        spans = random_trace(chance, 2 * trace, answers=[f"r{2 * trace}"])
        await send(servers[0], spans)
        await send_in_pieces(chance, servers, moved(spans, trace_offset=1), at_once=trace % 2 == 1)
        at_once = await rows_of(owner, 2 * trace)
        assert await rows_of(owner, 2 * trace + 1) == at_once, [(s.span_id, s.parent_span_id) for s in spans]
        total += sum(span.total_tokens or 0 for span in spans if is_counted(at_once, span))
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))
    assert (await counted_totals(owner))["total_tokens"] == 2 * total
    labels = await owner.fetch(
        "SELECT t.span_id FROM llm_traces t JOIN span_dimensions d USING (project_id, dim_id)"
        " WHERE d.is_generation <> t.is_generation OR d.agent_name <> coalesce(t.agent_name, '')"
    )
    assert labels == []


def is_counted(rows: Sequence[tuple[Any, ...]], span: SpanRecord) -> bool:
    return any(row[0] == span.span_id and row[1] for row in rows)


async def test_one_call_in_two_traces_counts_once_in_any_order_and_split(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(28)
    servers = [server(services) for _ in range(3)]
    linked = 0
    for case in range(8):
        traces = [10 * case + 1, 10 * case + 2, 10 * case + 3]
        answers = [[f"a{case}"], [f"a{case}", f"b{case}"], [f"b{case}"]]
        spans = [
            span
            for trace, own, first in zip(traces, answers, (0, 20, 40), strict=True)
            for span in random_trace(chance, trace, first=first, answers=own)
        ]
        await send(servers[0], spans)
        pieces = moved(spans, trace_offset=5)
        chance.shuffle(pieces)
        size = chance.randint(1, 4)
        requests = [pieces[at : at + size] for at in range(0, len(pieces), size)]
        if case % 2:
            await asyncio.gather(*(send_patiently(one, requests[at::3]) for at, one in enumerate(servers)))
        else:
            for piece in requests:
                await send(chance.choice(servers), piece)
        at_once = [row for trace in traces for row in await rows_of(owner, trace)]
        in_pieces = [row for trace in traces for row in await rows_of(owner, trace + 5)]
        assert in_pieces == at_once, [(s.trace_id[-3:], s.span_id[-2:], s.parent_span_id, s.attributes) for s in spans]
        elsewhere = {span.span_id: span.trace_id for span in spans}
        linked += sum(row[3] is not None and elsewhere[row[3]] != elsewhere[row[0]] for row in at_once)
    assert linked > 1
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))


async def test_roots_of_senders_that_stand_beside_each_other_are_one_call_in_any_order_and_split(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(38)
    servers = [server(services) for _ in range(3)]
    for case in range(8):
        at, usage = START + timedelta(seconds=case), {"completion_tokens": 40, "service_name": "tea"}
        calls = [
            reporting(
                10 * case + number, 100 * case + number, None, "chat", tokens, ts=at - timedelta(milliseconds=number),
                duration_ms=100.0 + number, cached_tokens=cached, attributes={"otel.scope.name": scope}, **usage,
            )
            for number, (scope, tokens, cached) in enumerate(TWINS, start=1)
        ]  # fmt: skip
        apart = reporting(
            10 * case + 9, 100 * case + 9, None, "chat", 5, ts=at, duration_ms=400.0,
            attributes={"otel.scope.name": TWINS[0][0]}, **usage,
        )  # fmt: skip
        pieces = [*calls, apart]
        chance.shuffle(pieces)
        if case % 4 == 0:
            await send(servers[0], pieces)
        elif case % 4 == 1:
            await asyncio.gather(*(send_patiently(one, [[piece]]) for one, piece in zip(servers, pieces, strict=True)))
        else:
            for piece in pieces:
                await send(chance.choice(servers), [piece])
        for piece in pieces:  # once more: nothing changes
            await send(chance.choice(servers), [piece])
        left_out = [row for number in (1, 2, 9) for row in await rows_of(owner, 10 * case + number) if not row[1]]
        assert [(row[0], row[2], row[3]) for row in left_out] == [(calls[0].span_id, 6, calls[1].span_id)]
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))


def run_as_told(trace: int, at: datetime, scope: str, *, tells_usage: bool) -> list[SpanRecord]:
    """Return a run of two calls as one of two senders tells it, who keep traces apart."""
    usage = {"completion_tokens": 40} if tells_usage else {}
    shared = {"service_name": "tea", "attributes": {"otel.scope.name": scope}}
    late = 0.1 if tells_usage else 0.3
    spans = [reporting(trace, 100 * trace, None, "workflow", 0, ts=at, duration_ms=500 - late, **shared)]
    for number, (begin, lasts) in enumerate(((20, 200), (240, 80)), start=1):
        spans.append(
            reporting(
                trace, 100 * trace + number, 100 * trace, "chat", 90 if tells_usage else 0, model="gpt-4o",
                ts=at + timedelta(milliseconds=begin + late),
                duration_ms=lasts if tells_usage else lasts + 42.0, **usage, **shared,
            )
        )  # fmt: skip
    return spans


async def test_runs_that_two_senders_keep_apart_count_once_in_any_order_and_split(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(92)
    servers = [server(services) for _ in range(3)]
    for case in range(8):
        at = START + timedelta(seconds=2 * case)
        runs = [  # the second run is at the same time as the first
            run_as_told(10 * case + number, at + timedelta(milliseconds=5 * (number // 3)), scope, tells_usage=tells)
            for number, (scope, tells) in enumerate([*RUN_TELLERS, *RUN_TELLERS], start=1)
        ][: 2 if case % 2 else 4]
        spans = [span for run in runs for span in run]
        if case < 2:
            await send(servers[0], spans)
        else:
            await send_in_pieces(chance, servers, spans, at_once=False)
        rows = [row for number in range(1, len(runs) + 1) for row in await rows_of(owner, 10 * case + number)]
        told = {span.span_id: (span.operation_type, span.total_tokens) for span in spans}
        calls = [row for row in rows if told[row[0]][0] == "chat"]
        assert [row[1] for row in calls] == [told[row[0]][1] is not None for row in calls]
        left_out = [(row[2], row[3]) for row in calls if not row[1]]
        assert {rule for rule, _ in left_out} == {6}
        assert len({counted_in for _, counted_in in left_out}) == len(left_out) == len(calls) // 2
    assert await stored_summaries(owner) == recomputed_summaries(await owner.fetch("SELECT * FROM llm_traces"))


RUN_TELLERS = (
    ("openinference.instrumentation.openai_agents", True),
    ("opentelemetry.instrumentation.openai_agents", False),
)


TWINS = (
    ("langtrace_python_sdk.instrumentation.anthropic.instrumentation", 5, None),
    ("com.anthropic.sdk.python", 1205, 1200),
)
"""Scope, prompt and cached part of two that tell of one call."""


async def send_patiently(writer: SpanWriter, requests: Sequence[Sequence[SpanRecord]]) -> None:
    """Send requests one after the other, each again where writers wait for each other for too long."""
    async with asyncio.timeout(60):
        for request in requests:
            while True:
                try:
                    await send(writer, request)
                    break
                except ApiError as error:
                    if getattr(error.__cause__, "sqlstate", None) not in ("40P01", "55P03"):
                        raise
                    await asyncio.sleep(0.01)


async def test_an_answer_id_that_many_traces_have_loses_no_calls(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    for trace in range(1, 9):
        await send(writer, [reporting(trace, trace, None, "chat", 100, ts=START, attributes=SAME_ANSWER)])
    assert (await counted_totals(owner))["total_tokens"] == 800


SAME_ANSWER = {"otel.scope.name": "a", "gen_ai.response.id": "constant"}


async def test_client_and_vendor_in_traces_of_their_own_are_one_call_and_share_what_they_know(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    answer = {"gen_ai.response.id": "msg_1"}
    client = reporting(1, 1, None, "chat", 100, span_kind="client", user_id="ada", attributes=answer)
    vendor = reporting(2, 2, None, "chat", 100, span_kind="server", attributes=answer, duration_ms=500.0)
    await send(server(services), [client])
    await send(server(services), [vendor])
    assert (await counted_totals(owner))["total_tokens"] == 100
    (row,) = await rows_of(owner, 2)
    assert (row[1], row[5]) == (True, "ada")
    (row,) = await rows_of(owner, 1)
    assert (row[1], row[3]) == (False, f"{2:016x}")


async def test_a_later_version_of_the_lender_is_taken_again(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    outer = reporting(1, 1, None, "chat", 100, user_id="ada", input_text="first")
    await send(writer, [reporting(1, 2, 1, "chat", 100)])
    await send(writer, [outer])
    assert (await rows_of(owner, 1))[1][5:9] == ("ada", [], None, "first")
    outer.user_id, outer.input_text, outer.duration_ms = "bob", None, outer.duration_ms + 1
    await send(writer, [outer])
    assert (await rows_of(owner, 1))[1][5:9] == ("bob", [], None, None)
    found = await owner.fetchval("SELECT count(*) FROM llm_traces WHERE search_vector @@ 'first'::tsquery")
    assert found == 0


async def test_an_agent_stops_counting_when_a_call_below_it_comes(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    await send(writer, [reporting(1, 1, None, "agent", 100), reporting(1, 2, 1, "tool", 0)])
    assert (await counted_totals(owner))["total_cost"] == 100
    await send(writer, [reporting(1, 3, 2, "chat", 70)])
    assert (await counted_totals(owner))["total_cost"] == 70
    assert [row[1] for row in await rows_of(owner, 1)] == [False, False, True]


async def test_pieces_of_two_requests_in_one_commit_are_counted_together(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    spans = [reporting(1, 1, None, "chat", 100), reporting(1, 2, 1, "chat", 100)]
    await server(services).store([prepare_span("alpha", span, request=next(_requests)) for span in spans])
    assert (await counted_totals(owner))["total_tokens"] == 100


async def test_a_row_from_before_the_rules_is_counted_with_what_comes_later(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    await send(writer, [reporting(1, 2, 1, "chat", 100)])
    await owner.execute("UPDATE llm_traces SET count_rule = NULL")
    await send(writer, [reporting(1, 1, None, "chat", 100)])
    assert (await counted_totals(owner))["total_tokens"] == 100
