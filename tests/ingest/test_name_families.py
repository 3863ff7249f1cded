"""Names that no table lists are read by their parts; units, flags and words are read as what they say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from server.ingest.dialects.name_families import FAMILIES, Family, plain_form, slot_of_name
from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.spans_in_both_encodings import NOW_NS, event, map_one

CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
USED = {**CALL, "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_each_word_under_each_head_feeds_its_slot(family: Family) -> None:
    for head in (*family.heads, *(f"anything{ending}" for ending in family.endings)):
        for word, (slot, _) in family.words.items():
            key = word if head == "" else f"anything.{word}" if head == "*" else f"{head}.{word}"
            found = slot_of_name(key)
            assert found is not None, key
            assert found[0] == slot, key


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.request.max_tokens", "gen_ai.usage.partial.input_tokens", "gen_ai.aggregated_usage.input_tokens",
        "db.user_id", "messaging.conversation_id", "http.request.header.user_id", "max_input_tokens", "cost_center",
        "gen_ai.usage.cost_center.currency", "net.thread.id", "not_time_to_first_token.at", "x" * 200 + ".ttft",
    ],
)  # fmt: skip
def test_a_name_that_only_resembles_means_nothing(key: str) -> None:
    assert slot_of_name(key) is None


def test_camel_case_colons_and_dashes_are_one_form() -> None:
    forms = {plain_form(key) for key in ("metadata.userId", "metadata:user-id", "Metadata.user_id")}
    assert forms == {"metadata.user_id"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"ai.telemetry.metadata.userId": "ada", "ai.telemetry.metadata.threadId": "s-1"},
        {
            "traceloop.association.properties.end_user_id": "ada",
            "traceloop.association.properties.chatId": "s-1",
        },
        {"metadata": '{"userId": "ada", "conversation_id": "s-1", "tier": "gold"}'},
        {"langfuse.trace.metadata": {"user.id": "ada", "session.id": "s-1"}},
        {"litellm.metadata": "{'user_id': 'ada', 'session_id': 's-1', 'flag': None}"},
        {"genkit:metadata:context": '{"user_id": "ada", "thread_id": "s-1"}'},
        {"baggage.user.id": "ada", "baggage.session.id": "s-1"},
    ],
)
def test_user_and_session_are_found_in_what_senders_call_metadata(attributes: dict[str, Any]) -> None:
    record = map_one({**USED, **attributes})
    assert (record.user_id, record.session_id) == ("ada", "s-1")


def test_a_table_comes_before_a_family_and_metadata_stays_an_attribute() -> None:
    record = map_one({**USED, "user.id": "bob", "metadata": '{"user_id": "ada"}', "app.user_id": "eve"})
    assert record.user_id == "bob"
    assert record.attributes["metadata"] == '{"user_id": "ada"}'
    assert record.attributes["app.user_id"] == "eve"


@pytest.mark.parametrize(
    "usage",
    [
        {"gen_ai.usage": '{"input_tokens": 1000, "output_tokens": 100}'},
        {"gen_ai.usage": {"inputTokens": 1000, "outputTokens": 100}},
        {"usage_metadata": '{"prompt_token_count": 1000, "candidates_token_count": 100, "total_token_count": 1100}'},
        {"llm.response.usage.prompt_tokens": 1000, "llm.response.usage.completion_tokens": "100"},
        {"gen_ai.client.inference.usage.input_tokens": 1000, "gen_ai.client.inference.usage.output_tokens": 100},
        {"prompt_tokens": 1000, "completion_tokens": 100},
    ],
)
def test_tokens_are_found_in_whatever_is_called_usage(usage: dict[str, Any]) -> None:
    record = map_one({**CALL, **usage})
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (1000, 100, 1100)


@pytest.mark.parametrize(
    "cost",
    [
        {"llm.response.cost": 0.5}, {"gen_ai.usage.cost.total": "0.5"}, {"openrouter.usage.cost": 0.5},
        {"gen_ai.usage.cost": "$0.50"}, {"gen_ai.usage.cost.input": 0.2, "gen_ai.usage.cost.output": 0.3},
    ],
)  # fmt: skip
def test_a_reported_cost_wins_under_each_of_its_names(cost: dict[str, Any]) -> None:
    record = map_one({**USED, **cost})
    assert (record.total_cost_usd, record.cost_source) == (Decimal("0.5"), "reported")


@pytest.mark.parametrize(
    "ttft",
    [
        {"llm.time_to_first_token": 0.5}, {"gen_ai.latency.time_to_first_token": "0.5"}, {"llm.ttft": 0.5},
        {"time_to_first_token_ms": 500}, {"vendor.msToFirstToken": 500.0}, {"vendor.ttft_ms": "500"},
        {"gen_ai.server.time_to_first_token": 500}, {"gen_ai.server.time_to_first_token": 500.0},
        {"gen_ai.server.time_to_first_token": 500_000}, {"gen_ai.server.time_to_first_token": 500_000_000},
    ],
)  # fmt: skip
def test_the_time_to_the_first_token_is_read_in_its_unit(ttft: dict[str, Any]) -> None:
    assert map_one({**USED, **ttft}).ttft_ms == 500.0


@pytest.mark.parametrize("name", ["first_token", "gen_ai.response.first_chunk", "ai.stream.firstChunk", "FirstToken"])
def test_an_event_of_the_first_token_tells_its_time(name: str) -> None:
    assert map_one(USED, events=[event(name, at=NOW_NS + 500_000_000)]).ttft_ms == 500.0


def outcome(record: SpanRecord) -> tuple[str, str | None, str | None]:
    return record.status_code, record.error_type, record.error_message


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"error": True}, (None, None)),
        ({"error": "rate limited"}, (None, "rate limited")),
        ({"error": '{"type": "rate_limit", "message": "slow down"}'}, ("rate_limit", "slow down")),
        ({"error": {"error": {"type": "rate_limit", "message": "slow down"}}}, ("rate_limit", "slow down")),
        ({"exception.type": "TimeoutError", "exception.message": "too slow"}, ("TimeoutError", "too slow")),
        ({"error.message": "too slow"}, (None, "too slow")),
        ({"llm.error": "ValueError: no"}, ("ValueError", "ValueError: no")),
        ({"gen_ai.response.finish_reasons": ["FAILED"]}, (None, None)),
        ({"openai.response.status": "failed"}, (None, None)),
        ({"level": "error"}, (None, None)),
        ({"otel.status_code": "ERROR", "otel.status_description": "too slow"}, (None, "too slow")),
        ({"http.response.status_code": 503}, (None, None)),
    ],
)
def test_an_error_is_one_however_it_is_told(attributes: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    assert outcome(map_one({**USED, **attributes})) == ("ERROR", *expected)


@pytest.mark.parametrize("body", [{"error__message": "no"}, {"message": "no", "type": "Broken"}])
def test_an_error_event_is_an_error(body: dict[str, Any]) -> None:
    record = map_one(USED, events=[event("error", **body)])
    assert (record.status_code, record.error_message) == ("ERROR", "no")


@pytest.mark.parametrize(
    "attributes",
    [
        {"error": False}, {"error": ""}, {"error": "null"}, {"error": "{}"}, {"error": "None"}, {"status": "completed"},
        {"level": "warning"}, {"http.response.status_code": 200}, {"openai.response.status": "in_progress"},
    ],
)  # fmt: skip
def test_a_word_for_no_error_is_none(attributes: dict[str, Any]) -> None:
    assert outcome(map_one({**USED, **attributes})) == ("OK", None, None)
