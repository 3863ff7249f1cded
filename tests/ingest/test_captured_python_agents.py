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


def test_smolagents_names_tools_and_tasks_and_a_refused_call_its_provider() -> None:
    chats = of("smolagents", "chat")
    assert bill(chats) == [(120, 30, None, None)] * 4
    assert [(record.provider, record.status_code) for record in chats] == [("openai", "OK")] * 4 + [("openai", "ERROR")]
    agents = of("smolagents", "agent")
    assert [(record.agent_name, record.input_text) for record in agents] == [
        ("forecaster", QUESTION),
        ("boom", QUESTION),
    ]
    tools = [(record.tool_name, record.input_text, record.output_text) for record in of("smolagents", "tool")]
    assert tools == [("get_weather", '{"city":"Paris"}', "sunny"), ("broken", '{"city":"Paris"}', None)]
    assert {(record.session_id, record.user_id, *record.tags) for record in chats} == {("s-7", "ann", "t1")}


def test_dspy_counts_each_call_once_beside_litellm_and_names_the_tool() -> None:
    records = rows("dspy")
    assert bill(records) == [(120, 30, 100, 10)] * 3
    assert len([record for record in records if record.is_generation]) == 4
    outer = [record for record in records if record.span_name == "LM.__call__"]
    assert [record.output_text for record in outer] == [ANSWER, CALLED, None, ANSWER]
    (tool,) = of("dspy", "tool")
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("get_weather", '{"city":"Paris"}', "sunny")


def test_google_adk_calls_of_three_vendors_are_billed_to_the_token() -> None:
    chats = of("google_adk", "chat")
    gemini, gpt = (120, 30, 100, None), (120, 30, 100, 10)
    assert bill(chats) == [gemini, gpt, gpt, gemini, (1205, 40, 1000, None)]
    assert [record.provider for record in chats] == ["google", "openai", "openai", "openai", "google", "anthropic"]
    assert [record.total_cost_usd for record in chats if record.provider == "openai"] == [GPT_COST, GPT_COST, None]
    assert [record.output_text for record in chats] == [ANSWER, CALLED, ANSWER, None, ANSWER, ANSWER]
    assert {record.agent_name for record in chats} == {"weather", "lite", "failing2", "one", "two"}
    assert all(record.session_id for record in chats)


def test_crewai_beside_a_client_of_opentelemetry_names_agents_and_tools() -> None:
    chats = of("crewai_genai", "chat")
    assert bill(chats) == [(120, 30, 100, 10)] * 2
    assert [record.agent_name for record in chats] == ["forecaster", "forecaster", "failing"]
    assert {(record.session_id, record.user_id) for record in chats} == {("s-7", "ann")}
    (tool,) = of("crewai_genai", "tool")
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("get_weather", '{"city": "Paris"}', "sunny")
