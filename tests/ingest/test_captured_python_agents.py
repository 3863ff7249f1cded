"""Payloads of agents' frameworks for Python, newest versions of 2026-12-01, as a stub vendor's bill has them.

A call of OpenAI: 120 tokens in, of which 100 were cached, and 30 out, of which 10 were reasoning.
"""

from __future__ import annotations

from decimal import Decimal

from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.test_captured_payloads import ANSWER, QUESTION, rows

GPT_COST = Decimal("0.000475")
CALLED = '[tool_call get_weather({"city":"Paris"})]'


def of(scenario: str, operation: str) -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.operation_type == operation]


def bill(records: list[SpanRecord]) -> list[tuple[int | None, ...]]:
    return [
        (record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.reasoning_tokens)
        for record in records
        if record.is_generation and record.total_tokens
    ]


def test_pydantic_ai_format_6_is_billed_to_the_token_and_names_who_asked() -> None:
    chats = of("pydantic_ai_6", "chat")
    assert bill(chats) == [(120, 30, 100, 10)] * 3
    assert [record.total_cost_usd for record in chats if record.total_tokens] == [GPT_COST] * 3
    assert [record.is_generation for record in chats] == [True] * 4
    assert {record.user_id for record in chats if record.session_id == "conv-7"} == {"ann"}
    (embedding,) = of("pydantic_ai_6", "embedding")
    assert (embedding.input_text, embedding.prompt_tokens) == ("x", 8)
    done, failed = of("pydantic_ai_6", "tool")
    assert (done.tool_name, done.input_text, done.output_text) == ("get_weather", '{"city":"Paris"}', "sunny in Paris")
    assert (failed.status_code, failed.error_type, failed.error_message) == ("ERROR", "ValueError", "no sky")


def test_input_of_a_pydantic_ai_run_ends_with_the_question() -> None:
    agents = of("pydantic_ai_6", "agent")
    assert [record.agent_name for record in agents] == ["weather", "failing", "boom"]
    asked = f"system: Be short.\nuser: Hello\nassistant: Hi\nuser: {QUESTION}"
    assert (agents[0].input_text, agents[0].output_text) == (asked, ANSWER)
    assert [(record.input_text, record.status_code) for record in agents[1:]] == [(QUESTION, "ERROR")] * 2
