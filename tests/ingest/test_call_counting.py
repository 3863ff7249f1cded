"""A call that two instrumentations saw counts once."""

from __future__ import annotations

from typing import Any

import pytest

from server.ingest.counting.count_rules import COUNT_RULES
from tests.ingest.spans_in_both_encodings import NOW_NS, SECOND, map_document, request, span

CALL: dict[str, Any] = {
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 5,
}
SILENT: dict[str, Any] = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-4o"}
OUTER, INNER = "a" * 16, "b" * 16


def counted(outer: dict[str, Any], inner: dict[str, Any], **inner_fields: Any) -> tuple[bool, bool]:
    """Return which of two spans counts: one of two seconds, and one of one second within it."""
    first = span(outer, spanId=OUTER)
    second = span(inner, spanId=INNER, endTimeUnixNano=str(NOW_NS + SECOND), **inner_fields)
    records = {record.span_id: record for record in map_document(request(second, first)).records}
    for record in records.values():
        assert record.count_rule in COUNT_RULES
        assert (record.counted_in is None) == record.is_generation
    return records[OUTER].is_generation, records[INNER].is_generation


def test_child_with_usage_counts_and_its_parent_does_not() -> None:
    assert counted(CALL, CALL, parentSpanId=OUTER) == (False, True)


def test_parent_with_usage_counts_when_its_child_has_none() -> None:
    assert counted(CALL, SILENT, parentSpanId=OUTER) == (True, False)


def test_of_two_failed_calls_without_usage_the_child_counts() -> None:
    assert counted(SILENT, SILENT, parentSpanId=OUTER) == (False, True)


BILLED: dict[str, Any] = {**CALL, "gen_ai.usage.cost": 0.25}


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (BILLED, CALL, (True, False)),
        (CALL, BILLED, (False, True)),
        (BILLED, BILLED, (False, True)),
    ],
)
def test_of_two_reports_of_one_call_the_one_with_the_cost_counts(
    outer: dict[str, Any], inner: dict[str, Any], expected: tuple[bool, bool]
) -> None:
    assert counted(outer, inner, parentSpanId=OUTER) == expected
    same = {"gen_ai.response.id": "chatcmpl-1"}
    assert counted({**outer, **same}, {**inner, **same}) == expected


def test_a_cost_of_other_tokens_is_not_the_bill_of_the_call_inside() -> None:
    assert counted({**BILLED, "gen_ai.usage.input_tokens": 9}, CALL, parentSpanId=OUTER) == (False, True)


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


BETWEEN = "c" * 16


@pytest.mark.parametrize(
    ("between", "inner_tokens", "expected"),
    [
        pytest.param({"http.request.method": "POST"}, 5, (False, True), id="a request lies between"),
        pytest.param({"http.request.method": "POST"}, 4, (False, True), id="a request, and they count differently"),
        pytest.param({"openinference.span.kind": "CHAIN"}, 5, (False, True), id="a chain, and equal usage"),
        pytest.param({"openinference.span.kind": "CHAIN"}, 4, (True, True), id="a chain, and other usage"),
        pytest.param({"openinference.span.kind": "TOOL"}, 5, (True, True), id="a tool calls a model"),
        pytest.param({"openinference.span.kind": "AGENT"}, 5, (True, True), id="an agent calls a model"),
    ],
)
def test_what_lies_between_two_reports_tells_whether_they_are_one_call(
    between: dict[str, Any], inner_tokens: int, expected: tuple[bool, bool]
) -> None:
    inner = {**CALL, "gen_ai.usage.input_tokens": inner_tokens}
    batch = map_document(
        request(
            span(CALL, spanId=OUTER),
            span(between, spanId=BETWEEN, parentSpanId=OUTER),
            span(inner, spanId=INNER, parentSpanId=BETWEEN),
        )
    )
    records = {record.span_id: record for record in batch.records}
    assert (records[OUTER].is_generation, records[INNER].is_generation) == expected


def test_an_embedding_inside_a_chat_is_another_call() -> None:
    embedding = {**CALL, "gen_ai.operation.name": "embeddings", "gen_ai.response.model": "text-embedding-3-small"}
    assert counted(CALL, embedding, parentSpanId=OUTER) == (True, True)


