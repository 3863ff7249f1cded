"""Log records: content for spans, evaluations as scores, everything else left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.ingest.mapping.log_mapping import MappedLogs, map_logs
from server.ingest.otlp.decode import decode_logs
from tests.ingest.spans_in_both_encodings import JSON, NOW, NOW_NS, SPAN_ID, TRACE_ID, any_value, attributes

DETAILS, EVALUATION = "gen_ai.client.inference.operation.details", "gen_ai.evaluation.result"


def record(name: str, values: dict[str, Any] | None = None, body: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": str(NOW_NS),
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "eventName": name,
        "attributes": attributes(values or {}),
        **({} if body is None else {"body": any_value(body)}),
        **fields,
    }


def mapped(*records: dict[str, Any]) -> MappedLogs:
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}
    return map_logs(decode_logs(json.dumps(document).encode(), JSON), now=NOW)


def test_details_fill_the_content_columns_of_their_span() -> None:
    values = {
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","content":"yes","finish_reason":"stop"}]',
        "gen_ai.system_instructions": '[{"type":"text","content":"be brief"}]',
        "gen_ai.conversation.id": "c-1",
        "gen_ai.usage.input_tokens": 99,
    }
    (update,) = mapped(record(DETAILS, values)).updates
    assert (update.trace_id, update.span_id, update.ts) == (TRACE_ID, SPAN_ID, NOW)
    assert update.columns["input_text"] == "system: be brief\nuser: hi"
    assert update.columns["output_text"] == "yes"
    assert (update.columns["finish_reason"], update.columns["session_id"]) == ("stop", "c-1")
    assert "prompt_tokens" not in update.columns


def test_details_may_stand_in_the_body_and_their_name_in_an_attribute() -> None:
    body = {"gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "yes"}]}]}
    (update,) = mapped(record("", {"event.name": DETAILS}, body)).updates
    assert update.columns["output_text"] == "yes"


def test_messages_of_generation_a_become_one_update_in_the_order_of_time() -> None:
    (update,) = mapped(
        record(
            "gen_ai.choice",
            body={"message": {"content": "yes"}, "finish_reason": "stop", "index": 0},
            timeUnixNano=str(NOW_NS + 2),
        ),
        record("gen_ai.user.message", body={"content": "hi"}, timeUnixNano=str(NOW_NS + 1)),
        record("gen_ai.system.message", body={"content": "be brief"}),
    ).updates
    assert update.columns["input_text"] == "system: be brief\nuser: hi"
    assert (update.columns["output_text"], update.columns["finish_reason"]) == ("yes", "stop")
    assert update.columns["output_messages"][0]["role"] == "assistant"


def test_messages_that_a_logger_made_text_of_are_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"id": "12"}'}}
    choice = {"message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    (update,) = mapped(
        record("gen_ai.system.message", body='{"role": "system", "content": "be brief"}'),
        record("gen_ai.user.message", body='{"parcel": 12}', timeUnixNano=str(NOW_NS + 1)),
        record("gen_ai.choice", body=json.dumps(choice), timeUnixNano=str(NOW_NS + 2)),
    ).updates
    assert update.columns["input_text"] == 'system: be brief\nuser: {"parcel": 12}'
    assert update.columns["output_text"] == '[tool_call track({"id":"12"})]'
    assert update.columns["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"gen_ai.evaluation.score.value": 0.8}, ("numeric", 0.8, None)),
        ({"gen_ai.evaluation.score.value": 1, "gen_ai.evaluation.score.label": "pass"}, ("numeric", 1.0, "pass")),
        ({"gen_ai.evaluation.score.value": True}, ("boolean", 1.0, None)),
        ({"gen_ai.evaluation.score.label": "relevant"}, ("categorical", None, "relevant")),
    ],
)
def test_evaluation_becomes_a_score(values: dict[str, Any], expected: tuple[str, float | None, str | None]) -> None:
    values = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.explanation": "because", **values}
    (score,) = mapped(record(EVALUATION, values)).scores
    assert (score.data_type, score.value, score.string_value) == expected
    assert (score.name, score.comment, score.source, score.span_id) == ("relevance", "because", "eval", SPAN_ID)


def test_repeated_evaluation_is_the_same_score_and_a_later_one_another() -> None:
    values = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8}
    scores = mapped(
        record(EVALUATION, values), record(EVALUATION, values), record(EVALUATION, values, timeUnixNano=str(NOW_NS + 1))
    ).scores
    assert len({score.score_id for score in scores}) == 2


def test_evaluation_of_a_whole_trace_has_no_span() -> None:
    values = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8}
    assert mapped(record(EVALUATION, values, spanId="")).scores[0].span_id is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (record(EVALUATION, {"gen_ai.evaluation.score.value": 1}), "missing_score"),
        (record(EVALUATION, {"gen_ai.evaluation.name": "n"}), "missing_score"),
        (
            record(EVALUATION, {"gen_ai.evaluation.name": "n", "gen_ai.evaluation.score.value": float("nan")}),
            "missing_score",
        ),
        (record(DETAILS, traceId=""), "invalid_trace_id"),
        (record(DETAILS, spanId=""), "invalid_span_id"),
        (record(DETAILS, timeUnixNano="0"), "missing_start_time"),
        (record(DETAILS, timeUnixNano="5"), "too_old"),
        (record(DETAILS, timeUnixNano=str(2**64 - 1)), "in_future"),
    ],
)
def test_bad_record_is_rejected_with_its_reason(item: dict[str, Any], reason: str) -> None:
    assert [rejected.reason for rejected in mapped(item).rejected] == [reason]


def test_other_records_are_ignored_not_rejected() -> None:
    result = mapped(record("session.start"), record("", body="a log line"))
    assert (result.ignored, result.rejected, result.updates) == (2, [], [])


def test_nul_in_a_record_is_replaced() -> None:
    (update,) = mapped(record("gen_ai.user.message", body={"content": "a\0b"})).updates
    assert update.columns["input_text"] == "a\ufffdb"
