"""Payloads of clients, frameworks and voice, in four languages, whose calls the stub of tests/instrumentations
answered.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.test_captured_payloads import ANSWER, CLAUDE_COST, GPT4O_COST, QUESTION, rows

EMBEDDING_COST = Decimal("0.00000016")
"""8 tokens at 0.02 dollars a million."""
TOOL_CALL = '[tool_call get_weather({"city":"Paris"})]'

SCENARIOS = {
    # scenario: what its calls cost together, calls with usage, without, refused
    "openinference_pipecat": (GPT4O_COST[True], 1, 0, 0),
    "openinference_groq": (2 * Decimal("0.0000945"), 2, 1, 1),
    "openinference_autogen": (2 * GPT4O_COST[False], 2, 1, 1),
    "traceloop_mistral": (3 * Decimal("0.00042") + Decimal("0.0000008"), 4, 0, 1),
    "traceloop_mistral_roots": (Decimal("0.00042") + Decimal("0.0000008"), 2, 1, 1),
    "langtrace_roots": (4 * CLAUDE_COST + GPT4O_COST[True] + 2 * GPT4O_COST[False] + EMBEDDING_COST, 8, 0, 2),
    "langtrace": (4 * CLAUDE_COST + GPT4O_COST[True] + 2 * GPT4O_COST[False] + EMBEDDING_COST, 8, 0, 2),
    "ai_sdk_6": (8 * GPT4O_COST[True] + GPT4O_COST[False] + 4 * CLAUDE_COST + 2 * EMBEDDING_COST, 15, 1, 2),
    "ai_sdk_7": (2 * GPT4O_COST[True] + 3 * CLAUDE_COST + 2 * EMBEDDING_COST, 7, 2, 0),
    "genkit": (2 * GPT4O_COST[True] + 2 * CLAUDE_COST + Decimal("0.000084"), 5, 1, 1),
    "genkit_go": (2 * GPT4O_COST[True], 2, 1, 0),
    "openai_java": (4 * GPT4O_COST[True] + EMBEDDING_COST, 5, 0, 1),
    "mlflow": (3 * GPT4O_COST[True] + CLAUDE_COST + EMBEDDING_COST, 5, 0, 1),
    "semantic_kernel": (3 * GPT4O_COST[False], 3, 0, 1),
    "litellm_requests": (2 * GPT4O_COST[True] + EMBEDDING_COST + Decimal("0.002"), 3, 1, 1),
}


def counted(scenario: str) -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.is_generation]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_call_counts_once_and_to_the_cent(scenario: str) -> None:
    cost, answered, silent, refused = SCENARIOS[scenario]
    calls = counted(scenario)
    assert sum(record.total_cost_usd or 0 for record in calls) == cost
    good = [record for record in calls if record.total_tokens]
    assert len(good) == answered
    assert all(record.model for record in good)
    # MLflow does not tell whose vectors they are.
    assert all(record.provider or record.operation_type == "embedding" for record in good)
    failed = [record for record in calls if record.status_code == "ERROR"]
    assert [(record.total_tokens, record.total_cost_usd) for record in failed] == [(None, None)] * refused
    assert all(re.search("429|asked to fail|ServiceResponse", record.error_message or "") for record in failed)
    assert len(calls) == answered + silent + refused


def test_pipecat_through_openinference_names_the_model_beside_the_word_unknown() -> None:
    (call,) = counted("openinference_pipecat")
    assert (call.model, call.session_id, call.cached_tokens, call.reasoning_tokens) == ("gpt-4o", "c-7", 100, 10)
    assert (call.input_text or "").endswith(QUESTION)
    assert call.output_text == ANSWER
    assert call.ttft_ms is not None
    assert 0 < call.ttft_ms < call.duration_ms


def test_a_stream_that_groq_had_not_read_is_no_answer() -> None:
    assert sorted(record.output_text or "" for record in counted("openinference_groq")) == [
        "", "", ANSWER, '[tool_call get_weather({"city":"Paris"})]',
    ]  # fmt: skip


def test_mistrals_client_tells_of_the_same_calls_as_the_instrumentation() -> None:
    told = [record for record in rows("traceloop_mistral") if record.operation_type in ("chat", "embedding")]
    assert len(told) == 10
    chats = [
        record for record in counted("traceloop_mistral") if record.total_tokens and record.operation_type == "chat"
    ]
    assert [(record.cached_tokens, record.prompt_tokens) for record in chats] == [(100, 120)] * 3
    (embedding,) = (record for record in counted("traceloop_mistral") if record.operation_type == "embedding")
    assert embedding.prompt_tokens == 8


def test_autogen_and_the_instrumentation_tell_of_one_tool_and_of_the_failure() -> None:
    tools = [record for record in rows("openinference_autogen") if record.operation_type == "tool"]
    assert [(record.tool_name, record.input_text, record.output_text) for record in tools] == [
        ("get_weather", '{"city": "Paris"}', "sunny")
    ]
    failed = [record for record in rows("openinference_autogen") if record.status_code == "ERROR"]
    assert sorted(record.operation_type for record in failed) == ["agent", "chain", "chat"]
    assert {record.provider for record in counted("openinference_autogen")} == {"openai"}


def named(scenario: str, name: str) -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.span_name == name]


def test_langtrace_beside_the_client_of_anthropic_tells_the_same_calls_without_what_was_cached() -> None:
    claude = [record for record in counted("langtrace") if record.cached_tokens == 1000]
    assert [(record.prompt_tokens, record.cache_write_tokens, record.provider) for record in claude] == [
        (1205, 200, "anthropic")
    ] * 4
    assert all((record.input_text or "").count(QUESTION) == 1 for record in claude)
    assert [record.output_text for record in claude].count(ANSWER) == 3
    twins = [record for record in rows("langtrace") if record.count_rule == 6]
    assert [(record.prompt_tokens, record.completion_tokens) for record in twins] == [(5, 40)] * 4


def test_mistrals_client_and_traceloop_are_roots_of_one_call() -> None:
    told = [record for record in rows("traceloop_mistral_roots") if record.count_rule is not None]
    assert len({record.trace_id for record in told}) == len(told) == 8
    assert sorted(record.count_rule or 0 for record in told) == [1] * 4 + [6] * 4


def test_ai_sdk_keeps_documents_and_ranking_of_a_rerank() -> None:
    (call,) = (record for record in counted("ai_sdk_6") if record.operation_type == "rerank")
    assert (call.input_text, call.user_id, call.session_id, call.tags) == ('["a","b"]', "ada", "s-7", ["gold", "eu"])
    assert (call.output_text or "").count("relevanceScore") == 2


def test_an_answer_of_genkit_is_not_the_question_that_it_repeats() -> None:
    for scenario in ("genkit", "genkit_go"):
        assert {record.output_text for record in named(scenario, "generate") if record.status_code != "ERROR"} == {
            ANSWER
        }
        (tool,) = named(scenario, "get_weather")
        assert (tool.operation_type, tool.tool_name) == ("tool", "get_weather")


def test_mastra_wraps_each_call_in_four_spans() -> None:
    calls = counted("mastra")
    assert sum(record.total_cost_usd or 0 for record in calls) == 4 * GPT4O_COST[True] + 2 * CLAUDE_COST
    assert [record.total_tokens for record in calls if record.finish_reason == "error"] == [None, 150]
    assert {(record.user_id, record.session_id, record.tags[0]) for record in calls} == {("ada", "s-7", "gold")}
    agents = [record for record in rows("mastra") if record.operation_type == "agent"]
    assert [record.output_text for record in agents] == [ANSWER, ANSWER, None, ANSWER, None]
    steps = [record for record in rows("mastra") if record.span_name.startswith("agent_step Weather")]
    assert [record.output_text for record in steps] == [TOOL_CALL, ANSWER] * 2


def test_mlflow_names_tools_as_the_span_and_tells_the_client_by_its_form() -> None:
    (tool,) = named("mlflow", "get_weather")
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("get_weather", '{"city":"Paris"}', "sunny")
    assert {record.provider for record in counted("mlflow") if record.operation_type == "chat"} == {
        "openai", "anthropic",
    }  # fmt: skip
    assert [record.finish_reason for record in named("mlflow", "Messages.create")] == ["end_turn"]


def test_semantic_kernels_empty_list_of_messages_is_no_input() -> None:
    assert {record.input_text for record in rows("semantic_kernel") if record.operation_type == "agent"} == {None}


def test_litellm_tells_the_provider_in_the_model_that_it_calls() -> None:
    told = {record.operation_type: record.provider for record in counted("litellm_requests")}
    assert told == {"chat": "openai", "embedding": "openai", "rerank": "cohere"}
