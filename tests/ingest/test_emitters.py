"""What single emitters do their own way, each as one span and what its row must say."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import decode_traces
from tests.ingest.spans_in_both_encodings import JSON, NOW, NOW_NS, as_json, event, map_one, request, span

GPT = "gpt-4.1-mini"
OPENAI_BODY = {
    "model": "gpt-4.1-mini-2025-04-14",
    "usage": {
        "prompt_tokens": 700,
        "completion_tokens": 90,
        "total_tokens": 790,
        "prompt_tokens_details": {"cached_tokens": 256},
        "completion_tokens_details": {"reasoning_tokens": 64},
    },
}
CALL = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30,
}  # fmt: skip
"""A call that costs 0.0006 dollars."""
OPENAI_COUNTS = {"prompt_tokens": 700, "completion_tokens": 90, "cached_tokens": 256, "reasoning_tokens": 64}


def dumps(value: Any) -> str:
    return json.dumps(value)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "claude_code_call_in_its_own_words": (
        {"gen_ai.request.model": "claude-haiku-4-5", "input_tokens": 20, "output_tokens": 7, "ttft_ms": 310},
        {"name": "claude_code.llm_request", "scope": "com.anthropic.claude_code.tracing"},
        {
            "dialect": "claude_code",
            "operation_type": "chat",
            "prompt_tokens": 20,
            "completion_tokens": 7,
            "ttft_ms": 310,
        },
    ),
    "claude_code_without_a_scope": (
        {"span.type": "tool", "tool_name": "Edit"},
        {"name": "claude_code.tool"},
        {"dialect": "claude_code", "operation_type": "tool", "tool_name": "Edit"},
    ),
    "claude_code_failed_call": (
        {"span.type": "llm_request", "model": "claude-haiku-4-5", "success": False, "error": "Overloaded"},
        {"name": "claude_code.llm_request"},
        {"status_code": "ERROR", "error_message": "Overloaded", "is_generation": True},
    ),
    "claude_code_prompt_of_a_turn": (
        {"span.type": "interaction", "user_prompt": "rename it"},
        {"name": "claude_code.interaction"},
        {"operation_type": "agent", "input_text": "rename it"},
    ),
    "genkit_flow": (
        {"genkit:type": "action", "genkit:metadata:subtype": "flow", "genkit:name": "menu"},
        {},
        {"dialect": "genkit", "operation_type": "workflow", "is_generation": False},
    ),
    "genkit_helper": ({"genkit:type": "util", "genkit:name": "generate"}, {}, {"operation_type": "chain"}),
    "genkit_call": (
        {
            "genkit:type": "action",
            "genkit:metadata:subtype": "model",
            "genkit:name": f"openai/{GPT}",
            "genkit:input": dumps({"messages": [{"role": "user", "content": [{"text": "how hot"}]}]}),
            "genkit:output": dumps(
                {
                    "message": {"role": "model", "content": [{"text": "very"}]},
                    "finishReason": "stop",
                    "usage": {"inputTokens": 700, "outputTokens": 90, "totalTokens": 790},
                    "raw": OPENAI_BODY,
                }
            ),
        },
        {},
        {
            "provider": "openai",
            "request_model": GPT,
            "model": "gpt-4.1-mini-2025-04-14",
            "finish_reason": "stop",
            "input_text": "how hot",
            "output_text": "very",
            **OPENAI_COUNTS,
        },
    ),
    "genkit_call_that_failed": (
        {"genkit:metadata:subtype": "model", "genkit:name": "googleai/gemini-2.5-flash"},
        {"status": {"code": 2, "message": "Error: quota"}},
        {"provider": "google", "model": "gemini-2.5-flash", "status_code": "ERROR", "error_type": "Error"},
    ),
    "genkit_tool_parts": (
        {
            "genkit:metadata:subtype": "model",
            "genkit:name": f"openai/{GPT}",
            "genkit:output": dumps(
                {
                    "message": {
                        "role": "model",
                        "content": [{"toolRequest": {"name": "oven", "ref": "r1", "input": {"c": 200}}}],
                    }
                }
            ),
        },
        {},
        {"output_text": '[tool_call oven({"c":200})]'},
    ),
    "haystack_generator": (
        {
            "haystack.component.type": "AnthropicChatGenerator",
            "haystack.component.output": dumps(
                {
                    "replies": [
                        {
                            "role": "assistant",
                            "content": [{"text": "hello"}],
                            "meta": {**OPENAI_BODY, "finish_reason": "length"},
                        }
                    ]
                }
            ),
        },
        {"name": "haystack.component.run"},
        {
            "dialect": "haystack",
            "operation_type": "chat",
            "finish_reason": "length",
            "output_text": "hello",
            **OPENAI_COUNTS,
        },
    ),
    "haystack_embedder": (
        {
            "haystack.component.type": "OpenAITextEmbedder",
            "haystack.component.output": dumps(
                {
                    "embedding": [0.1],
                    "meta": {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
                }
            ),
        },
        {},
        {"operation_type": "embedding", "model": "text-embedding-3-small", "prompt_tokens": 8},
    ),
    "haystack_other_component": ({"haystack.component.type": "PromptBuilder"}, {}, {"dialect": "haystack"}),
    "langsmith_kind_beats_the_operation": (
        {"gen_ai.operation.name": "chat", "langsmith.span.kind": "prompt"},
        {},
        {"dialect": "langsmith", "operation_type": "prompt", "is_generation": False},
    ),
    "langsmith_details_as_python_writes_them": (
        {
            "langsmith.span.kind": "llm",
            "gen_ai.request.model": GPT,
            "gen_ai.usage.input_tokens": 700,
            "gen_ai.usage.output_tokens": 90,
            "gen_ai.usage.input_token_details": "{'cache_read': 256, 'cache_creation': 0}",
            "gen_ai.usage.output_token_details": "{'reasoning': 64}",
        },
        {},
        OPENAI_COUNTS,
    ),
    "langsmith_identity": (
        {
            "langsmith.span.kind": "chain",
            "langsmith.metadata.user_id": "kim",
            "langsmith.metadata.thread_id": "t-3",
            "langsmith.span.tags": "slow, eu",
            "langsmith.trace.session_name": "a project",
        },
        {},
        {"user_id": "kim", "session_id": "t-3", "tags": ["slow", "eu"], "operation_type": "chain"},
    ),
    "langsmith_failure_under_ok": (
        {"langsmith.span.kind": "llm", "gen_ai.request.model": GPT},
        {
            "scope": "langsmith",
            "status": {"code": 1},
            "events": [event("exception", exception__message="ValueError: no")],
        },
        {"status_code": "ERROR", "error_type": "ValueError", "error_message": "ValueError: no"},
    ),
    "ok_with_a_handled_exception_stays_ok": (
        {"gen_ai.request.model": GPT},
        {"status": {"code": 1}, "events": [event("exception", exception__message="ValueError: no")]},
        {"status_code": "OK"},
    ),
    "finish_reason_error_is_an_error": (
        {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": '["error"]'},
        {"status": {"code": 1}},
        {"status_code": "ERROR"},
    ),
    "mastra_step": (
        {
            "gen_ai.operation.name": "workflow_step",
            "mastra.workflow_step.input": '{"size": 3}',
            "mastra.metadata.resourceId": "kim",
            "mastra.metadata.threadId": "t-3",
            "mastra.tags": '["z","a"]',
        },
        {},
        {
            "operation_type": "chain",
            "input_text": '{"size":3}',
            "user_id": "kim",
            "session_id": "t-3",
            "tags": ["z", "a"],
        },
    ),
    "mastra_agent": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.system_instructions": "Be kind.",
            "mastra.agent_run.input": "and then",
        },
        {},
        {"input_text": "system: Be kind.\nuser: and then"},
    ),
    "step_that_claims_to_be_a_call": (
        {"openinference.span.kind": "LLM", "output.value": '{"text": "x"}'},
        {},
        {"is_generation": False, "operation_type": "chain"},
    ),
    "call_that_shows_only_messages": (
        {"openinference.span.kind": "LLM", "llm.output_messages.0.message.content": "x"},
        {},
        {"is_generation": True},
    ),
    "llama_index_helper": (
        {"openinference.span.kind": "LLM", "llm.model_name": GPT},
        {"name": "Anthropic._prepare_chat_with_tools", "scope": "openinference.instrumentation.llama_index"},
        {"is_generation": False},
    ),
    "logfire_agent": (
        {"name": "tea_bot", "logfire.msg": "Agent run: 'tea_bot'"},
        {"name": "Agent run: {name!r}", "scope": "logfire.openai_agents"},
        {"operation_type": "agent", "agent_name": "tea_bot", "span_name": "Agent run: 'tea_bot'"},
    ),
    "logfire_group": (
        {"group_id": "g-1", "name": "w"},
        {"name": "OpenAI Agents trace: {name}", "scope": "logfire.openai_agents"},
        {"operation_type": "workflow", "session_id": "g-1"},
    ),
    "logfire_events": (
        {
            "gen_ai.request.model": GPT,
            "events": dumps(
                [
                    {"event.name": "gen_ai.user.message", "content": "one"},
                    {"event.name": "gen_ai.assistant.message", "content": "two", "role": "assistant"},
                    {"event.name": "gen_ai.user.message", "content": "three"},
                    {"event.name": "gen_ai.choice", "message": {"role": "assistant", "content": "four"}},
                ]
            ),
        },
        {"scope": "logfire.openai_agents"},
        {"input_text": "user: one\nassistant: two\nuser: three", "output_text": "four"},
    ),
    "logfire_request_data_holds_the_answer_too": (
        {
            "gen_ai.request.model": GPT,
            "input": dumps([{"role": "user", "content": "one"}]),
            "request_data": dumps(
                {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}
            ),
        },
        {"scope": "logfire.openai_agents"},
        {"input_text": "one"},
    ),
    "bare_usage_object": (
        {
            "gen_ai.request.model": GPT,
            "usage": dumps(
                {
                    "input_tokens": 700,
                    "output_tokens": 90,
                    "input_tokens_details": {"cached_tokens": 256},
                    "output_tokens_details": {"reasoning_tokens": 64},
                }
            ),
        },
        {},
        OPENAI_COUNTS,
    ),
    "scrubbed_identity": (
        {
            "session.id": "[Scrubbed due to 'session']",
            "gen_ai.conversation.id": "c-1",
            "user.id": "[Scrubbed due to 'auth']",
        },
        {},
        {"session_id": "c-1", "user_id": None},
    ),
    "quoted_identity": (
        {
            "langfuse.observation.metadata.langfuse_user_id": '"kim"',
            "langfuse.observation.metadata.langfuse_session_id": '"s-1"',
            "langfuse.observation.metadata.langfuse_tags": '["b"]',
        },
        {},
        {"user_id": "kim", "session_id": "s-1", "tags": ["b"]},
    ),
    "langfuse_agent_is_named_by_its_span": (
        {"langfuse.observation.type": "agent"},
        {"name": "planner"},
        {"agent_name": "planner", "dialect": "langfuse"},
    ),
    "a_tag_of_langfuse_alone_is_no_dialect": (
        {"langfuse.tags": ["b"], "gen_ai.system": "x"},
        {},
        {"tags": ["b"], "dialect": "genai_a"},
    ),
    "traceloop_step_names_are_no_tags": (
        {
            f"traceloop.association.properties.{key}": "v"
            for key in ("plan", "langgraph_node", "lc_hub", "ls_provider", "checkpoint_ns")
        },
        {},
        {"tags": ["plan:v"]},
    ),
    "ls_provider_inside_metadata": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": GPT,
            "metadata": dumps({"ls_provider": "openai", "ls_model_name": GPT, "shop": 7}),
        },
        {},
        {"provider": "openai", "request_model": GPT},
    ),
    "ai_sdk_context": (
        {
            "gen_ai.operation.name": "agent_step",
            "ai.settings.context.userId": "kim",
            "ai.settings.context.sessionId": "s-1",
            "ai.settings.context.tags": ["b"],
        },
        {},
        {"operation_type": "chain", "user_id": "kim", "session_id": "s-1", "tags": ["b"]},
    ),
    "ai_sdk_embedded_texts": (
        {"ai.operationId": "ai.embed.doEmbed", "ai.values": ['"milk"']},
        {},
        {"input_text": "milk", "operation_type": "embedding"},
    ),
    "ai_sdk_speech": (
        {"ai.operationId": "ai.generateSpeech", "ai.model.id": "tts-1"},
        {},
        {"operation_type": "speech", "is_generation": True},
    ),
    "openinference_decision": (
        {
            "openinference.span.kind": "DECISION",
            "decision.model_name": "d-1",
            "decision.provider": "openai",
            "decision.token_count.input": 40,
            "decision.token_count.output": 2,
        },
        {},
        {
            "operation_type": "decision",
            "is_generation": True,
            "model": "d-1",
            "prompt_tokens": 40,
            "completion_tokens": 2,
        },
    ),
    "mlflow_embedding_tells_usage_in_its_output": (
        {
            "mlflow.spanType": '"EMBEDDING"',
            "mlflow.llm.model": '"text-embedding-3-large"',
            "mlflow.spanOutputs": dumps({"data": [{"embedding": [1.5]}], "usage": {"prompt_tokens": 44}}),
        },
        {},
        {"prompt_tokens": 44, "output_text": None},
    ),
    "mlflow_model_that_was_asked_for": (
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": f'"{GPT}-2025-04-14"',
            "mlflow.spanInputs": dumps({"model": GPT, "messages": [{"role": "user", "content": "hi"}]}),
        },
        {},
        {"model": f"{GPT}-2025-04-14", "request_model": GPT, "input_text": "hi"},
    ),
    "request_of_the_responses_api": (
        {
            "mlflow.spanInputs": dumps({"model": GPT, "input": "hi", "instructions": "Be kind."}),
            "mlflow.spanOutputs": dumps(
                {
                    "instructions": "Be kind.",
                    "output": [
                        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}]}
                    ],
                }
            ),
        },
        {},
        {"input_text": "system: Be kind.\nuser: hi", "output_text": "ho"},
    ),
    "anthropic_client_counts_tokens": (
        {"gen_ai.request.model": "claude-haiku-4-5", "http.route": "/v1/x", "gen_ai.input.messages": "[]"},
        {"scope": "com.anthropic.sdk.python"},
        {"operation_type": "other", "is_generation": False},
    ),
    "http_request_with_a_model_and_nothing_else": (
        {"gen_ai.request.model": GPT, "http.request.method": "GET"},
        {},
        {"operation_type": "other"},
    ),
    "anthropic_client_tool_result": (
        {"gen_ai.operation.name": "execute_tool", "anthropic.tool_result.content": "21 C"},
        {},
        {"output_text": "21 C"},
    ),
    "strands_blocks": (
        {"gen_ai.operation.name": "chat"},
        {
            "events": [
                event("gen_ai.user.message", content='[{"text":"how far"}]'),
                event("gen_ai.choice", message='[{"toolUse":{"name":"map","toolUseId":"u1","input":{"to":"Rome"}}}]'),
            ]
        },
        {"input_text": "how far", "output_text": '[tool_call map({"to":"Rome"})]'},
    ),
    "strands_tool": (
        {"gen_ai.operation.name": "execute_tool"},
        {
            "events": [
                event("gen_ai.tool.message", role="tool", content='{"to": "Rome"}', id="u1"),
                event("gen_ai.choice", message='[{"text":"900 km"}]', id="u1"),
            ]
        },
        {"input_text": '{"to": "Rome"}', "output_text": "900 km"},
    ),
    "mlflow_stream": (
        {"mlflow.spanType": "CHAT_MODEL"},
        {"events": [event("mlflow.chunk.item.0", NOW_NS + 70_000_000)]},
        {"ttft_ms": 70},
    ),
    "mcp_request": (
        {"mcp.method.name": "tools/call", "gen_ai.tool.name": "map"},
        {},
        {"operation_type": "tool", "tool_name": "map"},
    ),
    "agent_framework_workflow": (
        {},
        {"name": "workflow.run", "scope": "agent_framework"},
        {"operation_type": "workflow"},
    ),
    "typed_values_in_a_list": (
        {
            "langwatch.span.type": "module",
            "langwatch.input": dumps(
                {"type": "list", "value": [{"type": "text", "value": "a"}, {"type": "json", "value": {"b": 1}}]}
            ),
        },
        {},
        {"operation_type": "chain", "input_text": '["a",{"b":1}]'},
    ),
    "tool_arguments_that_look_like_a_typed_value": (
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": dumps({"type": "text", "value": "a"})},
        {},
        {"input_text": '{"type": "text", "value": "a"}'},
    ),
    "first_token_as_a_number_of_seconds": (
        {"gen_ai.request.model": GPT, "langwatch.timestamps": dumps({"first_token_at": NOW_NS / 1e9 + 0.25})},
        {},
        {"ttft_ms": pytest.approx(250, abs=1)},
    ),
    "provider_in_the_head_of_the_model": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "anthropic/claude-haiku-4-5"},
        {},
        {"provider": "anthropic", "model": "anthropic/claude-haiku-4-5"},
    ),
    "owner_in_the_head_of_the_model_is_no_provider": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "shop/ours-7b"},
        {},
        {"provider": None},
    ),
    "tags_inside_metadata": (
        {"metadata": dumps({"labels": ["b", "a"], "plan": "x"})},
        {},
        {"tags": ["b", "a"]},
    ),
    "odd_item_among_messages_costs_itself_only": (
        {
            "gen_ai.request.model": GPT,
            "gen_ai.prompt": dumps(
                [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "and then"},
                    [{"id": "", "type": ""}],
                    {"role": "tool", "tool_call_id": "c1", "content": "21"},
                ]
            ),
        },
        {},
        {"input_text": 'system: Be kind.\nuser: and then\nuser: {"id":"","type":""}\ntool: [tool_result c1] 21'},
    ),
    "traceai_counts_under_the_count_they_are_part_of": (
        {
            "gen_ai.span.kind": "LLM",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.total_tokens": 150,
            "gen_ai.usage.input_tokens.cache_read": 100,
            "gen_ai.usage.output_tokens.reasoning": 10,
        },
        {"scope": "traceai_openai"},
        {"prompt_tokens": 120, "cached_tokens": 100, "reasoning_tokens": 10, "total_cost_usd": Decimal("0.000475")},
    ),
    "traceai_messages_one_attribute_a_field_and_a_model_among_parameters": (
        {
            "gen_ai.span.kind": "LLM",
            "input.value": "Be brief.",
            "gen_ai.request.parameters": dumps({"model": "gpt-4o", "stream": True, "user": "ada"}),
            "gen_ai.input.messages.0.message.role": "system",
            "gen_ai.input.messages.0.message.content": "Be brief.",
            "gen_ai.input.messages.1.message.role": "user",
            "gen_ai.input.messages.1.message.content": "Weather?",
            "gen_ai.output.messages.0.message.role": "assistant",
            "gen_ai.output.messages.0.message.contents.0.message_content.type": "text",
            "gen_ai.output.messages.0.message.contents.0.message_content.text": "Sunny.",
            "output.value": "{'id': 'resp_1', 'error': None}",
        },
        {"scope": "traceai_openai"},
        {
            "model": "gpt-4o",
            "request_model": "gpt-4o",
            "user_id": "ada",
            "input_text": "system: Be brief.\nuser: Weather?",
            "output_text": "Sunny.",
        },
    ),
    "openlit_without_its_price_list": (
        {**CALL, "gen_ai.usage.cost": 0},
        {"scope": "@openlit/instrumentation-openai"},
        {"total_cost_usd": Decimal("0.000600"), "cost_source": "computed"},
    ),
    "openlit_without_a_price": (
        {**CALL, "gen_ai.request.model": "weather-9", "gen_ai.usage.cost": 0},
        {"scope": "openlit.otel.tracing"},
        {"total_cost_usd": None, "cost_source": "none"},
    ),
    "openlit_with_a_price_of_its_own": (
        {**CALL, "gen_ai.request.model": "weather-9", "gen_ai.usage.cost": 0.25},
        {"scope": "openlit.otel.tracing"},
        {"total_cost_usd": Decimal("0.25"), "cost_source": "reported"},
    ),
    "genai_otel_prices_a_model_as_another_one": (
        {**CALL, "gen_ai.usage.cost.total": 0.000105, "gen_ai.response.finish_reasons": ["FinishReason.STOP"]},
        {"scope": "genai_otel.instrumentors.base"},
        {"total_cost_usd": Decimal("0.000600"), "cost_source": "computed", "finish_reason": "STOP"},
    ),
    "no_cost_where_a_price_is_known": (
        {**CALL, "llm.usage.cost": 0.0},
        {},
        {"total_cost_usd": Decimal("0.000600"), "cost_source": "computed"},
    ),
    "free_answer_from_the_cache_of_a_gateway": (
        {**CALL, "gen_ai.usage.cost": 0.0, "gateway.cache_hit": True},
        {},
        {"total_cost_usd": Decimal(0), "cost_source": "reported"},
    ),
    "free_call_on_the_bill_of_a_proxy": (
        {**CALL, "litellm.cost.total": 0.0},
        {"scope": "litellm"},
        {"total_cost_usd": Decimal(0), "cost_source": "reported"},
    ),
    "langchain_tool_with_its_result_as_python_writes_it": (
        {
            "gen_ai.span.kind": "TOOL",
            "tool.name": "get_weather",
            "input.value": dumps({"city": "Paris"}),
            "output.value": dumps({"output": "content='it\\'s sunny' name='get_weather' tool_call_id='call_1'"}),
        },
        {"scope": "traceai_langchain"},
        {"output_text": "tool: [tool_result call_1] it's sunny"},
    ),
    "langchain_tool_with_its_result_serialised": (
        {
            "openinference.span.kind": "TOOL",
            "output.value": dumps(
                {
                    "output": {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["langchain_core", "messages", "ToolMessage"],
                        "kwargs": {"content": "sunny", "tool_call_id": "call_1", "name": "get_weather"},
                    }
                }
            ),
        },
        {},
        {"output_text": "tool: [tool_result call_1] sunny"},
    ),
    "langgraph_command": (
        {
            "openinference.span.kind": "CHAIN",
            "output.value": dumps(
                {"output": [{"lg_name": "Command", "update": {"messages": [{"type": "ai", "content": "Sunny."}]}}]}
            ),
        },
        {},
        {"output_text": "Sunny."},
    ),
    "langchain_messages_as_python_writes_them": (
        {
            "gen_ai.span.kind": "CHAIN",
            "input.value": dumps({"messages": ["content='Weather?' additional_kwargs={} response_metadata={} id='7'"]}),
            "output.value": dumps(
                {
                    "messages": [
                        (
                            "content='' additional_kwargs={} response_metadata={} id='lc_run--1' tool_calls=[{'name': "
                            "'get_weather', 'args': {'city': 'Paris'}, 'id': 'call_1', 'type': 'tool_call'}] "
                            "usage_metadata={'input_tokens': 1}"
                        )
                    ]
                }
            ),
        },
        {"scope": "traceai_langchain"},
        {"input_text": "Weather?", "output_text": '[tool_call get_weather({"city":"Paris"})]'},
    ),
    "netra_numbers_the_finish_reason_as_a_message": (
        {
            "llm.request.type": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Sunny.",
            "gen_ai.completion.1.finish_reason": "stop",
        },
        {"scope": "netra.instrumentation.openai"},
        {"provider": "openai", "output_text": "Sunny.", "finish_reason": "stop"},
    ),
    "gemini_cli_call": (
        {"gen_ai.operation.name": "llm_call", "gen_ai.request.model": "gemini-2.5-pro"},
        {},
        {"operation_type": "chat", "is_generation": True},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_span_of_an_emitter_becomes_the_row_that_it_means(name: str) -> None:
    values, fields, expected = CASES[name]
    record = map_one(values, **fields)
    assert {column: getattr(record, column) for column in expected} == expected


def test_schema_url_and_scope_version_are_kept_for_the_span() -> None:
    document = request(span(), scope="lib")
    document["resourceSpans"][0]["schemaUrl"] = "https://example.org/1"
    scoped = {**document["resourceSpans"][0]["scopeSpans"][0], "schemaUrl": "https://example.org/2"}
    scoped["scope"] = {"name": "lib", "version": "3.1"}
    document["resourceSpans"][0]["scopeSpans"].append(scoped)
    records = map_spans(decode_traces(as_json(document), JSON), now=NOW).records
    assert [record.attributes["otel.schema_url"][-1] for record in records] == ["1", "2"]
    assert records[1].attributes["otel.scope.version"] == "3.1"
