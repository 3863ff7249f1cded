"""Coding agents that report in log records: their events are calls with tokens and cost, in a trace for each turn."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from server.ingest.mapping.log_mapping import MappedLogs, map_logs
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import decode_logs
from server.ingest.otlp.payload import DecodedTraces
from tests.conftest import ProjectMaker
from tests.ingest.spans_in_both_encodings import JSON, NOW, NOW_NS, as_json, attributes
from tests.span_factory import texts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "otlp"


def event(name: str, at: int = NOW_NS, trace_id: str = "", span_id: str = "", **values: Any) -> dict[str, Any]:
    named = {key.replace("__", "."): value for key, value in values.items()}
    return {
        "timeUnixNano": str(at), "body": {"stringValue": name}, "traceId": trace_id, "spanId": span_id,
        "attributes": attributes(named),
    }  # fmt: skip


def mapped(*records: dict[str, Any], scope: str = "") -> MappedLogs:
    document = {"resourceLogs": [{"scopeLogs": [{"scope": {"name": scope}, "logRecords": list(records)}]}]}
    return map_logs(decode_logs(as_json(document), JSON), now=NOW)


def calls(result: MappedLogs) -> list[SpanRecord]:
    groups = result.events.groups
    batch = map_spans(DecodedTraces(groups, sum(len(group.spans) for group in groups), 0, JSON), now=NOW)
    assert batch.rejected == []
    return batch.records


CAPTURED_NS = 1_795_891_800_000_000_000
_TIME = re.compile(r'(UnixNano": ")(\d+)')


def captured(name: str, signal: str, shift_ns: int) -> bytes:
    """Return a captured request in JSON, as if it were sent ``shift_ns`` later."""
    text = (FIXTURES / f"{name}.{signal}.json").read_text()
    return _TIME.sub(lambda found: found[1] + str(int(found[2]) + shift_ns), text).encode()


CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-5", "session__id": "s-1", "prompt__id": "p-1"}


def test_a_turn_of_claude_code_is_a_trace_of_its_prompt_call_and_tool() -> None:
    result = mapped(
        event("claude_code.user_prompt", prompt="rename it", **CLAUDE),
        event("claude_code.api_request", NOW_NS + 9, duration_ms=1200, input_tokens=3, output_tokens=40,
              cache_read_tokens=500, cost_usd=0.0042, request_id="req_1", user__email="kim@example.org", **CLAUDE),
        event("claude_code.tool_result", NOW_NS + 10, tool_name="Edit", tool_use_id="t-1", success="false", **CLAUDE),
        event("claude_code.assistant_response", NOW_NS + 11, response="done", request_id="req_1", **CLAUDE),
    )  # fmt: skip
    prompt, call, tool = calls(result)
    assert len({record.trace_id for record in (prompt, call, tool)}) == 1
    assert (prompt.operation_type, prompt.input_text, prompt.parent_span_id) == ("agent", "rename it", None)
    assert call.parent_span_id == tool.parent_span_id == prompt.span_id
    assert (call.is_generation, call.completion_tokens, call.cached_tokens) == (True, 40, 500)
    assert (call.total_cost_usd, call.cost_source, call.user_id) == (Decimal("0.0042"), "reported", "kim@example.org")
    assert (call.session_id, call.duration_ms, call.dialect) == ("s-1", 1200.0, "claude_code")
    assert (tool.operation_type, tool.tool_name, tool.status_code) == ("tool", "Edit", "ERROR")
    (answer,) = result.updates
    assert (answer.span_id, answer.columns) == (call.span_id, {"output_text": "done"})


def test_a_failed_request_of_claude_code_is_a_failed_call() -> None:
    (call,) = calls(mapped(event("claude_code.api_error", error="Overloaded", status_code="529", **CLAUDE)))
    assert (call.status_code, call.error_message, call.is_generation) == ("ERROR", "Overloaded", True)


def test_events_within_a_trace_of_claude_code_are_told_by_its_spans() -> None:
    record = event("claude_code.api_request", NOW_NS, "a" * 32, "b" * 16, input_tokens=3, **CLAUDE)
    result = mapped(record)
    assert (result.events.groups, result.ignored, result.rejected) == ([], 0, [])


def test_codex_reports_the_tokens_of_a_completed_response() -> None:
    values: dict[str, Any] = {"conversation__id": "c-1", "model": "gpt-5.1-codex", "user__account_id": "7"}
    counts: dict[str, Any] = {
        "input_token_count": 700,
        "cached_token_count": 256,
        "output_token_count": 90,
        "reasoning_token_count": 64,
    }
    result = mapped(
        event("codex.sse_event", event__kind="response.output_item.done", **values),
        event("codex.sse_event", event__kind="response.completed", user__email="kim@example.org", **values, **counts),
        event("codex.tool_result", tool_name="shell", arguments='{"c": "ls"}', output="a b", call_id="1", **values),
    )
    call, tool = calls(result)
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens, call.reasoning_tokens) == (700, 256, 90, 64)
    assert (call.provider, call.model, call.session_id, call.user_id) == (
        "openai", "gpt-5.1-codex", "c-1", "kim@example.org",
    )  # fmt: skip
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("shell", '{"c": "ls"}', "a b")
    assert result.ignored == 1


def test_gemini_cli_counts_thoughts_beside_the_answer() -> None:
    values: dict[str, Any] = {"session__id": "s-1", "prompt_id": "p-1", "model": "gemini-2.5-pro"}
    record = event(
        "gemini_cli.api_response", input_token_count=100, output_token_count=30, thoughts_token_count=20,
        total_token_count=150, response_text="yes", **values,
    )  # fmt: skip
    (call,) = calls(mapped(record))
    assert (call.prompt_tokens, call.completion_tokens, call.reasoning_tokens, call.total_tokens) == (100, 50, 20, 150)
    assert (call.provider, call.output_text, call.session_id) == ("google", "yes", "s-1")


def test_the_scope_tells_the_agent_where_no_name_does() -> None:
    request = event("", event__name="api_request", input_tokens=6, output_tokens=5, **CLAUDE)
    (call,) = calls(mapped(request, scope="com.anthropic.claude_code.events"))
    assert (call.operation_type, call.prompt_tokens, call.session_id) == ("chat", 6, "s-1")
    assert mapped(request).ignored == 1


def test_a_failed_request_of_codex_is_a_call_and_one_that_is_answered_is_told_by_the_answer() -> None:
    refused = event("codex.api_request", conversation__id="c", model="gpt-5-codex", error__message="slow down")
    answered = event("codex.api_request", conversation__id="c", model="gpt-5-codex", attempt=1)
    result = mapped(refused, answered)
    (call,) = calls(result)
    assert (call.status_code, call.error_message, call.session_id) == ("ERROR", "slow down", "c")
    assert result.ignored == 1


def test_a_response_of_codex_that_failed_is_a_failed_call_and_one_told_twice_is_one() -> None:
    values: dict[str, Any] = {"conversation__id": "c", "model": "gpt-5-codex"}
    result = mapped(
        event("codex.sse_event", event__kind="response.failed", error__message="cut off", **values),
        event("codex.sse_event", NOW_NS + 1, event__kind="response.completed", duration_ms="5", **values),
        event("codex.sse_event", NOW_NS + 2, event__kind="response.completed", input_token_count="0", **values),
    )
    failed, answered = calls(result)
    assert (failed.status_code, failed.error_message) == ("ERROR", "cut off")
    assert (answered.status_code, answered.prompt_tokens) == ("OK", None)  # 0 says that nothing was told
    assert failed.trace_id == answered.trace_id


@pytest.mark.parametrize(("scope", "counted"), [("gemini-cli", 0), ("qwen-code", 0), ("other", 1)])
def test_the_record_of_the_convention_is_no_call_beside_events_of_its_sender(scope: str, counted: int) -> None:
    record = event(
        "", gen_ai__request__model="gemini-2.5-pro", gen_ai__response__id="r", gen_ai__usage__input_tokens=7,
    )  # fmt: skip
    record["eventName"] = "gen_ai.client.inference.operation.details"
    result = mapped(record, scope=scope)
    assert (len(result.events.groups), result.ignored, result.rejected) == (counted, 1 - counted, [])


def test_a_prompt_opens_the_turn_of_its_calls() -> None:
    asked = event("gemini_cli.user_prompt", session__id="s", prompt_id="p", prompt="fix it")
    response = event("gemini_cli.api_response", session__id="s", prompt_id="p", model="gemini-2.5-pro")
    turn, call = calls(mapped(asked, response))
    assert (turn.operation_type, turn.input_text, turn.session_id) == ("agent", "fix it", "s")
    assert (call.trace_id, call.parent_span_id) == (turn.trace_id, turn.span_id)


def test_a_fork_sends_the_events_of_its_origin_and_has_a_provider_of_its_own() -> None:
    (call,) = calls(mapped(event("qwen-code.api_response", model="qwen3-coder", input_token_count=7)))
    assert (call.operation_type, call.prompt_tokens, call.provider) == ("chat", 7, None)
    assert call.span_name == "qwen-code.llm_request"


@pytest.mark.parametrize("at", [0, NOW_NS + 10**15])
def test_an_event_without_a_sound_time_is_rejected(at: int) -> None:
    result = mapped(event("claude_code.api_request", at, **CLAUDE))
    assert [item.reason for item in result.rejected] == ["in_future" if at else "missing_start_time"]


async def test_what_claude_code_sends_by_default_is_stored_once_with_its_cost(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    headers = {**bearer("developer", ["alpha"]), "content-type": JSON}
    shift_ns = time.time_ns() - CAPTURED_NS
    for _ in range(2):
        body = captured("claude_code_default", "logs", shift_ns)
        response = await client.post("/v1/logs", content=body, headers=headers)
        assert (response.status_code, response.json()) == (200, {})
    rows = await owner.fetch("SELECT * FROM llm_traces WHERE is_generation ORDER BY ts")
    assert [row["total_cost_usd"] for row in rows] == [Decimal("0.0009494999999999999").quantize(Decimal("1e-10"))] * 2
    listed = await texts(client, headers, {"is_generation": "true", "sort_order": "asc"})
    assert [row["output_text"] for row in listed] == [None, "In Lyon."]
    summary = await owner.fetchrow("SELECT * FROM trace_summaries")
    assert summary is not None
    assert (summary["root_span_name"], summary["generation_count"]) == ("claude_code.interaction", 2)


async def test_claude_code_with_traces_on_counts_each_call_once(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    headers = {**bearer("developer", ["alpha"]), "content-type": JSON}
    for signal in ("logs", "traces"):
        body = captured("claude_code", signal, time.time_ns() - CAPTURED_NS)
        assert (await client.post(f"/v1/{signal}", content=body, headers=headers)).status_code == 200
    rows = await owner.fetch("SELECT * FROM llm_traces WHERE is_generation ORDER BY ts")
    assert [(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) for row in rows] == [
        (100, 50, 40)
    ] * 2
    tool = await owner.fetchrow("SELECT * FROM llm_traces WHERE operation_type = 'tool'")
    assert tool is not None
    (listed,) = await texts(client, headers, {"operation_type": "tool"})
    assert (tool["tool_name"], listed["input_text"]) == ("Bash", "echo in Lyon")


DETAILS = "gen_ai.client.inference.operation.details"
COPILOT: dict[str, Any] = {
    "gen_ai__operation__name": "chat", "gen_ai__request__model": "gpt-4o", "gen_ai__response__id": "chatcmpl-1",
    "gen_ai__conversation__id": "c-1", "gen_ai__usage__input_tokens": 120, "gen_ai__usage__output_tokens": 30,
}  # fmt: skip


def test_request_of_copilot_outside_of_any_trace_is_a_call_of_its_own() -> None:
    sent = event("GenAI inference: gpt-4o", event__name=DETAILS, **COPILOT)
    result = mapped(sent, scope="copilot-chat")
    (call,) = calls(result)
    assert (call.operation_type, call.parent_span_id, call.session_id) == ("chat", None, "c-1")
    assert (call.prompt_tokens, call.total_cost_usd) == (120, Decimal("0.0006"))
    assert (result.rejected, result.updates) == ([], [])
    (again,) = calls(mapped({**sent, "traceId": "0" * 32, "spanId": "0" * 16}))
    assert (again.trace_id, again.span_id) == (call.trace_id, call.span_id)


def test_content_outside_of_any_trace_that_tells_no_model_is_refused() -> None:
    result = mapped(event("", event__name=DETAILS, gen_ai__input__messages="[]"))
    assert [refused.reason for refused in result.rejected] == ["invalid_trace_id"]
    assert result.events.groups == []
