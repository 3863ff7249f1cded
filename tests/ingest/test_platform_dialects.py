"""Spans of platforms' own SDKs for OpenTelemetry, each as one span and what its row must say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ingest.spans_in_both_encodings import map_one, usd

GPT = "gpt-4.1-mini"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "braintrust_call": (
        {
            "braintrust.span_attributes": json.dumps({"type": "llm"}),
            "braintrust.metadata": json.dumps({"provider": "openai", "model": GPT, "user_id": "ada"}),
            "braintrust.metrics": json.dumps(
                {
                    "prompt_tokens": 900,
                    "completion_tokens": 210,
                    "tokens": 1110,
                    "prompt_cached_tokens": 640,
                    "completion_reasoning_tokens": 128,
                    "time_to_first_token": 0.25,
                }
            ),
            "braintrust.input_json": json.dumps([{"role": "user", "content": "where is parcel 12"}]),
            "braintrust.output_json": json.dumps([{"message": {"role": "assistant", "content": "In Lyon."}}]),
        },
        {
            "dialect": "braintrust",
            "operation_type": "chat",
            "provider": "openai",
            "model": GPT,
            "prompt_tokens": 900,
            "cached_tokens": 640,
            "reasoning_tokens": 128,
            "total_cost_usd": usd("0.000504"),
            "ttft_ms": 250.0,
            "user_id": "ada",
            "input_text": "where is parcel 12",
            "output_text": "In Lyon.",
        },
    ),
    "braintrust_score": ({"braintrust.span_attributes": '{"type": "score"}'}, {"operation_type": "evaluator"}),
    "judgeval_call": (
        {
            "judgment.span_kind": "llm",
            "judgment.llm.provider": "anthropic",
            "judgment.llm.model": "claude-sonnet-4-5",
            "judgment.usage.non_cached_input_tokens": 100,
            "judgment.usage.cache_read_input_tokens": 40,
            "judgment.usage.cache_creation_input_tokens": 20,
            "judgment.usage.output_tokens": 10,
            "judgment.session_id": "s-1",
        },
        {"dialect": "judgeval", "prompt_tokens": 160, "total_tokens": 170, "usage_rule": 2, "session_id": "s-1"},
    ),
    "confident_call": (
        {
            "confident.span.type": "llm",
            "confident.llm.model": GPT,
            "confident.llm.input_token_count": 9,
            "confident.llm.output_token_count": 2,
            "confident.span.output": "In Lyon.",
            "confident.trace.thread_id": "t-1",
        },
        {"dialect": "confident", "operation_type": "chat", "total_tokens": 11, "session_id": "t-1"},
    ),
    "trulens_generation": (
        {
            "ai.observability.span_type": "generation",
            "ai.observability.cost.model": GPT,
            "ai.observability.cost.num_prompt_tokens": 9,
            "ai.observability.cost.num_completion_tokens": 2,
            "ai.observability.cost.cost": 0.5,
            "ai.observability.cost.cost_currency": "USD",
        },
        {"dialect": "trulens", "operation_type": "chat", "total_tokens": 11, "total_cost_usd": usd("0.5")},
    ),
    "agenta_call": (
        {"ag.type.node": "chat", "ag.meta.request.model": GPT, "ag.metrics.unit.tokens.prompt": 9, "ag.user.id": "ada"},
        {"dialect": "agenta", "operation_type": "chat", "prompt_tokens": 9, "user_id": "ada"},
    ),
    "honeyhive_step_is_no_call": (
        {"honeyhive_event_type": "model", "honeyhive_outputs.result": "done"},
        {"dialect": "honeyhive", "operation_type": "chain", "is_generation": False, "output_text": "done"},
    ),
    "kind_of_a_loongsuite_span": ({"gen_ai.span.kind": "RERANKER"}, {"operation_type": "rerank"}),
    "kind_that_says_something_else": (
        {"gen_ai.span.kind": "CLIENT", "gen_ai.request.model": GPT},
        {"operation_type": "chat"},
    ),
    "agents_of_azure": ({"gen_ai.system": "az.ai.agents", "gen_ai.request.model": GPT}, {"provider": "azure"}),
    "ai_sdk_counts_by_part": (
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.usage.inputTokens.total": 900,
            "ai.usage.inputTokens.cacheRead": 640,
            "ai.usage.outputTokens.total": 210,
            "ai.usage.outputTokens.reasoning": 128,
        },
        {
            "prompt_tokens": 900,
            "cached_tokens": 640,
            "completion_tokens": 210,
            "reasoning_tokens": 128,
            "usage_rule": 1,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_span_of_a_platform_becomes_the_row_that_it_means(name: str) -> None:
    values, expected = CASES[name]
    record = map_one(values)
    assert {column: getattr(record, column) for column in expected} == expected
