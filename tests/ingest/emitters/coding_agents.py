"""Coding agents, and the vendor client that some of them are built on."""

from __future__ import annotations

from tests.ingest.emitters.case_form import Case

CASES: dict[str, Case] = {
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
    "anthropic_client_counts_tokens": (
        {"gen_ai.request.model": "claude-haiku-4-5", "http.route": "/v1/x", "gen_ai.input.messages": "[]"},
        {"scope": "com.anthropic.sdk.python"},
        {"operation_type": "other", "is_generation": False},
    ),
    "anthropic_client_tool_result": (
        {"gen_ai.operation.name": "execute_tool", "anthropic.tool_result.content": "21 C"},
        {},
        {"output_text": "21 C"},
    ),
    "gemini_cli_call": (
        {"gen_ai.operation.name": "llm_call", "gen_ai.request.model": "gemini-2.5-pro"},
        {},
        {"operation_type": "chat", "is_generation": True},
    ),
    "number_of_a_thread_is_no_session": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "thread.id": 41, "thread.name": "http-1"},
        {},
        {"session_id": None},
    ),
    "name_of_a_thread_is_a_session": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "thread.id": "t-41"},
        {},
        {"session_id": "t-41"},
    ),
}
