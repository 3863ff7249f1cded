"""SDKs of observability platforms: LangSmith, Langfuse, MLflow, Logfire, LangWatch, Traceloop, Monocle."""

from __future__ import annotations

import pytest

from tests.ingest.emitters.case_form import GPT, OPENAI_COUNTS, Case, dumps
from tests.ingest.spans_in_both_encodings import NOW_NS, event

MONOCLE = {
    "span.type": "inference",
    "entity.1.type": "inference.openai",
    "entity.1.provider_name": "llm.shop.internal",
    "entity.2.name": GPT,
    "entity.2.type": f"model.llm.{GPT}",
    "scope.agentic.session": "s-7",
}

CASES: dict[str, Case] = {
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
    "scrubbed_identity": (
        {
            "session.id": "[Scrubbed due to 'session']",
            "gen_ai.conversation.id": "c-1",
            "user.id": "[Scrubbed due to 'auth']",
        },
        {},
        {"session_id": "c-1", "user_id": None},
    ),
    "no_value_as_text_is_no_identity": (
        {"session.id": "null", "gen_ai.conversation.id": '"None"', "user.id": "undefined", "enduser.id": "nullifier"},
        {},
        {"session_id": None, "user_id": "nullifier"},
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
    "mlflow_stream": (
        {"mlflow.spanType": "CHAT_MODEL"},
        {"events": [event("mlflow.chunk.item.0", NOW_NS + 70_000_000)]},
        {"ttft_ms": 70},
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
    "monocle_behind_a_gateway": (
        MONOCLE,
        {
            "scope": "monocle_apptrace",
            "events": [
                event("data.input", input=['{"system": "Be brief."}', '{"user": "where is parcel 12"}']),
                event(
                    "data.output",
                    response=dumps(
                        {"assistant": [{"tool_id": "c1", "tool_name": "track", "tool_arguments": '{"id": "12"}'}]}
                    ),
                ),
                event("metadata", prompt_tokens=900, completion_tokens=210, cache_read_input_tokens=640),
            ],
        },
        {
            "provider": "openai",
            "model": GPT,
            "prompt_tokens": 900,
            "cached_tokens": 640,
            "session_id": "s-7",
            "input_text": "system: Be brief.\nuser: where is parcel 12",
            "output_text": '[tool_call track({"id":"12"})]',
        },
    ),
    "monocle_answer": (
        MONOCLE,
        {"events": [event("data.output", response='{"assistant": "In Lyon."}')]},
        {"output_text": "In Lyon."},
    ),
    "monocle_at_a_vendor_whose_host_is_known": (
        {**MONOCLE, "entity.1.provider_name": "api.deepseek.com"},
        {},
        {"provider": "deepseek"},
    ),
    "arguments_that_look_like_a_message": (
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": dumps({"user": "kim"})},
        {},
        {"input_text": '{"user": "kim"}'},
    ),
}
