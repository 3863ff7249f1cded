"""A call of a tool over MCP is one tool, however many tell of it: in any order, in any number of requests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.counting.count_rules import TOOL_CALL
from server.ingest.counting.tool_counting import TOOL_NAME
from server.ingest.mapping.request_counts import count_calls_once
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import decode_traces
from tests.conftest import ProjectMaker
from tests.export.test_otlp_export import encoded, taken_in
from tests.ingest.spans_in_both_encodings import JSON, NOW, as_json, request, span
from tests.ingest.test_captured_payloads import rows
from tests.ingest.test_counts_of_split_traces import copies, moved, reporting, rows_of, send, send_in_pieces, server

MCP = {"mcp.method.name": "tools/call"}
TOOL = {"gen_ai.operation.name": "execute_tool"}


def tell(number: int, parent: int | None, name: str, values: dict[str, Any], **fields: Any) -> dict[str, Any]:
    above = {} if parent is None else {"parentSpanId": f"{parent:016x}"}
    return span(values, spanId=f"{number:016x}", name=name, **above, **fields)


def tools(*spans: dict[str, Any], scope: str = "") -> list[tuple[str, str | None, int | None]]:
    records = map_spans(decode_traces(as_json(request(*spans, scope=scope)), JSON), now=NOW).records
    assert not any(record.is_generation for record in records)
    return [(record.operation_type, record.tool_name, record.count_rule) for record in records]


def named(name: str) -> dict[str, str]:
    return {"gen_ai.tool.name": name}


def test_client_library_sdk_and_server_tell_of_one_call() -> None:
    spans = [
        tell(1, None, "invoke_agent", {"gen_ai.operation.name": "invoke_agent"}),
        tell(2, 1, "tools/call track", MCP | TOOL | named("track")),
        tell(3, 2, "MCP send tools/call track", MCP),
        tell(4, 3, "POST", {}),
        tell(5, 4, "tools/call track", MCP | TOOL | named("track"), kind=2),
    ]
    expected = [("agent", None, None), ("tool", "track", 9), ("chain", None, 10), ("other", None, None),
                ("chain", None, 10)]  # fmt: skip
    assert tools(*spans) == expected
    assert tools(*reversed(spans)) == expected[::-1]


def test_fastmcp_sends_three_spans_of_a_call() -> None:
    told = [record for record in rows("fastmcp") if "tools/call" in record.span_name]
    called = [record for record in told if record.operation_type == "tool"]
    assert [(record.tool_name, record.span_kind, record.status_code) for record in called] == [
        ("get_weather", "client", "OK"), ("get_weather", "client", "ERROR"),
    ]  # fmt: skip
    others = [record for record in told if record not in called]
    assert [(record.operation_type, record.tool_name, record.count_rule) for record in others] == [
        ("chain", None, 10)
    ] * 4
    assert {record.counted_in for record in others} == {record.span_id for record in called}


def test_what_was_exported_is_decided_again() -> None:
    records = rows("fastmcp")
    assert list(taken_in(encoded(records), records[-1].ts + timedelta(minutes=5))) == records


@pytest.mark.parametrize(
    ("outer", "inner", "is_one"),
    [
        ("track", "track", True), ("Track", "track", True), ("mcp__parcels__track", "track", True),
        ("parcels.track", "track", True), ("research", "track", False), ("get_track", "track", False),
        ("backtrack", "track", False),
    ],
)  # fmt: skip
def test_the_tool_that_a_framework_runs_is_the_call_if_it_has_the_same_name(
    outer: str, inner: str, is_one: bool
) -> None:
    told = tools(tell(1, None, "run tool", TOOL | named(outer)), tell(2, 1, "tools/call", MCP | named(inner)))
    assert told == [("tool", outer, None), ("chain", None, 10) if is_one else ("tool", inner, 9)]


def test_a_proxy_may_put_one_more_name_before_that_of_the_tool() -> None:
    proxied = tools(tell(1, None, "c", MCP | named("parcels_track")), tell(2, 1, "s", MCP | named("track")))
    assert proxied == [("tool", "parcels_track", 9), ("chain", None, 10)]


def test_a_tool_that_an_agent_below_a_tool_calls_is_a_call_of_its_own() -> None:
    told = tools(
        tell(1, None, "a", MCP | named("ask")),
        tell(2, 1, "b", {"gen_ai.operation.name": "invoke_agent"}),
        tell(3, 2, "c", MCP | named("ask")),
    )
    assert [rule for _, _, rule in told] == [9, None, 9]


def test_a_server_whose_client_tells_nothing_is_the_call() -> None:
    assert tools(tell(1, 7, "tools/call track", MCP, kind=2)) == [("tool", "track", 9)]
    assert tools(tell(1, None, "agent run", {}), tell(2, 1, "s", MCP | named("track"))) == [
        ("other", None, None), ("tool", "track", 9),
    ]  # fmt: skip


def test_tools_in_a_ring_are_all_calls() -> None:
    assert [rule for _, _, rule in tools(tell(1, 2, "a", MCP), tell(2, 1, "b", MCP))] == [9, 9]


def test_an_instrumentation_that_names_no_method_is_known_by_its_scope() -> None:
    kind = {"traceloop.span.kind": "tool", "traceloop.entity.name": "track"}
    told = tools(
        tell(1, None, "track.tool", kind), tell(2, 1, "track.tool", kind), scope="opentelemetry.instrumentation.mcp"
    )
    assert told == [("tool", "track", 9), ("chain", None, 10)]


def test_autogen_and_an_instrumentation_tell_of_one_tool() -> None:
    told = tell(1, None, "w.track", {"openinference.span.kind": "TOOL", "tool.name": "track"})
    document = request(told, scope="openinference.instrumentation.autogen_agentchat")
    own = request(tell(2, 1, "execute_tool track", TOOL | named("track")), scope="autogen-core")
    document["resourceSpans"] += own["resourceSpans"]
    records = map_spans(decode_traces(as_json(document), JSON), now=NOW).records
    assert [(record.operation_type, record.count_rule) for record in records] == [("tool", 14), ("chain", 15)]


def random_tools(chance: random.Random, trace: int) -> list[SpanRecord]:
    """Return agents, requests, tools of frameworks and of MCP below each other."""
    spans = []
    for number in range(1, chance.randint(3, 9)):
        parent = chance.choice([None, *range(1, number), number - 1]) if number > 1 else None
        kind = chance.choice(["mcp", "mcp", "mcp", "tool", "other", "agent", "chat"])
        name = chance.choice(["track", "mcp__track", "weigh", None]) if kind in ("mcp", "tool") else None
        record = reporting(
            trace, number, parent, "tool" if kind == "mcp" else kind, 100 if kind == "chat" else 0,
            tool_name=name, user_id=chance.choice([None, "ada"]),
            attributes={"gen_ai.response.id": "", **({TOOL_NAME: name} if name and kind == "mcp" else {})},
        )  # fmt: skip
        if kind == "mcp":
            record.count_rule = TOOL_CALL
        spans.append(record)
    return spans


async def test_any_order_and_split_ends_as_one_request_does(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    chance = random.Random(9)
    servers = [server(services) for _ in range(2)]
    rules: Counter[Any] = Counter()
    for trace in range(1, 41):
        spans = random_tools(chance, 2 * trace)
        await send(servers[0], spans)
        await send_in_pieces(chance, servers, moved(spans, trace_offset=1), at_once=trace % 2 == 1)
        at_once = await rows_of(owner, 2 * trace)
        assert await rows_of(owner, 2 * trace + 1) == at_once, [(s.span_id, s.parent_span_id) for s in spans]
        rules.update(row[2] for row in at_once)
    assert rules[9] > 10
    assert rules[10] > 10
    labels = await owner.fetch(
        "SELECT t.span_id FROM llm_traces t JOIN span_dimensions d USING (project_id, dim_id)"
        " WHERE d.operation_type <> t.operation_type OR d.tool_name <> coalesce(t.tool_name, '')"
    )
    assert labels == []


async def counts_by_tool(owner: asyncpg.Connection) -> dict[str, int]:
    rows = await owner.fetch("SELECT tool_name, count(*) AS n FROM llm_traces WHERE tool_name IS NOT NULL GROUP BY 1")
    return {row["tool_name"]: row["n"] for row in rows}


async def test_the_framework_may_come_last_and_a_replay_changes_nothing(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = server(services)
    called, served = (
        reporting(1, number, number - 1, "tool", 0, tool_name="track", count_rule=TOOL_CALL,
                  attributes={TOOL_NAME: "track"})
        for number in (2, 3)
    )  # fmt: skip
    spans: Sequence[SpanRecord] = [served, called, reporting(1, 1, None, "tool", 0, tool_name="track")]
    for one, told in zip(spans, ([9], [9, 10], [None, 10, 10]), strict=True):
        await send(writer, [one])
        assert [row[2] for row in await rows_of(owner, 1)] == told
        assert await counts_by_tool(owner) == {"track": 1}
    for one in spans:
        await send(writer, [one])
    assert await counts_by_tool(owner) == {"track": 1}
    at_once = copies(spans)
    count_calls_once(at_once)
    assert sorted((s.span_id, s.operation_type, s.tool_name) for s in at_once) == [
        (row[0], row[-2], row[-1]) for row in await rows_of(owner, 1)
    ]
