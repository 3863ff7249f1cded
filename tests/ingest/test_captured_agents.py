"""Captured spans of Python's agent frameworks, from a stub vendor with known usage: counted once, to the cent.

Each call of the stub reported 900 tokens in, of which 640 were cached, and 210 out, of which 128 were reasoning.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.test_captured_payloads import rows

COST = Decimal("0.000504")
"""260 tokens at 0.40, 640 at 0.10 and 210 at 1.60 dollars a million."""
TOOL_CALL, ANSWER = '[tool_call track({"id":"12"})]', "In Lyon."


def counted(scenario: str) -> list[SpanRecord]:
    return [record for record in rows(scenario) if record.is_generation and record.operation_type == "chat"]


@pytest.mark.parametrize(("scenario", "answered", "provider"), [
    ("monocle", 4, "openai"), ("strands", 2, "strands-agents"), ("autogen", 3, "openai"),
])  # fmt: skip
def test_each_call_counts_once_with_its_tokens_and_cost(scenario: str, answered: int, provider: str) -> None:
    good = [record for record in counted(scenario) if record.total_tokens]
    assert len(good) == answered
    for record in good:
        assert record.provider == provider
        assert (record.model or "").startswith("gpt-4.1-mini")
        assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (900, 210, 640)
        assert record.total_cost_usd == COST
    assert sum(record.total_cost_usd or 0 for record in rows(scenario) if record.is_generation) == answered * COST


@pytest.mark.parametrize("scenario", ["monocle", "strands", "autogen"])
def test_a_failed_call_costs_nothing_and_says_why(scenario: str) -> None:
    (failed,) = (record for record in counted(scenario) if record.status_code == "ERROR")
    assert (failed.total_tokens, failed.total_cost_usd) == (None, None)
    assert "bad request of the test" in (failed.error_message or "")
    assert (failed.input_text or "").endswith("fail-me")


@pytest.mark.parametrize("scenario", ["monocle", "strands", "autogen"])
def test_questions_answers_and_tool_calls_are_read(scenario: str) -> None:
    good = [record for record in counted(scenario) if record.total_tokens]
    assert (good[0].input_text or "").startswith("system: ")
    assert (good[0].input_text or "").endswith("user: where is parcel 12")
    assert {record.output_text for record in good} == {TOOL_CALL, ANSWER}


def test_monocle_names_the_session_and_the_tool_that_the_model_called() -> None:
    assert {record.session_id for record in rows("monocle")} == {"s-77"}
    assert [record.finish_reason for record in counted("monocle")] == ["stop", "stop", "tool_calls", "stop", None]


def test_calls_of_strands_and_autogen_have_the_agent_above_them() -> None:
    for record in counted("strands"):
        assert (record.user_id, record.session_id, record.tags) == ("ada", "s-77", ["eu"])
        assert record.agent_name == "tracker"
    assert [record.agent_name for record in counted("autogen")] == ["tracker", "tracker", "plain", "plain"]
    for scenario in ("strands", "autogen"):
        (tool,) = (record for record in rows(scenario) if record.operation_type == "tool")
        assert (tool.tool_name, tool.is_generation) == ("track", False)
