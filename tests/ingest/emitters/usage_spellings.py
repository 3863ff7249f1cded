"""Counts that callbacks and SDKs copy under the vendor's or the framework's own names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.ingest.emitters.case_form import GPT, Case, dumps

SONNET = "claude-sonnet-4-5"
NOVA = "amazon.nova-pro-v1:0"
GEMINI = "gemini-2.5-flash"


def langfuse(model: str, parameters: dict[str, str] | None = None, /, **usage: int) -> dict[str, Any]:
    """Return a generation of Langfuse with these ``usage_details``."""
    values = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": model,
        "langfuse.observation.usage_details": dumps(usage),
    }
    return values if parameters is None else values | {"langfuse.observation.model.parameters": dumps(parameters)}


def vercel(model: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a call of the AI SDK that tells details in the provider's metadata alone."""
    return {
        "ai.operationId": "ai.generateObject.doGenerate", "ai.model.id": model, "ai.usage.promptTokens": 100,
        "ai.usage.completionTokens": 20, "ai.response.providerMetadata": dumps(metadata),
    }  # fmt: skip


def langsmith(model: str, inputs: dict[str, int], outputs: dict[str, int]) -> dict[str, Any]:
    """Return a call of LangSmith with the usage of LangChain."""
    usage = {"input_token_details": inputs, "output_token_details": outputs}
    return {
        "langsmith.span.kind": "llm", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": 900,
        "gen_ai.usage.output_tokens": 210, "langsmith.metadata.usage_metadata": dumps(usage),
    }  # fmt: skip


def langchain_js(answer: dict[str, Any], **counts: int) -> dict[str, Any]:
    """Return a call as OpenInference for LangChain.js tells it, with the answer that it records."""
    message = {"kwargs": answer}
    return {
        "openinference.span.kind": "LLM", "llm.model_name": SONNET, "llm.token_count.prompt": 1205,
        "llm.token_count.completion": 40, "llm.token_count.total": 1245,
        **{f"llm.token_count.prompt_details.{name}": count for name, count in counts.items()},
        "output.value": dumps({"generations": [[{"text": "Sunny", "message": message}]]}),
    }  # fmt: skip


_WRITES = {
    "input_tokens": 1205,
    "output_tokens": 40,
    "input_token_details": {"cache_read": 1000, "cache_creation": 200},
}

