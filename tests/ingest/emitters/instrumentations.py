"""Instrumentations of client libraries, and the costs that they and gateways report."""

from __future__ import annotations

from decimal import Decimal

from tests.ingest.emitters.case_form import CALL, Case, dumps

CASES: dict[str, Case] = {
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
    "failed_response_of_openai_agents_shows_nothing_but_its_error": (
        {"openinference.span.kind": "LLM", "llm.system": "openai"},
        {
            "name": "response",
            "scope": "@arizeai/openinference-instrumentation-openai-agents",
            "status": {"code": 2, "message": "429"},
        },
        {"operation_type": "chat", "is_generation": True, "status_code": "ERROR"},
    ),
    "maker_in_the_place_of_a_model": (
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "aws",
            "llm.model_name": "amazon",
            "input.value": dumps({"modelId": "amazon.nova-lite-v1:0", "messages": []}),
        },
        {},
        {"request_model": "amazon.nova-lite-v1:0", "model": "amazon.nova-lite-v1:0"},
    ),
    "answer_tells_the_cache_of_an_input_that_the_span_has_too": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "amazon.nova-lite-v1:0",
            "llm.token_count.prompt": 20,
            "llm.token_count.completion": 10,
            "llm.token_count.total": 90,
            "output.value": dumps({"usage": {"inputTokens": 20, "outputTokens": 10, "cacheReadInputTokens": 60}}),
        },
        {},
        {"prompt_tokens": 80, "cached_tokens": 60, "completion_tokens": 10, "total_tokens": 90},
    ),
    "answer_tells_the_part_of_the_input_that_was_cached": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 20,
            "llm.token_count.completion": 10,
            "llm.token_count.total": 30,
            "output.value": dumps({"usage": {"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 5}}}),
        },
        {},
        {"prompt_tokens": 20, "cached_tokens": 5},
    ),
    "answer_that_counts_another_input_tells_nothing": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude-sonnet-4-5",
            "llm.token_count.prompt": 90,
            "llm.token_count.completion": 10,
            "output.value": dumps({"usage": {"input_tokens": 20, "cache_read_input_tokens": 70}}),
        },
        {},
        {"prompt_tokens": 90, "cached_tokens": None},
    ),
    "anthropics_client_under_a_sampler_that_drops_what_a_span_starts_with": (
        {
            "url.path": "/v1/messages",
            "http.response.status_code": 200,
            "gen_ai.response.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 1205,
            "gen_ai.usage.cache_read.input_tokens": 1000,
            "gen_ai.usage.cache_write.input_tokens": 200,
            "gen_ai.usage.output_tokens": 40,
        },
        {"scope": "com.anthropic.sdk.python", "name": "anthropic.messages.create"},
        {"operation_type": "chat", "prompt_tokens": 1205, "is_generation": True, "count_rule": 1},
    ),
    "langtrace_names_the_method_with_its_vendor": (
        {
            "gen_ai.operation.name": "openai.responses.create",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response_id": "resp_1",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 30,
        },
        {"scope": "langtrace_python_sdk.instrumentation.openai.instrumentation"},
        {"operation_type": "chat", "prompt_tokens": 120},
    ),
    "mirascope_tells_the_cache_in_the_usage_of_its_own": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "openai/gpt-4o:completions",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 30,
            "mirascope.response.usage": dumps(
                {
                    "input_tokens": 120,
                    "output_tokens": 30,
                    "cache_read_tokens": 100,
                    "cache_write_tokens": 0,
                    "reasoning_tokens": 10,
                    "total_tokens": 150,
                }
            ),
        },
        {"scope": "mirascope.llm"},
        {"prompt_tokens": 120, "cached_tokens": 100, "reasoning_tokens": 10, "total_cost_usd": Decimal("0.0004750000")},
    ),
    "spring_ai_leaves_the_cache_out_of_anthropics_input_however_small_it_is": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": "1000",
            "gen_ai.usage.output_tokens": "200",
            "gen_ai.usage.total_tokens": "1200",
            "gen_ai.usage.cache_read.input_tokens": "700",
        },
        {"scope": "org.springframework.boot"},
        {"prompt_tokens": 1700, "cached_tokens": 700, "total_tokens": 1900},
    ),
    "autogen_says_0_of_a_stream_whose_usage_it_was_not_told": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 0,
            "llm.token_count.completion": 0,
            "output.value": "It is sunny.",
        },
        {"scope": "openinference.instrumentation.autogen_agentchat"},
        {
            "is_generation": True,
            "prompt_tokens": None,
            "completion_tokens": None,
            "total_tokens": None,
            "total_cost_usd": None,
            "cost_source": "none",
        },
    ),
    "a_cost_beside_0_tokens_stays": (
        {**CALL, "gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0, "gen_ai.usage.cost": 0.04},
        {"scope": "any"},
        {"prompt_tokens": None, "total_cost_usd": Decimal("0.04"), "cost_source": "reported"},
    ),
    "traceloop_bedrock_calls_vectors_a_completion": (
        {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.request.model": "titan-embed-text-v2:0",
            "gen_ai.usage.input_tokens": 8,
        },
        {"scope": "opentelemetry.instrumentation.bedrock"},
        {"operation_type": "embedding", "prompt_tokens": 8},
    ),
    "a_text_beside_what_was_found_is_no_answer_of_ai_sdk": (
        {"openinference.span.kind": "CHAIN", "output.value": dumps({"text": "a", "sources": ["b"]})},
        {"scope": "any"},
        {"output_text": '{"text":"a","sources":["b"]}', "output_messages": None},
    ),
}
