"""A call that two instrumentations saw counts once."""

from __future__ import annotations

from typing import Any

import pytest

from server.ingest.mapping.nested_calls import MARK
from tests.ingest.spans_in_both_encodings import NOW_NS, SECOND, map_document, request, span

CALL: dict[str, Any] = {
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 5,
}
SILENT: dict[str, Any] = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-4o"}
OUTER, INNER = "a" * 16, "b" * 16


def counted(outer: dict[str, Any], inner: dict[str, Any], **inner_fields: Any) -> tuple[bool, bool]:
    """Which of two spans counts: one of two seconds, and one of one second within it."""
    first = span(outer, spanId=OUTER)
    second = span(inner, spanId=INNER, endTimeUnixNano=str(NOW_NS + SECOND), **inner_fields)
    records = {record.span_id: record for record in map_document(request(second, first)).records}
    for record in records.values():
        assert (MARK in record.attributes) != record.is_generation
    return records[OUTER].is_generation, records[INNER].is_generation


def test_child_with_usage_counts_and_its_parent_does_not() -> None:
    assert counted(CALL, CALL, parentSpanId=OUTER) == (False, True)


def test_parent_with_usage_counts_when_its_child_has_none() -> None:
    assert counted(CALL, SILENT, parentSpanId=OUTER) == (True, False)


def test_of_two_failed_calls_without_usage_the_child_counts() -> None:
    assert counted(SILENT, SILENT, parentSpanId=OUTER) == (False, True)


def test_siblings_with_one_response_within_each_other_are_one_call() -> None:
    same = {**CALL, "gen_ai.response.id": "chatcmpl-1"}
    assert counted(same, same) == (False, True)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({**CALL, "gen_ai.response.id": "chatcmpl-1"}, {**CALL, "gen_ai.response.id": "chatcmpl-2"}),
        (
            {**CALL, "gen_ai.response.id": "same"},
            {**CALL, "gen_ai.response.id": "same", "gen_ai.response.model": "gpt-4"},
        ),
        (CALL, CALL),
    ],
)
def test_other_calls_side_by_side_all_count(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    assert counted(outer, inner) == (True, True)


def test_calls_one_after_the_other_count_even_with_one_response_id() -> None:
    same = {**CALL, "gen_ai.response.id": "constant"}
    later = {"startTimeUnixNano": str(NOW_NS + 10 * SECOND), "endTimeUnixNano": str(NOW_NS + 11 * SECOND)}
    batch = map_document(request(span(same, spanId=OUTER), span(same, spanId=INNER, **later)))
    assert [record.is_generation for record in batch.records] == [True, True]


def test_a_server_that_gives_every_response_one_id_loses_no_calls() -> None:
    same = {**CALL, "gen_ai.response.id": "constant"}
    spans = [span(same, spanId=f"{number:016x}") for number in range(1, 50)]
    assert all(record.is_generation for record in map_document(request(*spans)).records)


def test_a_chain_between_two_calls_keeps_both() -> None:
    chain = span({"openinference.span.kind": "CHAIN"}, spanId="c" * 16, parentSpanId=OUTER)
    batch = map_document(request(span(CALL, spanId=OUTER), chain, span(CALL, spanId=INNER, parentSpanId="c" * 16)))
    assert [record.is_generation for record in batch.records] == [True, False, True]


def test_parent_in_another_trace_is_no_parent() -> None:
    assert counted(CALL, CALL, parentSpanId=OUTER, traceId="c" * 32) == (True, True)
