"""Voice agents, and frameworks that book the usage of a call in a span of its own."""

from __future__ import annotations

from typing import Any

import pytest

from server.ingest.dialects.canonical_names import canonical_provider
from tests.ingest.spans_in_both_encodings import NOW_NS, SECOND, event, map_document, map_one, request, span, usd

GPT = "gpt-4.1-mini"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "pipecat_speech": (
        {"gen_ai.operation.name": "tts", "gen_ai.request.model": "t", "text": "hello", "metrics.character_count": 5},
        {"name": "tts", "scope": "pipecat"},
        {"operation_type": "speech", "input_text": "hello", "usage_details": {"input_characters": 5}},
    ),
    "pipecat_transcription": (
        {"gen_ai.operation.name": "stt", "gen_ai.request.model": "nova-3", "transcript": "hi", "metrics.ttfb": 0.25},
        {"name": "stt", "scope": "pipecat"},
        {"operation_type": "transcription", "output_text": "hi", "ttft_ms": 250.0, "is_generation": True},
    ),
    "text_elsewhere_is_no_input": (
        {"text": "hello", "gen_ai.operation.name": "chat"},
        {"scope": "shop"},
        {"input_text": None},
    ),
    "livekit_speech_names_no_operation": (
        {"gen_ai.request.model": "tts-1", "lk.pii.input_text": "hello", "lk.tts_metrics": '{"characters_count": 5}'},
        {"name": "tts_request", "scope": "livekit-agents"},
        {
            "operation_type": "speech",
            "dialect": "livekit",
            "input_text": "hello",
            "usage_details": {"input_characters": 5},
        },
    ),
    "livekit_call_with_its_metrics_alone": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": GPT,
            "lk.llm_metrics": '{"prompt_tokens": 900, "completion_tokens": 210, "prompt_cached_tokens": 6, "ttft": 1}',
        },
        {"name": "llm_request", "scope": "livekit-agents"},
        {"prompt_tokens": 900, "completion_tokens": 210, "cached_tokens": 6, "ttft_ms": 1000.0},
    ),
    "livekit_tool": (
        {"lk.function_tool.name": "track", "lk.pii.function_tool.output": "in Lyon"},
        {"name": "function_tool", "scope": "livekit-agents"},
        {"operation_type": "tool", "tool_name": "track", "output_text": "in Lyon"},
    ),
    "monocle_call": (
        {
            "span.type": "inference",
            "entity.1.type": "inference.azure_openai",
            "entity.2.name": GPT,
            "entity.2.type": f"model.llm.{GPT}",
            "monocle.service.name": "shop",
        },
        {
            "events": [
                event("data.input", NOW_NS, input="where is parcel 12"),
                event("data.output", NOW_NS, response="In Lyon."),
                event(
                    "metadata",
                    NOW_NS,
                    prompt_tokens=9,
                    completion_tokens=2,
                    total_tokens=11,
                    cache_read_input_tokens=6,
                ),
            ]
        },
        {
            "dialect": "monocle",
            "operation_type": "chat",
            "provider": "azure",
            "model": GPT,
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "cached_tokens": 6,
            "input_text": "where is parcel 12",
            "output_text": "In Lyon.",
        },
    ),
    "monocle_tool": (
        {
            "span.type": "agentic.tool.invocation",
            "entity.1.name": "track",
            "entity.1.type": "tool.function",
            "entity.2.name": "planner",
            "entity.2.type": "agent.langgraph",
        },
        {},
        {"operation_type": "tool", "tool_name": "track", "agent_name": "planner", "model": None},
    ),
    "monocle_counts_of_anthropic": (
        {
            "span.type": "inference",
            "gen_ai.provider.name": "https://api.anthropic.com/",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 5,
        },
        {"events": [event("metadata", NOW_NS, prompt_tokens=100, cache_read_input_tokens=60, completion_tokens=5)]},
        {"provider": "anthropic", "prompt_tokens": 160, "cached_tokens": 60},
    ),
    "voltagent_root": (
        {
            "entity.type": "agent",
            "entity.name": "tracker",
            "conversation.id": "c-1",
            "user.id": "ada",
            "usage.prompt_tokens": 9,
            "usage.completion_tokens": 2,
            "usage.cached_tokens": 6,
            "voltagent.step_count": 1,
            "ai.model.name": GPT,
        },
        {"scope": "@voltagent/core"},
        {
            "operation_type": "agent",
            "agent_name": "tracker",
            "session_id": "c-1",
            "cached_tokens": 6,
            "count_rule": 2,
            "model": GPT,
        },
    ),
    "voltagent_call": (
        {"entity.type": "agent", "span.type": "llm", "llm.model": GPT, "llm.usage.prompt_tokens": 9},
        {"scope": "@voltagent/core"},
        {"operation_type": "chat", "model": GPT, "prompt_tokens": 9},
    ),
    "an_entity_of_another_kind_says_nothing": (
        {"entity.type": "customer", "gen_ai.request.model": GPT},
        {},
        {"operation_type": "chat"},
    ),
    "cost_as_sentry_names_it": (
        {"gen_ai.request.model": GPT, "gen_ai.cost.total_tokens": 0.25, "gen_ai.cost.input_tokens": 0.05},
        {},
        {"total_cost_usd": usd("0.25"), "prompt_cost_usd": usd("0.05"), "cost_source": "reported"},
    ),
    "thoughts_of_gemini_are_beside_the_answer_in_ag2": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "google",
            "gen_ai.response.model": "gemini-2.5-flash",
            "gen_ai.usage.input_tokens": 900,
            "gen_ai.usage.output_tokens": 210,
            "gen_ai.usage.thinking_tokens": 128,
        },
        {"scope": "opentelemetry.instrumentation.ag2"},
        {"completion_tokens": 338, "reasoning_tokens": 128},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_span_becomes_the_row_that_it_means(name: str) -> None:
    values, fields, expected = CASES[name]
    record = map_one(values, **fields)
    assert {column: getattr(record, column) for column in expected} == expected


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("api.openai.com", "openai"),
        ("https://my-team.openai.azure.com/openai", "azure"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "aws"),
        ("europe-west4-aiplatform.googleapis.com", "google-vertex"),
        ("https://api.groq.com:443/openai/v1", "groq"),
        ("//[no.address", "//[no.address"),
        ("notapi.openai.com.example.org", "notapi.openai.com.example.org"),
    ],
)
def test_a_provider_given_as_an_address_is_the_one_that_answers_there(address: str, provider: str) -> None:
    assert canonical_provider(address) == provider


