"""Shapes that several emitters share."""

from __future__ import annotations

from tests.ingest.emitters.case_form import GPT, OPENAI_COUNTS, Case, dumps
from tests.ingest.spans_in_both_encodings import event

CASES: dict[str, Case] = {
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
    "http_request_with_a_model_and_nothing_else": (
        {"gen_ai.request.model": GPT, "http.request.method": "GET"},
        {},
        {"operation_type": "other"},
    ),
    "mcp_request": (
        {"mcp.method.name": "tools/call", "gen_ai.tool.name": "map"},
        {},
        {"operation_type": "tool", "tool_name": "map"},
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
}
