"""Frameworks for Python: Haystack, LlamaIndex, LangChain, Strands, Agent Framework."""

from __future__ import annotations

from tests.ingest.emitters.case_form import GPT, OPENAI_BODY, OPENAI_COUNTS, Case, dumps
from tests.ingest.spans_in_both_encodings import event

CASES: dict[str, Case] = {
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
    "llama_index_helper": (
        {"openinference.span.kind": "LLM", "llm.model_name": GPT},
        {"name": "Anthropic._prepare_chat_with_tools", "scope": "openinference.instrumentation.llama_index"},
        {"is_generation": False},
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
    "agent_framework_workflow": (
        {},
        {"name": "workflow.run", "scope": "agent_framework"},
        {"operation_type": "workflow"},
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
    "agent_named_before_its_method": (
        {"openinference.span.kind": "AGENT"},
        {"name": "tracker.run", "scope": "openinference.instrumentation.smolagents"},
        {"operation_type": "agent", "agent_name": "tracker"},
    ),
    "agent_of_crewai": (
        {"openinference.span.kind": "AGENT", "graph.node.id": "n-1"},
        {"name": "Weather forecaster._execute_core", "scope": "openinference.instrumentation.crewai"},
        {"operation_type": "agent", "agent_name": "n-1"},
    ),
    "tool_whose_function_is_called_run": (
        {"openinference.span.kind": "TOOL"},
        {"name": "shell.run"},
        {"operation_type": "tool", "tool_name": None},
    ),
}