def test_calls_inside_a_call_that_has_their_sum_all_count() -> None:
    outer = {**CALL, "gen_ai.usage.input_tokens": 15}
    inner = [span(CALL, spanId=f"{number:016x}", parentSpanId=OUTER) for number in (1, 2, 3)]
    records = map_document(request(span(outer, spanId=OUTER), *inner)).records
    assert [record.is_generation for record in records] == [False, True, True, True]


def test_client_and_vendor_with_clocks_of_their_own_report_one_call() -> None:
    same = {**CALL, "gen_ai.response.id": "msg_1"}
    vendor = span(same, spanId=INNER, kind=2, startTimeUnixNano=str(NOW_NS - SECOND), endTimeUnixNano=str(NOW_NS))
    records = map_document(request(vendor, span(same, spanId=OUTER, kind=3))).records
    assert [(record.is_generation, record.count_rule) for record in records] == [(True, 1), (False, 5)]


def scoped(*parts: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return one request with a scope for each span."""
    scopes = [{"scope": {"name": name}, "spans": [one]} for name, one in parts]
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": scopes}]}


USED: dict[str, Any] = {**CALL, "gen_ai.usage.output_tokens": 7}


@pytest.mark.parametrize(
    ("scopes", "other", "expected"),
    [
        pytest.param(("a", "b"), {}, [False, True], id="two instrumentations"),
        pytest.param(("a", "a"), {}, [True, True], id="one instrumentation, two calls at once"),
        pytest.param(("a", "b"), {"gen_ai.usage.output_tokens": 8}, [True, True], id="other usage"),
        pytest.param(("a", "b"), {"gen_ai.response.model": "gpt-4o-2024-08-06"}, [False, True], id="dated model"),
        pytest.param(("a", "b"), {"gen_ai.response.model": "gpt-4o-mini"}, [True, True], id="other model"),
    ],
)
def test_siblings_of_equal_time_and_usage_are_one_call_of_two_instrumentations(
    scopes: tuple[str, str], other: dict[str, Any], expected: list[bool]
) -> None:
    first = span(USED, spanId=OUTER)
    second = span({**USED, **other}, spanId=INNER, endTimeUnixNano=str(NOW_NS + SECOND))
    records = map_document(scoped((scopes[0], first), (scopes[1], second))).records
    assert [record.is_generation for record in records] == expected


def test_two_equal_calls_at_once_seen_by_two_instrumentations_are_two() -> None:
    spans = [(scope, span(USED, spanId=f"{number:016x}")) for number, scope in enumerate("aabb", start=1)]
    assert sum(record.is_generation for record in map_document(scoped(*spans)).records) == 2


CACHED = {"gen_ai.usage.cache_read.input_tokens": 4}


@pytest.mark.parametrize("place", [{"parentSpanId": OUTER}, {"endTimeUnixNano": str(NOW_NS + SECOND)}])
def test_the_report_that_tells_of_the_cache_counts(place: dict[str, Any]) -> None:
    """Its cost is the right one; without the cached tokens a computed one is too high."""
    first, second = span({**USED, **CACHED}, spanId=OUTER), span(USED, spanId=INNER, **place)
    records = map_document(scoped(("a", first), ("b", second))).records
    assert [record.is_generation for record in records] == [True, False]
    assert records[1].count_rule == (8 if "parentSpanId" in place else 6)
    both = map_document(scoped(("a", first), ("b", {**second, "attributes": first["attributes"]}))).records
    assert [record.is_generation for record in both] == [False, True]


def test_a_cost_that_the_inner_span_reports_is_the_bill_whatever_is_said_of_the_cache_around_it() -> None:
    inner = span({**USED, "gen_ai.usage.cost": 0.5}, spanId=INNER, parentSpanId=OUTER)
    records = map_document(scoped(("a", span({**USED, **CACHED}, spanId=OUTER)), ("b", inner))).records
    assert [record.is_generation for record in records] == [False, True]


SILENT_CALL = {name: value for name, value in USED.items() if "usage" not in name}
FAILED = {"status": {"code": 2}}


@pytest.mark.parametrize(
    ("scopes", "other", "fields", "expected"),
    [
        pytest.param(("a", "b"), SILENT_CALL, {}, [True, False], id="one says nothing"),
        pytest.param(("a", "b"), SILENT_CALL, FAILED, [True, False], id="one fails, and the other was paid for"),
        pytest.param(("a", "a"), SILENT_CALL, {}, [True, True], id="one instrumentation"),
        pytest.param(("a", "b"), SILENT_CALL, {"parentSpanId": BETWEEN}, [True, True], id="another span above"),
        pytest.param(
            ("a", "b"), SILENT_CALL,
            {"endTimeUnixNano": str(NOW_NS + 9 * SECOND), "startTimeUnixNano": str(NOW_NS + SECOND)},
            [True, True], id="another time",
        ),
        pytest.param(("a", "b"), {**SILENT_CALL, "gen_ai.response.model": "gpt-5"}, {}, [True, True], id="other model"),
    ],
)  # fmt: skip
def test_a_call_without_usage_beside_one_of_another_instrumentation_is_the_same(
    scopes: tuple[str, str], other: dict[str, Any], fields: dict[str, Any], expected: list[bool]
) -> None:
    first, second = (
        span(USED, spanId="1" * 16, parentSpanId=OUTER),
        span(other, **{"spanId": "2" * 16, "parentSpanId": OUTER, "endTimeUnixNano": str(NOW_NS + SECOND), **fields}),
    )
    for parts in ((first, second), (second, first)):
        names = scopes if parts[0] is first else scopes[::-1]
        records = map_document(scoped(*zip(names, parts, strict=True))).records
        by_id = {record.span_id: record.is_generation for record in records}
        assert [by_id["1" * 16], by_id["2" * 16]] == expected


def test_of_two_that_say_nothing_the_one_that_failed_counts() -> None:
    failed = span(SILENT_CALL, spanId="2" * 16, parentSpanId=OUTER, status={"code": 2})
    records = map_document(scoped(("a", span(SILENT_CALL, spanId="1" * 16, parentSpanId=OUTER)), ("b", failed))).records
    assert [record.is_generation for record in records] == [False, True]


AGENT: dict[str, Any] = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 9,
}
PARTIAL: dict[str, Any] = {**SILENT, "gen_ai.usage.partial.input_tokens": 9}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        pytest.param({"gen_ai.operation.name": "execute_tool"}, [(True, 2)], id="nothing below reports usage"),
        pytest.param(PARTIAL, [(True, 2), (True, 1)], id="partial usage never counts"),
        pytest.param(CALL, [(False, 7), (True, 1)], id="a call below reports usage"),
        pytest.param(AGENT, [(False, 7), (True, 2)], id="an agent below repeats it"),
    ],
)
def test_usage_of_an_agent_counts_where_nothing_below_reports_any(
    inner: dict[str, Any], expected: list[tuple[bool, int]]
) -> None:
    batch = map_document(request(span(AGENT, spanId=OUTER), span(inner, spanId=INNER, parentSpanId=OUTER)))
    found = [(record.is_generation, record.count_rule) for record in batch.records if record.count_rule is not None]
    assert found == expected


def test_a_counted_call_takes_what_it_lacks_from_the_other_report() -> None:
    outer = {
        **CALL, "user.id": "ada", "session.id": "chat-9", "gen_ai.agent.name": "tea", "gen_ai.prompt.name": "order",
        "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "price of tea?"}]}]',
    }  # fmt: skip
    inner = {**CALL, "session.id": "its own"}
    batch = map_document(request(span(outer, spanId=OUTER), span(inner, spanId=INNER, parentSpanId=OUTER)))
    call = next(record for record in batch.records if record.span_id == INNER)
    assert (call.user_id, call.session_id, call.agent_name, call.prompt_name) == ("ada", "its own", "tea", "order")
    assert call.input_text == "price of tea?"
    assert call.inherited == dict.fromkeys(("user_id", "agent_name", "prompt", "input"), OUTER)


def test_calls_that_name_each_other_as_parent_still_cost_something() -> None:
    batch = map_document(
        request(span(CALL, spanId=OUTER, parentSpanId=INNER), span(CALL, spanId=INNER, parentSpanId=OUTER))
    )
    assert sum(record.is_generation for record in batch.records) == 1


def test_parent_in_another_trace_is_no_parent() -> None:
    assert counted(CALL, CALL, parentSpanId=OUTER, traceId="c" * 32) == (True, True)


def test_two_traces_of_one_response_are_one_call() -> None:
    same = {**CALL, "gen_ai.response.id": "msg_1"}
    assert counted(same, same, traceId="c" * 32) == (False, True)
    assert counted(same, {**same, "gen_ai.response.id": "msg_2"}, traceId="c" * 32) == (True, True)
