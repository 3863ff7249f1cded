"""Payloads of instrumentations of clients and voice, whose calls the stub of tests/instrumentations answered."""

from __future__ import annotations

from decimal import Decimal

import pytest

from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.test_captured_payloads import ANSWER, GPT4O_COST, QUESTION, rows

SCENARIOS = {
    # scenario: what its calls cost together, calls with usage, without, refused
    "openinference_pipecat": (GPT4O_COST[True], 1, 0, 0),
    "openinference_groq": (2 * Decimal("0.0000945"), 2, 1, 1),
    "openinference_autogen": (2 * GPT4O_COST[False], 2, 1, 1),
    "traceloop_mistral": (3 * Decimal("0.00042") + Decimal("0.0000008"), 4, 0, 1),
}


def counted(scenario: str) -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.is_generation]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_call_counts_once_and_to_the_cent(scenario: str) -> None:
    cost, answered, silent, refused = SCENARIOS[scenario]
    calls = counted(scenario)
    assert sum(record.total_cost_usd or 0 for record in calls) == cost
    good = [record for record in calls if record.total_tokens]
    assert len(good) == answered
    assert all(record.provider and record.model for record in good)
    failed = [record for record in calls if record.status_code == "ERROR"]
    assert [(record.total_tokens, record.total_cost_usd) for record in failed] == [(None, None)] * refused
    assert all("429" in (record.error_message or "") for record in failed)
    assert len(calls) == answered + silent + refused


def test_pipecat_through_openinference_names_the_model_beside_the_word_unknown() -> None:
    (call,) = counted("openinference_pipecat")
    assert (call.model, call.session_id, call.cached_tokens, call.reasoning_tokens) == ("gpt-4o", "c-7", 100, 10)
    assert (call.input_text or "").endswith(QUESTION)
    assert call.output_text == ANSWER
    assert call.ttft_ms is not None
    assert 0 < call.ttft_ms < call.duration_ms


def test_a_stream_that_groq_had_not_read_is_no_answer() -> None:
    assert sorted(record.output_text or "" for record in counted("openinference_groq")) == [
        "", "", ANSWER, '[tool_call get_weather({"city":"Paris"})]',
    ]  # fmt: skip


def test_mistrals_client_tells_of_the_same_calls_as_the_instrumentation() -> None:
    told = [record for record in rows("traceloop_mistral") if record.operation_type in ("chat", "embedding")]
    assert len(told) == 10
    chats = [
        record for record in counted("traceloop_mistral") if record.total_tokens and record.operation_type == "chat"
    ]
    assert [(record.cached_tokens, record.prompt_tokens) for record in chats] == [(100, 120)] * 3
    (embedding,) = (record for record in counted("traceloop_mistral") if record.operation_type == "embedding")
    assert embedding.prompt_tokens == 8


def test_autogen_and_the_instrumentation_tell_of_one_tool_and_of_the_failure() -> None:
    tools = [record for record in rows("openinference_autogen") if record.operation_type == "tool"]
    assert [(record.tool_name, record.input_text, record.output_text) for record in tools] == [
        ("get_weather", '{"city": "Paris"}', "sunny")
    ]
    failed = [record for record in rows("openinference_autogen") if record.status_code == "ERROR"]
    assert {record.operation_type for record in failed} == {"agent", "chat"}
    assert {record.provider for record in counted("openinference_autogen")} == {"openai"}
