"""Payloads of frameworks for Python, whose calls a stub vendor answered with known usage: once, and to the cent.

OpenAI reported 1,000 tokens in, of which 600 were cached, and 300 out, of which 120 were reasoning; Anthropic 100 in
beside 700 read and 150 written, and 200 out.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_times import to_ns
from server.ingest.otlp.decode import decode_traces
from tests.ingest.spans_in_both_encodings import JSON, NOW, NOW_NS, PROTOBUF, as_json, request, span
from tests.ingest.test_captured_payloads import FIXTURES, rows

GPT_COST = Decimal("0.0007")
"""400 tokens at 0.40, 600 at 0.10 and 300 at 1.60 dollars a million."""
CLAUDE_COST = Decimal("0.0040725")
"""100 tokens at 3, 700 at 0.30, 150 at 3.75 and 200 at 15 dollars a million."""
EMBEDDING_COST = Decimal("0.000001")
"""50 tokens at 0.02 dollars a million."""
TOOL_CALL, ANSWER = '[tool_call track({"id":"12"})]', "In Lyon."


def counted(scenario: str, operation: str = "chat") -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.is_generation and record.operation_type == operation]


COUNTED = {
    # scenario: calls of OpenAI, of Anthropic, embeddings, refused
    "logfire_clients": (5, 2, 1, 2),
    "haystack_pipelines": (5, 2, 1, 1),
    "openinference_haystack": (5, 2, 1, 1),
    "openinference_crewai": (3, 0, 0, 3),
    "agent_framework": (6, 2, 1, 1),
}


@pytest.mark.parametrize("scenario", COUNTED)
def test_calls_count_once_and_to_the_cent(scenario: str) -> None:
    gpt, claude, embeddings, refused = COUNTED[scenario]
    chats = counted(scenario)
    good = [record for record in chats if record.total_tokens]
    assert len([record for record in good if (record.model or "").startswith("gpt-4.1-mini")]) == gpt
    assert len([record for record in good if (record.model or "").startswith("claude-sonnet-4-5")]) == claude
    assert [record.status_code for record in chats if not record.total_tokens] == ["ERROR"] * refused
    for record in good:
        is_gpt = (record.model or "").startswith("gpt")
        if record.span_name != "haystack.agent.step.llm":  # which does not say what it called
            assert record.provider == ("openai" if is_gpt else "anthropic")
        counts = (record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.cache_write_tokens)
        assert counts == ((1000, 300, 600, None) if is_gpt else (950, 200, 700, 150))
        assert record.reasoning_tokens == (120 if is_gpt else None)
        assert record.total_cost_usd == (GPT_COST if is_gpt else CLAUDE_COST)
        assert record.output_text in (TOOL_CALL, ANSWER)
        assert (record.input_text or "").partition("\n")[0].startswith("system: ")
    assert [record.total_cost_usd for record in counted(scenario, "embedding")] == [EMBEDDING_COST] * embeddings


@pytest.mark.parametrize("scenario", COUNTED)
def test_a_refused_call_says_why_and_costs_nothing(scenario: str) -> None:
    for record in rows(scenario):
        if record.status_code == "ERROR" and record.is_generation:
            assert "You are too fast" in (record.error_message or "")
            assert (record.total_tokens, record.total_cost_usd) == (None, None)


def test_usage_on_a_crew_counts_while_nothing_below_it_does() -> None:
    crews = [record for record in rows("crewai_traceloop") if record.operation_type == "workflow"]
    assert [record.is_generation for record in crews] == [True, True, True, False]
    assert [record.request_model for record in crews[:3]] == ["gpt-4.1-mini", "gpt-4.1-mini", "claude-sonnet-4-5"]
    assert [record.total_cost_usd for record in crews[:3]] == [2 * GPT_COST, GPT_COST, CLAUDE_COST]
    assert {record.output_text for record in crews[:3]} == {ANSWER}
    tasks = [record for record in rows("crewai_traceloop") if record.span_name.endswith(".task")]
    assert [(record.operation_type, record.input_text) for record in tasks] == [("chain", "where is parcel 12")] * 4


def test_the_span_that_opens_a_stream_of_logfire_is_no_call() -> None:
    opening = [record for record in rows("logfire_clients") if record.operation_type == "chain"]
    assert [record.is_generation for record in opening] == [False, False, False]


def test_the_answer_of_a_stream_of_logfire_lasts_as_long_as_the_stream() -> None:
    """Logfire makes the span when the stream has ended; an attribute has the seconds."""
    groups = decode_traces((FIXTURES / "logfire_clients.traces.pb").read_bytes(), PROTOBUF).groups
    sent = {span.span_id: span for group in groups for span in group.spans if span.name.startswith("streaming")}
    assert {span.end_ns - span.start_ns for span in sent.values()} == {0}
    streams = [record for record in rows("logfire_clients") if record.span_id in sent]
    assert [record.duration_ms for record in streams] == [132.531, 759.016, 365.059]
    for record in streams:
        assert to_ns(record.ts) + record.duration_ms * 1e6 == pytest.approx(sent[record.span_id].end_ns, abs=2000)


@pytest.mark.parametrize(
    ("stated", "scope", "seconds"),
    [(1.5, "logfire.openai", 1.5), (2, "logfire.anthropic", 2.0), (1.5, "my.scope", 0.0)]
    + [(stated, "logfire.openai", 0.0) for stated in (-1.0, 0, 7200, "2", True, float("nan"), float("inf"))],
)
def test_the_length_that_an_attribute_states_counts_where_it_is_known_to(
    stated: object, scope: str, seconds: float
) -> None:
    sent = request(span({"duration": stated}, endTimeUnixNano=str(NOW_NS)), scope=scope)
    (record,) = map_spans(decode_traces(as_json(sent), JSON), now=NOW).records
    assert (record.duration_ms, record.ts) == (seconds * 1000, NOW - timedelta(seconds=seconds))


def test_results_of_crews_and_agents_are_the_answer_alone() -> None:
    outputs = [record.output_text for record in rows("openinference_crewai") if record.span_name.endswith("kickoff")]
    assert outputs == [ANSWER, ANSWER, ANSWER, None]
    (agent,) = (record for record in rows("haystack_pipelines") if record.operation_type == "agent")
    assert (agent.input_text, agent.output_text, agent.agent_name) == ("where is parcel 12", ANSWER, None)


def test_agents_of_openai_count_each_answer_and_each_refusal() -> None:
    chats = counted("openinference_openai_agents")
    responses = [record for record in chats if record.span_name == "response"]
    assert [record.total_cost_usd for record in responses] == [GPT_COST] * 4
    assert {record.output_text for record in responses} == {TOOL_CALL, ANSWER}
    plain = [record for record in chats if record.span_name == "generation"]
    # Completions tell no cached tokens, and streams of them no usage.
    assert [record.total_tokens for record in plain] == [1300, 1300, None, None]
    assert [record.output_text for record in plain] == [TOOL_CALL, ANSWER, ANSWER, None]
    assert [record.agent_name for record in plain[:3]] == ["tracker", "tracker", "boss"]
    assert plain[-1].status_code == "ERROR"


def test_langsmith_tells_users_sessions_and_cache_writes_by_lifetime() -> None:
    own = [record for record in rows("langsmith") if record.dialect == "langsmith" and record.operation_type == "chat"]
    (claude,) = (record for record in own if (record.model or "").startswith("claude"))
    assert (claude.cached_tokens, claude.cache_write_tokens, claude.total_cost_usd) == (700, 150, CLAUDE_COST)
    good = [record for record in own if record.is_generation and record.total_tokens]
    assert [record.total_cost_usd for record in good] == [GPT_COST] * 10
    (refused,) = (record for record in own if record.status_code == "ERROR")
    assert (refused.provider, refused.user_id, refused.session_id) == ("openai", "ada", "s-7")
    assert refused.tags == ["gold"]
    tools = [record.output_text for record in rows("langsmith") if record.operation_type == "tool"]
    assert tools == ['{"output":"in Lyon"}', "tool: [tool_result call_18] in Lyon"]