AG2 = "opentelemetry.instrumentation.ag2"
USAGE = {"gen_ai.response.model": GPT, "gen_ai.usage.input_tokens": 900, "gen_ai.usage.output_tokens": 210}


def booked(*kinds: str, calls: int) -> list[bool]:
    """Return which spans of a turn count: calls one after the other, and a record of its usage at the end of each."""
    spans = []
    for number in range(max(calls, len(kinds))):
        start, end = NOW_NS + 2 * number * SECOND, NOW_NS + (2 * number + 1) * SECOND
        if number < calls:
            values = {**USAGE, "gen_ai.operation.name": "chat"}
            times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
            spans.append(span(values, spanId=f"{2 * number + 1:016x}", **times))
        if number < len(kinds):
            times = {"startTimeUnixNano": str(end + 1000), "endTimeUnixNano": str(end + 2000)}
            spans.append(span(USAGE, name=f"record_usage {kinds[number]}", spanId=f"{2 * number + 2:016x}", **times))
    return [record.is_generation for record in map_document(request(*spans, scope=AG2)).records]


def test_a_record_of_the_usage_of_a_call_does_not_count_beside_the_call() -> None:
    assert booked("model_call", "model_call", calls=2) == [True, False, True, False]


def test_usage_that_is_only_booked_counts() -> None:
    assert booked("model_call", calls=0) == [True]
    assert booked("subtask", calls=0) == [True]


def test_a_summary_that_the_framework_had_made_is_a_call_of_its_own() -> None:
    assert booked("compaction", calls=1) == [True, True]
