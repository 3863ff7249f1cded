"""Captured signals of Codex, Gemini CLI and Qwen Code: each request to the model is one call.

Both ran against stub vendors (1,000 tokens in, of which 600 cached, 300 out, of which 120 thought), with one tool.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from server.ingest.mapping.log_mapping import MappedLogs, map_logs
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_times import to_datetime
from server.ingest.otlp.decode import decode_logs, decode_traces
from server.ingest.otlp.payload import DecodedTraces
from tests.ingest.spans_in_both_encodings import JSON, PROTOBUF

FIXTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
ENCODINGS = {JSON: "json", PROTOBUF: "pb"}
COSTS = {"codex": Decimal("0.0007"), "gemini_cli": Decimal("0.000888"), "qwen_code": Decimal("0.0007")}
"""400 new, 600 cached and 300 out, at 0.40, 0.10 and 1.60 dollars a million, and at 0.30, 0.03 and 2.50."""
WITH_SPANS = ("codex", "gemini_cli")
CALL_NAMES = {agent: f"{agent}.llm_request" for agent in COSTS} | {"qwen_code": "qwen-code.llm_request"}


def logs_of(agent: str, encoding: str = PROTOBUF) -> MappedLogs:
    decoded = decode_logs((FIXTURES / f"{agent}.logs.{ENCODINGS[encoding]}").read_bytes(), encoding)
    last = max(record.time_ns for group in decoded.groups for record in group.records)
    return map_logs(decoded, now=to_datetime(last) + timedelta(minutes=1))


def rows_of_logs(agent: str, encoding: str = PROTOBUF) -> list[SpanRecord]:
    groups = logs_of(agent, encoding).events.groups
    spans = [span for group in groups for span in group.spans]
    now = to_datetime(max(span.end_ns for span in spans)) + timedelta(minutes=1)
    batch = map_spans(DecodedTraces(groups, len(spans), 0, encoding), now=now)
    assert batch.rejected == []
    return batch.records


def rows_of_spans(agent: str) -> list[SpanRecord]:
    if agent not in WITH_SPANS:
        return []
    decoded = decode_traces((FIXTURES / f"{agent}.traces.pb").read_bytes(), PROTOBUF)
    last = max(span.end_ns for group in decoded.groups for span in group.spans)
    return map_spans(decoded, now=to_datetime(last) + timedelta(minutes=1)).records


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("agent", COSTS)
def test_each_request_is_one_call_with_its_tokens_and_cost(agent: str, encoding: str) -> None:
    counted = [row for row in [*rows_of_logs(agent, encoding), *rows_of_spans(agent)] if row.is_generation]
    assert len(counted) == 2
    for call in counted:
        assert (call.prompt_tokens, call.completion_tokens, call.total_tokens) == (1000, 300, 1300)
        assert (call.cached_tokens, call.reasoning_tokens) == (600, 120)
        assert call.total_cost_usd == COSTS[agent]
        assert call.span_name == CALL_NAMES[agent]
    assert len({call.session_id for call in counted}) == 1


@pytest.mark.parametrize("agent", WITH_SPANS)
def test_usage_on_spans_that_are_no_calls_does_not_count(agent: str) -> None:
    assert [row for row in rows_of_spans(agent) if row.total_tokens or row.is_generation] == []


@pytest.mark.parametrize("agent", COSTS)
def test_nothing_of_what_an_agent_sends_is_refused(agent: str) -> None:
    assert logs_of(agent).rejected == []


def test_calls_of_codex_stand_below_its_conversation_and_last_at_least_to_their_first_token() -> None:
    calls = [row for row in rows_of_logs("codex") if row.is_generation]
    assert {call.parent_span_id for call in calls} == {calls[0].parent_span_id}
    assert len({call.trace_id for call in calls}) == 1
    assert all(call.ttft_ms == call.duration_ms for call in calls)
    assert {call.environment for call in calls} == {"staging"}


def test_prompt_and_tool_of_codex_have_spans_of_their_own_in_its_traces() -> None:
    spans = {row.span_id for row in rows_of_spans("codex")}
    of_logs = {row.span_name: row for row in rows_of_logs("codex")}
    assert of_logs["codex.turn"].input_text == "ASKTOOL run echo"
    tool = of_logs["codex.tool"]
    assert (tool.tool_name, tool.input_text) == ("exec_command", '{"command": ["echo", "hi"], "cmd": "echo hi"}')
    assert spans.isdisjoint(row.span_id for row in of_logs.values())


def test_threads_of_codex_are_no_sessions() -> None:
    rows = rows_of_spans("codex")
    (session,) = {row.session_id for row in rows_of_logs("codex")}
    assert {row.session_id for row in rows} == {None, session}
    assert any("thread.id" in row.attributes for row in rows)


def test_answers_of_gemini_cli_are_read_from_the_pieces_of_a_stream() -> None:
    calls = [row for row in rows_of_logs("gemini_cli") if row.is_generation]
    assert [call.output_text for call in calls] == ['[tool_call list_directory({"dir_path":"."})]', "In Lyon."]
