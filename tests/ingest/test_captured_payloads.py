"""Captured spans of real instrumentations (tests/instrumentations): the columns their users look at.

The clients talked to stub vendors with fixed usage, so what must arrive is known: see
tests/instrumentations/vendor_stub.py. The payloads are those of tests/fixtures/otlp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from server.ingest.mapping.log_mapping import map_logs
from server.ingest.mapping.mapping_result import MappedBatch, ScoreRecord
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_times import to_datetime
from server.ingest.otlp.decode import decode_logs, decode_traces
from tests.ingest.spans_in_both_encodings import JSON, PROTOBUF

FIXTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
SCENARIOS = sorted(path.name.removesuffix(".traces.pb") for path in FIXTURES.glob("*.traces.pb"))

QUESTION, ANSWER, INSTRUCTIONS = "How is the weather in Paris?", "It is sunny in Paris.", "You answer in one sentence."
GPT4O_COST = {True: Decimal("0.000475"), False: Decimal("0.0006")}
"""120 tokens in and 30 out at 2.50 and 10 dollars a million; with the 100 cached ones at 1.25, and without telling."""
CLAUDE_COST = Decimal("0.001665")
"""5 + 1,000 read + 200 written + 40 out at 3, 0.30, 3.75 and 15 dollars a million."""


def mapped(scenario: str, encoding: str = PROTOBUF) -> MappedBatch:
    suffix = "pb" if encoding == PROTOBUF else "json"
    decoded = decode_traces((FIXTURES / f"{scenario}.traces.{suffix}").read_bytes(), encoding)
    captured = max(span.end_ns for group in decoded.groups for span in group.spans)
    batch = map_spans(decoded, now=to_datetime(captured) + timedelta(minutes=1))
    assert batch.rejected == []
    return batch


def rows(scenario: str, encoding: str = PROTOBUF) -> list[SpanRecord]:
    return sorted(mapped(scenario, encoding).records, key=lambda record: record.ts)


def scores(scenario: str) -> list[ScoreRecord]:
    return mapped(scenario).scores


def calls(scenario: str, model: str) -> list[SpanRecord]:
    """Return the counted calls of one model (by prefix), in order of time."""
    return [record for record in rows(scenario) if record.is_generation and (record.model or "").startswith(model)]


def texts(records: Iterable[SpanRecord]) -> list[tuple[str | None, str | None]]:
    return [(record.input_text, record.output_text) for record in records]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_encodings_of_a_captured_payload_give_the_same_rows(scenario: str) -> None:
    assert rows(scenario) == rows(scenario, JSON)


@pytest.mark.parametrize("path", sorted(FIXTURES.iterdir()), ids=lambda path: path.name)
def test_payload_has_nothing_of_the_machine_it_was_captured_on(path: Path) -> None:
    content = path.read_bytes()
    assert not re.search(rb"/(home|root|tmp|Users|work|usr)/|pyenv|host\.name|process\.pid", content)


OPENAI_SCENARIOS = {
    "openai_v2": ("genai_b", False),
    "openai_v2_latest": ("genai_b", False),
    "openinference_openai": ("openinference", True),
    "traceloop_openai": ("genai_b", True),
    "logfire_openai": ("genai_b", True),
}
"""Dialect, and whether the instrumentation tells about cached tokens."""


@pytest.mark.parametrize(
    ("scenario", "dialect", "tells_cache"), [(name, *what) for name, what in OPENAI_SCENARIOS.items()]
)
def test_openai_chats_have_model_tokens_and_cost(scenario: str, dialect: str, tells_cache: bool) -> None:
    chats = [record for record in calls(scenario, "gpt-4o") if record.total_tokens is not None]
    assert len(chats) == 4  # plain, streamed, tool call, tool result
    for record in chats:
        assert (record.provider, record.operation_type, record.dialect) == ("openai", "chat", dialect)
        # Logfire tells about a stream in a second span, which does not know the model that answered.
        streamed_by_logfire = scenario == "logfire_openai" and record.span_name.startswith("streaming response")
        assert record.model == ("gpt-4o" if streamed_by_logfire else "gpt-4o-2024-08-06")
        assert record.request_model == "gpt-4o"
        assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (120, 30, 150)
        assert record.cached_tokens == (100 if tells_cache else None)
        assert record.total_cost_usd == GPT4O_COST[tells_cache]
        assert record.status_code == "OK"
        assert (record.service_name, record.environment) == ("weather-bot", "test")


@pytest.mark.parametrize("scenario", sorted(OPENAI_SCENARIOS))
def test_openai_errors_name_model_type_and_message(scenario: str) -> None:
    failed = calls(scenario, "fail-")
    assert [record.model for record in failed] == ["fail-429", "fail-500"]
    assert [(record.error_type or "").rpartition(".")[2] for record in failed] == [
        "RateLimitError",
        "InternalServerError",
    ]
    for record in failed:
        assert record.status_code == "ERROR"
        assert "the stub was asked to fail" in (record.error_message or "")
        assert (record.total_tokens, record.total_cost_usd) == (None, None)


@pytest.mark.parametrize("scenario", sorted(OPENAI_SCENARIOS))
def test_openai_embedding_is_priced_and_keeps_no_vectors(scenario: str) -> None:
    (record,) = calls(scenario, "text-embedding")
    assert (record.operation_type, record.prompt_tokens) == ("embedding", 8)
    assert record.total_cost_usd == Decimal("1.6e-7")
    assert record.output_text is None


@pytest.mark.parametrize("scenario", sorted(OPENAI_SCENARIOS.keys() - {"openai_v2", "logfire_openai"}))
def test_openai_messages_are_read_with_instructions_tool_call_and_result(scenario: str) -> None:
    plain, streamed, called, resulted = calls(scenario, "gpt-4o")
    asked = f"system: {INSTRUCTIONS}\nuser: {QUESTION}"
    assert texts([plain, streamed]) == [(asked, ANSWER)] * 2
    assert called.output_text == '[tool_call get_weather({"city":"Paris"})]'
    assert (resulted.input_text or "").endswith("[tool_result call_1] sunny, 21 degrees")
    assert [message["role"] for message in resulted.input_messages] == ["system", "user", "assistant", "tool"]
    assert plain.finish_reason == streamed.finish_reason == resulted.finish_reason == "stop"
    assert called.finish_reason in ("tool_calls", "tool_call")


@pytest.mark.parametrize("scenario", ["openinference_openai", "traceloop_openai"])
def test_streamed_openai_call_has_a_time_to_first_token(scenario: str) -> None:
    _, streamed, *_ = calls(scenario, "gpt-4o")
    assert streamed.ttft_ms is not None
    assert 50 <= streamed.ttft_ms <= streamed.duration_ms


def test_content_switched_off_leaves_empty_columns_and_right_numbers() -> None:
    assert texts(calls("openai_v2", "gpt-4o")) == [(None, None)] * 4


def test_content_as_log_records_updates_the_spans() -> None:
    decoded = decode_logs((FIXTURES / "openai_v2_latest.logs.pb").read_bytes(), PROTOBUF)
    captured = max(record.time_ns for group in decoded.groups for record in group.records)
    result = map_logs(decoded, now=to_datetime(captured) + timedelta(minutes=1))
    stored = {record.span_id: record for record in rows("openai_v2_latest")}
    assert result.updates
    assert result.rejected == []
    for update in result.updates:
        assert update.columns["input_text"] == stored[update.span_id].input_text


def test_openinference_session_user_and_tags() -> None:
    for record in rows("openinference_openai"):
        assert (record.session_id, record.user_id, record.tags) == ("session-7", "user-3", ["weather", "test"])


@pytest.mark.parametrize("scenario", ["openinference_anthropic", "traceloop_anthropic"])
def test_anthropic_call_seen_by_the_client_and_by_an_instrumentation_counts_once(scenario: str) -> None:
    records = rows(scenario)
    chats = [record for record in records if record.total_tokens is not None]
    assert len(chats) == 8  # four calls, each seen twice
    counted = [record for record in chats if record.is_generation]
    assert len(counted) == 4
    for record in counted:
        assert (record.provider, record.model) == ("anthropic", "claude-sonnet-4-5")
        assert (record.prompt_tokens, record.completion_tokens) == (1205, 40)
        assert (record.cached_tokens, record.cache_write_tokens) == (1000, 200)
        assert record.total_cost_usd == CLAUDE_COST
    assert sum(record.total_cost_usd or 0 for record in counted) == 4 * CLAUDE_COST
    assert [record.ttft_ms is not None for record in counted] == [False, True, False, False]


@pytest.mark.parametrize("scenario", ["openinference_anthropic", "traceloop_anthropic"])
def test_anthropic_messages_and_errors(scenario: str) -> None:
    told = [record for record in rows(scenario) if record.input_text and record.inherited is None]
    assert texts(told[:2]) == [(f"system: {INSTRUCTIONS}\nuser: {QUESTION}", ANSWER)] * 2
    assert told[2].output_text == 'I look it up.\n[tool_call get_weather({"city":"Paris"})]'
    assert "[tool_result toolu_1] sunny, 21 degrees" in (told[3].input_text or "")
    failed = [record for record in rows(scenario) if record.model == "fail-429"]
    assert {record.status_code for record in failed} == {"ERROR"}


def test_langchain_counts_the_model_and_keeps_the_chain() -> None:
    records = rows("openinference_langchain")
    chats = calls("openinference_langchain", "gpt-4o")
    assert [record.total_cost_usd for record in chats] == [GPT4O_COST[True]] * 3
    assert {record.operation_type for record in records} == {"chain", "chat", "prompt", "tool"}
    (tool,) = (record for record in records if record.operation_type == "tool")
    assert (tool.tool_name, tool.is_generation) == ("get_weather", False)
    (failed,) = (record for record in records if record.model == "fail-500")
    assert (failed.status_code, (failed.error_type or "").rpartition(".")[2]) == ("ERROR", "OpenAIAPIError")
    prompt = next(record for record in records if record.operation_type == "prompt")
    assert prompt.output_text == f"system: {INSTRUCTIONS}\nuser: {QUESTION}"


def test_pydantic_ai_agent_rolls_up_and_only_its_calls_count() -> None:
    records = rows("pydantic_ai")
    chats = calls("pydantic_ai", "gpt-4o")
    assert [record.total_cost_usd for record in chats] == [GPT4O_COST[True]] * 3
    assert {record.cost_source for record in chats} == {"reported"}
    assert [record.agent_name for record in chats] == ["weather_agent", "weather_agent", "plain_agent"]
    assert chats[2].ttft_ms is not None
    agents = [record for record in records if record.operation_type == "agent"]
    assert [record.is_generation for record in agents] == [False] * 3
    assert agents[0].output_text == ANSWER
    (tool,) = (record for record in records if record.operation_type == "tool")
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("get_weather", '{"city":"Paris"}', "sunny in Paris")
    assert len({record.session_id for record in records}) == 3


def test_litellm_reports_cost_cache_and_tool_call() -> None:
    openai = [record for record in calls("litellm", "gpt-4o") if record.total_tokens]
    assert len(openai) == 3
    for record in openai:
        assert (record.provider, record.prompt_tokens, record.cached_tokens) == ("openai", 120, 100)
        assert (record.total_cost_usd, record.cost_source) == (GPT4O_COST[True], "reported")
    assert openai[0].user_id == "user-3"
    assert openai[2].output_text == '[tool_call get_weather({"city":"Paris"})]'
    (claude,) = calls("litellm", "claude")
    assert (claude.provider, claude.prompt_tokens, claude.total_cost_usd) == ("anthropic", 1205, CLAUDE_COST)
    assert not any(record.is_generation for record in rows("litellm") if record.span_name == "raw_gen_ai_request")


def test_langwatch_calls_have_content_counts_provider_and_first_token() -> None:
    chats = calls("langwatch", "openai/gpt-4o")
    plain, streamed, called, resulted = chats
    asked = f"system: {INSTRUCTIONS}\nuser: {QUESTION}"
    assert texts([plain, streamed]) == [(asked, ANSWER)] * 2
    assert called.output_text == '[tool_call get_weather({"city":"Paris"})]'
    assert (resulted.input_text or "").endswith("[tool_result call_1] sunny, 21 degrees")
    for record in chats:
        assert (record.provider, record.operation_type, record.dialect) == ("openai", "chat", "langwatch")
        assert (record.prompt_tokens, record.completion_tokens, record.reasoning_tokens) == (120, 30, 10)
        assert record.total_cost_usd == GPT4O_COST[False]  # cached tokens are not sent
    assert [record.ttft_ms is not None for record in chats] == [False, True, False, False]
    failed = [record for record in rows("langwatch") if record.status_code == "ERROR"]
    assert [record.error_type for record in failed] == ["openai.RateLimitError", "openai.InternalServerError"]


def test_langwatch_agent_tool_search_and_judgement() -> None:
    records = {record.operation_type: record for record in rows("langwatch") if not record.is_generation}
    agent, tool, search = records["agent"], records["tool"], records["retrieval"]
    assert (agent.agent_name, agent.user_id, agent.session_id) == ("weather agent", "user-3", "session-7")
    assert agent.tags == ["weather", "test"]
    assert (tool.tool_name, *texts([tool])) == ("get_weather", ('{"city":"Paris"}', "sunny in Paris"))
    assert texts([search]) == [("weather", f'[{{"content":"{ANSWER}"}}]')]
    (score,) = scores("langwatch")
    assert (score.name, score.value, score.comment, score.span_id) == ("tone", 0.9, "kind", agent.span_id)


def test_agentops_kinds_names_content_and_tags() -> None:
    by_name = {record.span_name: record for record in rows("agentops")}
    session, agent = by_name["weather agent.session"], by_name["Weather.agent"]
    assert (session.operation_type, session.tags) == ("workflow", ["weather", "test"])
    assert (agent.operation_type, agent.agent_name) == ("agent", "Weather")
    task, tool, wanted = by_name["ask.task"], by_name["get_weather.tool"], by_name["tool_call.get_weather"]
    assert (task.operation_type, task.output_text) == ("chain", "sunny in Paris")
    assert (tool.operation_type, tool.tool_name, tool.output_text) == ("tool", "get_weather", "sunny in Paris")
    assert (wanted.operation_type, wanted.tool_name, wanted.input_text) == ("tool", "get_weather", '{"city": "Paris"}')


def test_agentops_calls_count_once_and_an_embedding_is_one() -> None:
    counted = [record for record in rows("agentops") if record.is_generation]
    assert [record.operation_type for record in counted] == ["chat"] * 5 + ["embedding"]
    assert [record.total_cost_usd for record in counted[:4]] == [GPT4O_COST[False]] * 4  # cached tokens are not sent
    assert counted[1].ttft_ms is not None
    assert (counted[4].status_code, counted[4].error_type) == ("ERROR", "openai.InternalServerError")
    assert {record.provider for record in counted} == {"openai"}


def test_llama_index_tells_its_calls_in_events() -> None:
    counted = [record for record in rows("llamaindex") if record.is_generation]
    assert [record.finish_reason for record in counted] == ["stop", "stop", "tool_calls", "stop"]
    for record in counted:
        assert (record.model, record.prompt_tokens, record.cached_tokens) == ("gpt-4.1-mini", 120, 100)
        assert (record.completion_tokens, record.reasoning_tokens) == (30, 10)
        assert record.total_cost_usd == Decimal("0.000066")
    assert texts(counted[:2]) == [("system: Be brief.\nuser: where is parcel 12", ANSWER), ("say hi", ANSWER)]
    assert counted[2].output_text == '[tool_call weather({"city":"Paris"})]'
    others = {record.span_name: record.operation_type for record in rows("llamaindex") if not record.is_generation}
    assert others == {
        "FunctionAgent.run": "agent",
        "FunctionTool.acall": "tool",
        "OpenAI._prepare_chat_with_tools": "chain",
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_cut_or_refused_in_an_ordinary_payload(scenario: str) -> None:
    for record in rows(scenario):
        notes = record.dropped or {}
        # Mastra says of the second call of an agent that it was answered before it began.
        assert set(notes) <= {"output_text", *(["ttft_ms"] if scenario == "mastra" else [])}
        assert notes.get("output_text") in (None, {"reason": "embedding_vectors"})


def test_a_call_whose_usage_ag2_books_on_a_second_span_counts_once() -> None:
    counted = [record for record in rows("ag2") if record.is_generation]
    assert [record.operation_type for record in counted] == ["chat"] * 6  # four of OpenAI, two of Anthropic
    assert sum(record.prompt_tokens or 0 for record in counted) == 6 * 900
    assert sum(record.total_cost_usd or 0 for record in counted) == 4 * Decimal("0.000504") + 2 * Decimal("0.004377")
    booked = [record for record in rows("ag2") if record.span_name.startswith("record_usage")]
    assert [(record.count_rule, record.counted_in is not None) for record in booked] == [(7, True)] * 6


def test_traceai_tells_content_field_by_field_and_a_streams_model_among_its_parameters() -> None:
    chats = calls("traceai", "gpt-4o")
    assert [(record.prompt_tokens, record.completion_tokens) for record in chats] == [(120, 30)] * 6
    # The Chat Completions spans do not tell what was cached, those of the Responses API do.
    assert [record.total_cost_usd for record in chats] == [GPT4O_COST[False]] * 4 + [GPT4O_COST[True]] * 2
    assert texts(chats)[:2] == [(f"system: {INSTRUCTIONS}\nuser: {QUESTION}", ANSWER)] * 2
    assert chats[0].user_id == "ada"
    (embedding,) = calls("traceai", "text-embedding")
    assert (embedding.operation_type, embedding.prompt_tokens) == ("embedding", 8)
    assert [record.input_text for record in calls("traceai", "gemini")] == [QUESTION] * 2


def test_openlit_that_has_no_price_list_does_not_make_its_calls_free() -> None:
    chats = [record for record in calls("openlit_js", "gpt-4o") if record.total_tokens]
    assert [record.total_cost_usd for record in chats] == [GPT4O_COST[True]] * 6
    assert {record.cost_source for record in chats} == {"computed"}
    claude = calls("openlit_js", "claude")
    assert claude[0].total_cost_usd == CLAUDE_COST


def test_bedrock_by_openinference_for_javascript_has_the_counts_of_its_answers() -> None:
    plain, tool, streamed, invoked = rows("openinference_js_bedrock")
    for record in (plain, tool, invoked):
        counts = (record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.cache_write_tokens)
        assert counts == (950, 200, 700, 150)
        assert record.total_cost_usd == Decimal("0.00447975")  # what Anthropic asks, and a tenth for the region
    assert plain.model == tool.model == streamed.model == "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert invoked.model == "claude-sonnet-4-5-20250929"
    assert tool.output_text == '[tool_call track({"id":"12"})]'
    assert (streamed.prompt_tokens, streamed.total_tokens) == (100, 1150)  # its cache is nowhere
    assert {record.provider for record in (plain, tool, streamed, invoked)} == {"aws"}


def test_spring_ai_tells_the_counts_of_each_vendor_as_the_vendor_does() -> None:
    plain = {record.model: record for record in rows("spring_ai") if record.is_generation and record.cached_tokens}
    openai, anthropic = plain["gpt-4.1-mini-2025-04-14"], plain["claude-sonnet-4-5-20250929"]
    assert (openai.prompt_tokens, openai.cached_tokens, openai.total_cost_usd) == (1000, 600, Decimal("0.0007"))
    assert (anthropic.prompt_tokens, anthropic.cached_tokens, anthropic.cache_write_tokens) == (950, 700, 150)
    assert (anthropic.total_cost_usd, anthropic.usage_rule) == (Decimal("0.0040725"), 4)
    assert (openai.finish_reason, anthropic.finish_reason) == ("STOP", "end_turn")


def test_spring_ai_has_a_tool_its_steps_and_the_model_of_a_refused_call() -> None:
    records = rows("spring_ai")
    (tool,) = [record for record in records if record.operation_type == "tool"]
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("track", '{"id": "12"}', "in Lyon")
    assert {record.operation_type for record in records if record.provider == "spring_ai"} == {"chain", "tool"}
    (refused,) = [record for record in records if record.is_generation and record.status_code == "ERROR"]
    assert (refused.model, refused.error_message) == ("fail-400", "400: You are too fast")
    assert sum(record.is_generation for record in records) == 9


def test_google_adk_for_javascript_has_its_thoughts_in_the_recorded_answer() -> None:
    records = rows("google_adk_js")
    calls_ = [record for record in records if record.is_generation]
    assert len(calls_) == 4
    for record in calls_:
        assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (1000, 300, 1300)
        assert (record.cached_tokens, record.reasoning_tokens) == (600, 120)
        assert record.total_cost_usd == Decimal("0.000888")
        assert record.input_messages[0]["role"] == "system"
        assert "Be brief." in str(record.input_messages[0])
    (tool,) = [record for record in records if record.operation_type == "tool"]
    assert (tool.tool_name, tool.input_text, tool.output_text) == ("track", '{"id":"12"}', '{"where":"in Lyon"}')
    assert "workflow" in {record.operation_type for record in records}


def test_strands_for_javascript_names_no_provider_and_its_tools_are_called() -> None:
    records = rows("strands_js")
    answered = [record for record in records if record.is_generation and record.status_code != "ERROR"]
    assert len(answered) == 4
    assert {record.total_cost_usd for record in answered} == {Decimal("0.0007")}
    assert {record.provider for record in records} == {None}
    assert {record.operation_type for record in records} == {"agent", "chain", "chat", "tool"}
    assert {record.output_text for record in answered} == {'[tool_call track({"id":"12"})]', "In Lyon."}
    assert {record.user_id for record in answered} == {"ada"}
