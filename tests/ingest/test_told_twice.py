"""A run of an agent, or a call of a tool, counts once, however many instrumentations tell of it: in any order, in any
number of requests. The captured pairs are of instrumentations that were run together.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.counting.count_rules import (
    AGENT_RUN,
    REPEATED_USAGE,
    SAME_AGENT_RUN,
    SAME_RUN_USAGE,
    SAME_WINDOW,
    TOLD_TOOL,
    TOOL_TOLD_TWICE,
    USAGE_WITHOUT_CALL,
)
from server.ingest.mapping.request_counts import count_calls_once
from server.ingest.mapping.span_record import SpanRecord
from tests.conftest import ProjectMaker
from tests.export.test_otlp_export import encoded, taken_in
from tests.ingest.test_captured_payloads import rows
from tests.ingest.test_counts_of_split_traces import START, moved, reporting, rows_of, send_in_pieces, server

Told = list[tuple[str, str | None, int | None]]


def entity(number: int, parent: int | None, operation: str, name: str | None, scope: str, **fields: Any) -> SpanRecord:
    """Return a span of an agent or a tool; other operations have no name."""
    named = {"agent": {"agent_name": name}, "tool": {"tool_name": name}}.get(operation, {})
    attributes = {"otel.scope.name": scope, "gen_ai.response.id": ""}
    return reporting(1, number, parent, operation, fields.pop("tokens", 0), attributes=attributes, **named, **fields)


def counted(*spans: SpanRecord) -> Told:
    count_calls_once(spans)
    return [(span.operation_type, span.tool_name or span.agent_name, span.count_rule) for span in spans]


@pytest.mark.parametrize(
    ("scenario", "agents", "tools", "calls", "input_tokens"),
    [
        # OpenTelemetry's instrumentation round OpenInference's, and that of the client
        ("told_twice_agno", {"forecaster": 2, "crew": 1, "bad": 1}, {"get_weather": 1}, 6, 600),
        # OpenInference's round OpenTelemetry's: tools too
        ("told_twice_openai_agents", {"helper": 1, "planner": 1, "resp": 1, "bad": 1}, {"get_weather": 1}, 6, 600),
        # Logfire's beside OpenInference's, each below spans of the other
        ("told_twice_logfire", {"helper": 1, "planner": 1, "resp": 1, "bad": 1}, {"get_weather": 1}, 6, 600),
        # OpenInference's, OpenTelemetry's and Traceloop's; the last tells of making an agent as well
        ("told_twice_langchain", {"forecaster": 2, "bad": 2}, {"get_weather": 1}, 3, 240),
    ],
)  # fmt: skip
def test_instrumentations_that_were_run_together(
    scenario: str, agents: dict[str, int], tools: dict[str, int], calls: int, input_tokens: int
) -> None:
    records = rows(scenario)
    assert Counter(record.agent_name for record in records if record.operation_type == "agent") == agents
    called = Counter(record.tool_name for record in records if record.operation_type == "tool")
    assert {name: called[name] for name in tools} == tools
    generations = [record for record in records if record.is_generation]
    assert len(generations) == calls
    assert sum(record.prompt_tokens or 0 for record in generations) == input_tokens


def test_what_was_exported_is_decided_again() -> None:
    records = rows("told_twice_langchain")
    assert list(taken_in(encoded(records), records[-1].ts + timedelta(minutes=5))) == records


def test_the_run_takes_what_the_other_report_of_it_has() -> None:
    runs = [record for record in rows("told_twice_openai_agents") if record.count_rule == AGENT_RUN]
    assert [run.session_id for run in runs if run.agent_name == "helper"] == ["s-1"]


def test_two_scopes_that_tell_of_one_agent_below_each_other() -> None:
    spans = entity(1, None, "agent", "tea", "a"), entity(2, 1, "chain", None, "b"), entity(3, 2, "agent", "Tea", "b")
    assert counted(*spans) == [("agent", "tea", AGENT_RUN), ("chain", None, None), ("chain", "Tea", SAME_AGENT_RUN)]
    assert spans[2].counted_in == spans[0].span_id


@pytest.mark.parametrize(
    "inner",
    [
        [entity(2, 1, "agent", "tea", "a")],  # one scope: a run of its own
        [entity(2, 1, "agent", "milk", "b")],
        [entity(2, 1, "tool", "ask", "b"), entity(3, 2, "agent", "tea", "b")],
        [entity(2, 1, "agent", None, "b", duration_ms=100.0)],  # without a name, and much shorter
    ],
    ids=["scope", "name", "tool", "nameless"],
)  # fmt: skip
def test_agents_that_are_two(inner: list[SpanRecord]) -> None:
    told = counted(entity(1, None, "agent", "tea", "a"), *inner)
    assert [operation for operation, _, _ in told].count("agent") == 2


def test_an_agent_that_hands_over_to_itself_has_two_runs() -> None:
    told = counted(*(entity(number, number - 1 or None, "agent", "tea", "ab"[number % 2]) for number in (1, 2, 3, 4)))
    assert [(operation, rule) for operation, _, rule in told] == [
        ("agent", AGENT_RUN), ("chain", SAME_AGENT_RUN), ("agent", AGENT_RUN), ("chain", SAME_AGENT_RUN),
    ]  # fmt: skip


def test_of_spans_beside_each_other_the_longest_is_the_run_and_pairs_stay_pairs() -> None:
    root = entity(1, None, "workflow", None, "a")
    tools = [
        entity(number, 1, "tool", "track", scope, ts=START + timedelta(milliseconds=at), duration_ms=length)
        for number, scope, at, length in ((2, "a", 0, 90), (3, "a", 2, 91), (4, "b", 0, 91), (5, "b", 2, 90))
    ]  # fmt: skip
    later = [
        entity(number, 1, "tool", "track", scope, ts=START + timedelta(milliseconds=300), duration_ms=50)
        for number, scope in ((6, "a"), (7, "b"))
    ]
    told = counted(root, *tools, *later)
    assert [rule for _, _, rule in told[1:]] == [
        TOOL_TOLD_TWICE, TOLD_TOOL, TOLD_TOOL, TOOL_TOLD_TWICE, TOLD_TOOL, TOOL_TOLD_TWICE,
    ]  # fmt: skip
    assert Counter(name for _, name, _ in told) == {"track": 3, None: 4}


def test_two_tools_one_after_the_other_are_two_whoever_tells() -> None:
    spans = [
        entity(number, None, "tool", "track", scope, ts=START + timedelta(milliseconds=at), duration_ms=20)
        for number, scope, at in ((1, "a", 0), (2, "b", 30))
    ]
    assert counted(*spans) == [("tool", "track", None)] * 2


def test_usage_that_only_the_inner_report_has_counts() -> None:
    told = counted(entity(1, None, "agent", "tea", "a"), entity(2, 1, "agent", "tea", "b", tokens=70))
    assert told == [("agent", "tea", AGENT_RUN), ("chain", "tea", SAME_RUN_USAGE)]
    told = counted(entity(1, None, "agent", "tea", "a", tokens=70), entity(2, 1, "agent", "tea", "b"))
    assert told == [("agent", "tea", USAGE_WITHOUT_CALL), ("chain", "tea", SAME_AGENT_RUN)]


def test_a_sum_beside_the_calls_that_it_is_made_of_counts_nothing() -> None:
    root = entity(1, None, "workflow", None, "a")
    calls = [entity(number, 1, "chat", None, "a", tokens=70) for number in (3, 4)]
    assert counted(root, entity(2, 1, "chain", None, "b", tokens=140), *calls)[1][2] == REPEATED_USAGE
    assert counted(root, entity(2, 1, "chain", None, "b", tokens=139), *calls)[1][2] == USAGE_WITHOUT_CALL


def test_a_call_that_fails_in_two_branches_of_a_trace_is_one() -> None:
    roots = [entity(number, None, "chain", None, "a") for number in (1, 2)]
    calls = [
        entity(number, number - 2, "chat", None, scope, ts=START, duration_ms=length, model="m", status_code="ERROR")
        for number, scope, length in ((3, "a", 40), (4, "b", 45))
    ]
    assert sorted(rule or 0 for _, _, rule in counted(*roots, *calls)[2:]) == [1, SAME_WINDOW]
    calls[1].duration_ms = 80
    assert [rule for _, _, rule in counted(*roots, *calls)[2:]] == [1, SAME_WINDOW] or calls[1].count_rule == 1


def random_runs(chance: random.Random, trace: int) -> list[SpanRecord]:
    """Return agents and tools of three scopes below and beside each other, some with usage, and calls."""
    spans = []
    for number in range(1, chance.randint(4, 11)):
        operation = chance.choice(["agent", "agent", "tool", "tool", "chain", "other", "workflow", "chat"])
        holds_usage = operation == "chat" or (operation == "agent" and chance.random() < 0.3)
        record = entity(
            number, chance.choice([None, *range(1, number), number - 1]) if number > 1 else None, operation,
            chance.choice(["tea", "milk", None]), chance.choice("abc"), tokens=100 if holds_usage else 0,
            user_id=chance.choice([None, "ada"]),
            ts=START + timedelta(milliseconds=chance.choice([number, 80 * number])),
            duration_ms=chance.choice([400.0, 1000.0 - 2 * number]),
        )  # fmt: skip
        record.trace_id = f"{trace:032x}"
        spans.append(record)
    return spans


async def test_any_order_and_split_ends_as_one_request_does(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(16)
    servers = [server(services) for _ in range(2)]
    rules: Counter[Any] = Counter()
    for trace in range(1, 61):
        spans = random_runs(chance, 2 * trace)
        await send_in_pieces(random.Random(1), servers[:1], spans, at_once=False)
        await send_in_pieces(chance, servers, moved(spans, trace_offset=1), at_once=trace % 2 == 1)
        first = await rows_of(owner, 2 * trace)
        assert await rows_of(owner, 2 * trace + 1) == first, [(s.span_id, s.parent_span_id) for s in spans]
        count_calls_once(spans)
        assert [row[:4] for row in first] == [
            (span.span_id, span.is_generation, span.count_rule, span.counted_in)
            for span in sorted(spans, key=lambda span: span.span_id)
        ]
        rules.update(row[2] for row in first)
    assert min(rules[rule] for rule in (AGENT_RUN, SAME_AGENT_RUN, TOLD_TOOL, TOOL_TOLD_TWICE)) > 3
    assert rules[SAME_RUN_USAGE] > 0
