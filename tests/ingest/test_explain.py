"""The dry run tells for every column its value, where it came from, and why."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from server.ingest.explain import explain_payload
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import decode_traces
from tests.ingest.spans_in_both_encodings import JSON, NOW, as_json, event, request, span

VALUES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "anthropic",
    "gen_ai.response.model": "claude-sonnet-4-5",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.cache_read_input_tokens": 100,
    "gen_ai.usage.output_tokens": -3,
    "gen_ai.prompt": "hi",
    "my.own": 1,
}


def explained(*spans: dict[str, Any]) -> list[dict[str, Any]]:
    return explain_payload(decode_traces(as_json(request(*spans, resource={"service.name": "shop"})), JSON), now=NOW)


def columns(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["column"]: column for column in entry["columns"]}


def test_every_column_has_its_value_and_its_source() -> None:
    (entry,) = explained(span(VALUES, events=[event("exception", exception__type="Boom")]))
    found = columns(entry)
    assert set(found) == {field.name for field in fields(SpanRecord)} - {"dropped"}
    sources = {name: column["from"] for name, column in found.items()}
    assert sources["provider"] == "gen_ai.system"
    assert sources["model"] == "gen_ai.response.model"
    assert sources["input_text"] == "gen_ai.prompt"
    assert sources["service_name"] == "resource service.name"
    assert sources["error_type"] == "event exception"
    assert sources["duration_ms"] == "endTimeUnixNano - startTimeUnixNano"
    assert sources["total_cost_usd"] == found["price_version"]["value"]
    assert sources["user_id"] is None
    assert found["prompt_tokens"]["value"] == 105
    assert (
        found["usage_rule"]["rule"]
        == "2: the convention of the span leaves the cache out of the input, to which it was added"
    )
    assert entry["dialect"] == "genai_a"
    assert entry["unused"] == ["my.own"]
    assert entry["dropped"] == {
        "completion_tokens": {"reason": "negative", "detail": "a count, amount or time below zero"}
    }


def test_spans_of_one_request_tell_which_of_them_counts_and_why() -> None:
    outer, inner = "a" * 16, "b" * 16
    call = {**VALUES, "user.id": "ada"}
    entries = explained(span(call, spanId=outer), span(VALUES, spanId=inner, parentSpanId=outer))
    first, second = (columns(entry) for entry in entries)
    assert first["count_rule"]["rule"] == "3: does not count: a span inside it reports the same call"
    assert (first["is_generation"]["value"], first["counted_in"]["value"]) == (False, inner)
    assert second["count_rule"]["rule"] == "1: counts: the report of a model call"
    assert (second["user_id"]["value"], second["user_id"]["from"]) == ("ada", f"span {outer}")


def test_rejected_span_says_why() -> None:
    entries = explained(span(VALUES), span(VALUES, traceId="00" * 16))
    assert [entry["stored"] for entry in entries] == [True, False]
    assert (entries[1]["index"], entries[1]["reason"]) == (1, "invalid_trace_id")
    assert "16 bytes" in entries[1]["detail"]


def test_explanation_and_row_are_the_same_mapping() -> None:
    from tests.ingest.spans_in_both_encodings import map_one

    record = map_one(dict(VALUES), resource={"service.name": "shop"})
    for name, column in columns(explained(span(VALUES))[0]).items():
        assert column["value"] == getattr(record, name)