CASES: dict[str, Case] = {
    "writes_beside_reads_in_the_recorded_answer": (
        langchain_js({"content": "Sunny", "usage_metadata": _WRITES}, cache_read=1000),
        {"scope": "@arizeai/openinference-instrumentation-langchain"},
        {
            "prompt_tokens": 1205,
            "cached_tokens": 1000,
            "cache_write_tokens": 200,
            "total_cost_usd": Decimal("0.001665"),
        },
    ),
    "writes_that_the_span_tells_win": (
        langchain_js({"content": "Sunny", "usage_metadata": _WRITES}, cache_read=1000, cache_write=100),
        {"scope": "@arizeai/openinference-instrumentation-langchain"},
        {"prompt_tokens": 1205, "cached_tokens": 1000, "cache_write_tokens": 100},
    ),
    "writes_of_an_answer_with_another_input": (
        langchain_js({"content": "Sunny", "usage_metadata": {**_WRITES, "input_tokens": 1204}}, cache_read=1000),
        {"scope": "@arizeai/openinference-instrumentation-langchain"},
        {"prompt_tokens": 1205, "cached_tokens": 1000, "cache_write_tokens": None},
    ),
    "langfuse_names_of_the_ai_sdk": (
        langfuse(GPT, inputTokens=500, outputTokens=60, totalTokens=560, cachedInputTokens=300, reasoningTokens=20),
        {},
        {"prompt_tokens": 500, "cached_tokens": 300, "completion_tokens": 60, "reasoning_tokens": 20},
    ),
    "langfuse_names_of_the_older_ai_sdk": (
        langfuse(GPT, promptTokens=191, completionTokens=291, totalTokens=482),
        {},
        {"prompt_tokens": 191, "completion_tokens": 291, "total_tokens": 482},
    ),
    "langfuse_names_of_gemini": (
        langfuse(
            GEMINI,
            prompt_token_count=191,
            candidates_token_count=91,
            thoughts_token_count=20,
            total_token_count=302,
            cached_content_token_count=50,
        ),
        {},
        {"prompt_tokens": 191, "completion_tokens": 111, "reasoning_tokens": 20, "cached_tokens": 50},
    ),
    "langfuse_names_of_bedrock": (
        langfuse(NOVA, inputTokens=500, outputTokens=6, cacheReadInputTokens=300, cacheWriteInputTokens=10),
        {},
        {"prompt_tokens": 810, "cached_tokens": 300, "cache_write_tokens": 10, "completion_tokens": 6},
    ),
    "langfuse_cached_bucket": (
        langfuse(GPT, input=70, cached_tokens=30, output=50),
        {},
        {"prompt_tokens": 100, "cached_tokens": 30},
    ),
    "langfuse_buckets_of_a_tier": (
        langfuse(
            "gpt-5",
            {"service_tier": "flex"},
            input=0,
            input_flex=260,
            input_flex_cache_read=640,
            output=0,
            output_flex=82,
            output_flex_reasoning=128,
            total=1110,
        ),
        {},
        {
            "prompt_tokens": 900,
            "completion_tokens": 210,
            "cached_tokens": 640,
            "reasoning_tokens": 128,
            "total_cost_usd": Decimal("0.0012525000"),
        },
    ),
    "langfuse_lifetimes_beside_no_writes": (
        langfuse(SONNET, input=10, input_cache_creation=0, input_ephemeral_1h_input_tokens=100, output=5),
        {},
        {"prompt_tokens": 110, "cache_write_tokens": 100, "total_cost_usd": Decimal("0.0007050000")},
    ),
    "langsmith_lifetimes_beside_no_writes": (
        langsmith(SONNET, {"cache_read": 640, "cache_creation": 0, "ephemeral_1h_input_tokens": 50}, {}),
        {"scope": "langsmith"},
        {"prompt_tokens": 900, "cached_tokens": 640, "cache_write_tokens": 50},
    ),
    "langsmith_details_of_a_tier": (
        langsmith(GPT, {"priority_cache_read": 640, "priority": 260}, {"priority_reasoning": 128, "priority": 82}),
        {"scope": "langsmith"},
        {"prompt_tokens": 900, "completion_tokens": 210, "cached_tokens": 640, "reasoning_tokens": 128},
    ),
    "vercel_metadata_of_openai": (
        vercel(GPT, {"openai": {"cachedPromptTokens": 40, "reasoningTokens": 10}}),
        {},
        {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 20, "reasoning_tokens": 10},
    ),
    "vercel_metadata_of_deepseek": (
        vercel("deepseek-chat", {"deepseek": {"promptCacheHitTokens": 40, "promptCacheMissTokens": 60}}),
        {},
        {"prompt_tokens": 100, "cached_tokens": 40},
    ),
    "converse_before_the_model": (
        {
            "gen_ai.provider.name": "bedrock_converse",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.request.model": "converse/anthropic.claude-sonnet-4-5-20250929-v1:0",
        },
        {},
        {"cost_source": "computed"},
    ),
    "laminar_tool": (
        {"lmnr.span.type": "TOOL"},
        {"name": "track", "scope": "lmnr.tracer"},
        {"operation_type": "tool", "tool_name": "track"},
    ),
    "braintrust_tool": (
        {"braintrust.span_attributes": dumps({"type": "tool", "name": "track"})},
        {"name": "track"},
        {"operation_type": "tool", "tool_name": "track"},
    ),
}
