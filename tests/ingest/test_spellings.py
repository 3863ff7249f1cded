"""Spellings that no captured payload has: each as one span, and what its row must say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ingest.spans_in_both_encodings import event, map_one, usd

CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1-mini"}
USED = {**CALL, "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
WROTE = {**USED, "gen_ai.usage.cache_creation.input_tokens": 800}
TOOL = {"gen_ai.operation.name": "execute_tool"}
AI_SDK = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "anthropic.messages"}
LANGSMITH = {"langsmith.span.kind": "llm", "gen_ai.request.model": "gpt-4.1-mini"}


def dumps(value: Any) -> str:
    return json.dumps(value)


HOUR_KEYS = (
    "gen_ai.usage.cache_creation.ephemeral_1h", "gen_ai.usage.cache_creation_input_tokens.ephemeral_1h",
    "gen_ai.usage.details.ephemeral_1h_input_tokens", "gen_ai.usage.cache_write.ephemeral_1h_input_tokens",
    "gen_ai.usage.cache_write_1h_input_tokens", "gen_ai.usage.cache_creation_input_tokens_above_1hr",
    "llm.token_count.prompt_details.cache_write_1h", "usage.cacheCreation1hInputTokens",
    "ai.response.providerMetadata.anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
)  # fmt: skip
AUDIO_KEYS = (
    "gen_ai.usage.input_tokens_details.audio_tokens", "gen_ai.usage.raw.prompt_tokens_details.audio_tokens",
    "gen_ai.usage.input_token_details.audio", "ai.usage.inputTokenDetails.audioTokens",
    "llm.usage.prompt_tokens_details.audio_tokens", "gen_ai.usage.input_tokens.audio", "usage.inputAudioTokens",
)  # fmt: skip
TIER_KEYS = (
    "gen_ai.service_tier", "service_tier", "llm.openai.response.service_tier", "gen_ai.usage.service_tier",
    "ai.response.providerMetadata.openai.serviceTier",
)  # fmt: skip
ARGUMENT_KEYS = (
    "tool.arguments", "gen_ai.tool.arguments", "gen_ai.tool.call.input", "tool_call.function.arguments",
    "mcp.tool.arguments", "mcp.request.argument", "tool_input",
)  # fmt: skip
RESULT_KEYS = ("tool.result", "gen_ai.tool.call.output", "gen_ai.tool.response", "mcp.response.value", "tool_output")

COUNTS = {"prompt_tokens": 1000, "completion_tokens": 100}
COUNT_KEYS = (
    ("gen_ai.usage.input", "gen_ai.usage.output"), ("gen_ai.input_tokens", "gen_ai.output_tokens"),
    ("ai.tokens.input", "ai.tokens.output"), ("llm.tokens.prompt", "llm.tokens.completion"),
    ("num_input_tokens", "num_output_tokens"), ("tokens_in", "tokens_out"),
    ("prompt_token_count", "candidates_token_count"), ("usage.input", "usage.output"),
)  # fmt: skip
MODEL_KEYS = ("gen_ai.model", "gen_ai.model_name", "gen_ai.model.name", "gen_ai.request.model_name", "gen_ai.model.id")
COSTS = (
    ({"total": 2}, 2), ({"amount": 2, "currency": "USD"}, 2), ({"input": 1, "output": 2}, 3),
    ({"total_cost": 0.5}, 0.5),
)  # fmt: skip

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    **{f"hour: {key}": ({**WROTE, key: 800}, {}, {"usage_details": {"cache_write_1h": 800}}) for key in HOUR_KEYS},
    "hour: inside an object": (
        {**WROTE, "gen_ai.usage.cache_creation": dumps({"ephemeral_1h_input_tokens": 800})},
        {},
        {"usage_details": {"cache_write_1h": 800}},
    ),
    **{f"counts: {keys[0]}": ({"model": "gpt-4o", keys[0]: 1000, keys[1]: 100}, {}, COUNTS) for keys in COUNT_KEYS},
    **{f"model: {key}": ({key: "gpt-4o", "prompt_tokens": 9}, {}, {"model": "gpt-4o"}) for key in MODEL_KEYS},
    **{
        f"cost: {members}": ({**USED, "gen_ai.usage.cost": form(members)}, {}, {"total_cost_usd": usd(str(cost))})
        for members, cost in COSTS
        for form in (dumps, dict)
    },
    "cost: an object in another currency": (
        {**USED, "gen_ai.usage.cost": dumps({"amount": 2, "currency": "EUR"})},
        {},
        {"cost_source": "computed", "usage_details": {"cost_currency": "EUR", "cost_amount": 2.0}},
    ),
    "cache hits as DeepSeek counts them": (
        {**USED, "gen_ai.usage.prompt_cache_hit_tokens": 600},
        {},
        {"prompt_tokens": 1000, "cached_tokens": 600},
    ),
    "audio: the medium first": (
        {**USED, "gen_ai.usage.audio_input_tokens": 7, "gen_ai.usage.audio_output_tokens": 5},
        {},
        {"usage_details": {"input_audio": 7, "output_audio": 5}},
    ),
    **{f"audio: {key}": ({**USED, key: 7}, {}, {"usage_details": {"input_audio": 7}}) for key in AUDIO_KEYS},
    **{f"tier: {key}": ({**USED, key: "Flex"}, {}, {"usage_details": {"service_tier": "flex"}}) for key in TIER_KEYS},
    "the tier that answered": (
        {**USED, "x.request.service_tier": "priority", "x.response.service_tier": "flex"},
        {},
        {"usage_details": {"service_tier": "flex"}},
    ),
    "compaction": (
        {**USED, "gen_ai.usage.compaction.input_tokens": 50, "gen_ai.usage.compaction_output_tokens": 5},
        {},
        {"prompt_tokens": 1050, "completion_tokens": 105, "total_tokens": 1155},
    ),
    "counts of the AI SDK as objects": (
        {
            **AI_SDK,
            "ai.usage": dumps({"inputTokens": 1000, "outputTokens": 100}),
            "ai.usage.inputTokenDetails": {"cacheReadTokens": 600, "cacheWriteTokens": 300},
            "ai.usage.outputTokenDetails": dumps({"reasoningTokens": 40}),
        },
        {},
        {
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "cached_tokens": 600,
            "cache_write_tokens": 300,
            "reasoning_tokens": 40,
        },
    ),
    "the AI SDK 4 with Anthropic's own counts": (
        {
            **AI_SDK,
            "ai.usage.promptTokens": 1000,
            "ai.usage.completionTokens": 100,
            "ai.response.providerMetadata": dumps(
                {"anthropic": {"cacheReadInputTokens": 600, "cacheCreationInputTokens": 300}}
            ),
        },
        {},
        {"prompt_tokens": 1900, "cached_tokens": 600, "cache_write_tokens": 300},
    ),
    "usage in LangSmith's metadata only": (
        {
            **LANGSMITH,
            "langsmith.metadata.usage_metadata": dumps(
                {"input_tokens": 1000, "output_tokens": 100, "input_token_details": {"cache_read": 600, "audio": 5}}
            ),
        },
        {},
        {
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "cached_tokens": 600,
            "usage_details": {"input_audio": 5},
        },
    ),
    **{
        f"cost: {key}": ({**USED, key: "0.36"}, {}, {"total_cost_usd": usd("0.36"), "cost_source": "reported"})
        for key in ("litellm.response_cost", "hidden_params.response_cost", "gen_ai.cost.amount", "ai.usage.cost")
    },
    **{
        f"currency: {key}": ({**USED, "cost": 5.0, key: "€"}, {}, {"cost_source": "computed"})
        for key in ("currency", "cost_currency", "cost.currency")
    },
    "currency of something else": (
        {**USED, "gen_ai.usage.cost": 5.0, "currency": "EUR"},
        {},
        {"total_cost_usd": usd("5"), "cost_source": "reported"},
    ),
    **{f"arguments: {key}": ({**TOOL, key: '{"to": 1}'}, {}, {"input_text": '{"to": 1}'}) for key in ARGUMENT_KEYS},
    **{f"result: {key}": ({**TOOL, key: "900 km"}, {}, {"output_text": "900 km"}) for key in RESULT_KEYS},
    "arguments on a span that is no tool": ({**CALL, "tool.arguments": "{}"}, {}, {"input_text": None}),
    **{
        f"tool: {key}": ({**TOOL, key: "map"}, {}, {"tool_name": "map"})
        for key in ("toolName", "gen_ai.tool.call.name", "mcp.tool.name", "tool.function.name", "function.name")
    },
    **{
        f"agent: {key}": ({"gen_ai.operation.name": "invoke_agent", key: "Guide"}, {}, {"agent_name": "Guide"})
        for key in ("agentName", "crewai.agent.role", "mastra.agent.name", "lc_agent_name")
    },
    "names of another span's tool and agent": (
        {**CALL, "vendor.tool_name": "map", "vendor.agent_name": "Guide"},
        {},
        {"tool_name": None, "agent_name": None},
    ),
    "tool named by its span": (TOOL, {"name": "execute_tool map"}, {"tool_name": "map"}),
    "agent named by its span": (
        {"gen_ai.operation.name": "invoke_agent"},
        {"name": "invoke_agent Tour Guide"},
        {"agent_name": "Tour Guide"},
    ),
    **{
        f"user: {key}": ({**CALL, key: value}, {}, {"user_id": "ada"})
        for key, value in (
            ("vendor.metadata.userId", "ada"),
            ("sentry.user.id", "ada"),
            ("gen_ai.request.user", "ada"),
            ("vendor.context", dumps({"user_id": "ada"})),
        )
    },
    **{
        f"operation: {raw}": ({**CALL, "gen_ai.operation.name": raw}, {}, {"operation_type": operation})
        for raw, operation in (
            ("chat.completions", "chat"),
            ("converse", "chat"),
            ("InvokeModel", "chat"),
            ("generateContent", "chat"),
            ("ai.rerank.doRerank", "rerank"),
            ("ai.generateImage.doGenerate", "image"),
            ("audio.speech", "speech"),
            ("call_tool", "tool"),
            ("run_agent", "agent"),
            ("moderation", "guardrail"),
            ("a_word_of_theirs", "other"),
        )
    },
    **{
        f"finish reason: {key}": ({**CALL, key: "length"}, {}, {"finish_reason": "length"})
        for key in ("gen_ai.finish_reason", "gen_ai.choice.finishReason", "langfuse.observation.metadata.finish_reason")
    },
    **{
        f"first token: {key}": ({**CALL, key: value}, {}, {"ttft_ms": 300.25})
        for key, value in (
            ("vendor.time_to_first_token_us", 300_250),
            ("vendor.ttft_ns", 300_250_000),
            ("x.first_token_ms", 300.25),
            ("gen_ai.server.time_to_first_token", 300.25),
        )
    },
    **{
        f"no call: {name}": ({"gen_ai.request.model": "claude-haiku-4-5"}, {"name": name}, {"operation_type": "other"})
        for name in ("anthropic.messages.count_tokens", "anthropic.models.list", "anthropic.messages.batches.create")
    },
    "a call of the client that says no operation": (
        {"gen_ai.request.model": "claude-haiku-4-5"},
        {"name": "anthropic.messages.create"},
        {"operation_type": "chat"},
    ),
    **{
        f"operation by name: {name}": ({}, {"name": name}, {"operation_type": operation, "dialect": "claude_code"})
        for name, operation in (("claude_code.tool", "tool"), ("claude_code.interaction", "agent"))
    },
    "what a tool said in an event": (
        {"span.type": "tool", "tool_name": "Bash"},
        {"name": "claude_code.tool", "events": [event("tool.output", bash_command="ls", output="a.txt")]},
        {"input_text": "ls", "output_text": "a.txt"},
    ),
    "an error as Python's repr": (
        CALL,
        {"status": {"code": 2, "message": "RateLimitError('slow down')"}},
        {"error_type": "RateLimitError"},
    ),
    "arguments of a client's method": (
        {**LANGSMITH, "gen_ai.prompt": dumps({"args": [{"messages": [{"role": "user", "content": "hi"}]}, {}]})},
        {},
        {"input_text": "hi"},
    ),
    "a prompt in an object": (
        {"ai.operationId": "ai.generateText", "ai.prompt": dumps({"prompt": "hi"})},
        {},
        {"input_text": "hi"},
    ),
    "an answer in pieces": (
        {
            **CALL,
            "gen_ai.output.messages": dumps(
                [
                    {"role": "assistant", "parts": [{"type": "text", "content": "It is "}], "finish_reason": ""},
                    {"role": "assistant", "parts": [{"type": "text", "content": "warm."}], "finish_reason": "stop"},
                ]
            ),
        },
        {},
        {"output_text": "It is warm.", "finish_reason": "stop"},
    ),
    "two answers": (
        {**CALL, "gen_ai.output.messages": dumps([{"role": "assistant", "content": text} for text in ("a", "b")])},
        {},
        {"output_text": "assistant: a\nassistant: b"},
    ),
    "one tool call in two places": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4.1-mini",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "map",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"to": 1}',
            "ai.response.toolCalls": dumps([{"toolCallId": "c1", "toolName": "map", "input": {"to": 1}}]),
        },
        {},
        {"output_text": '[tool_call map({"to":1})]'},
    ),
    "JSON in a text of JSON": (
        {**CALL, "gen_ai.input.messages": dumps(dumps([{"role": "user", "content": "hi"}]))},
        {},
        {"input_text": "hi"},
    ),
    "pairs of role and text": (
        {**CALL, "input.value": dumps({"messages": [["human", "hi"]]})},
        {},
        {"input_text": "hi"},
    ),
    "what was said as audio": (
        {**CALL, "gen_ai.output.messages": dumps([{"role": "assistant", "audio": {"id": "a", "transcript": "hello"}}])},
        {},
        {"output_text": "hello"},
    ),
    "what was refused": (
        {**CALL, "gen_ai.output.messages": dumps([{"role": "assistant", "content": None, "refusal": "I cannot"}])},
        {},
        {"output_text": "I cannot"},
    ),
    "tools that run at the vendor": (
        {
            **CALL,
            "gen_ai.output.messages": dumps(
                [
                    {"type": "reasoning", "summary": []},
                    {"type": "web_search_call", "id": "w1", "action": {"query": "tea"}},
                    {"role": "assistant", "parts": [{"type": "server_tool_use", "name": "run", "input": {"a": 1}}]},
                ]
            ),
        },
        {},
        {"output_text": 'assistant: [tool_call web_search({"query":"tea"})]\nassistant: [tool_call run({"a":1})]'},
    ),
    "reasons as Python writes a tuple": (
        {**CALL, "gen_ai.response.finish_reasons": "('length',)"},
        {},
        {"finish_reason": "length"},
    ),
    "a count that is not there": (
        {**USED, "gen_ai.usage.cache_read.input_tokens": "null"},
        {},
        {"cached_tokens": None, "dropped": None},
    ),
    **{
        f"price: {model}": (
            {**USED, "gen_ai.provider.name": provider, "gen_ai.request.model": model},
            {},
            {"total_cost_usd": usd(cost)},
        )
        for model, provider, cost in (
            ("bedrock/us-east-1/anthropic.claude-sonnet-4-5-20250929-v1:0", "litellm", "0.00495"),
            ("vercel_ai_gateway/anthropic/claude-sonnet-4.5", "litellm", "0.0045"),
            ("gemini-2.5-flash-001", "google", "0.00055"),
        )
    },
    "request of an embedding model under the word for all requests": (
        {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "text-embedding-3-small"},
        {},
        {"operation_type": "embedding", "is_generation": True},
    ),
    "embedding of Laminar": (
        {"lmnr.span.type": "LLM", "gen_ai.request.model": "text-embedding-3-small"},
        {"name": "openai.embeddings", "scope": "lmnr.tracer"},
        {"operation_type": "embedding"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_another_spelling_becomes_the_row_that_it_means(name: str) -> None:
    values, fields, expected = CASES[name]
    record = map_one(values, **fields)
    assert {column: getattr(record, column) for column in expected} == expected
