"""From attributes to columns: identity, times, resource, outcome, and what stays an attribute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.ingest.mapping.mapping_result import IngestWindow
from server.ingest.mapping.rejection import REASONS
from server.ingest.mapping.span_mapping import SPAN_KINDS, map_spans
from server.ingest.otlp.decode import decode_traces
from tests.ingest.spans_in_both_encodings import (
    JSON,
    NOW,
    NOW_NS,
    SECOND,
    SPAN_ID,
    TRACE_ID,
    as_json,
    attributes,
    event,
    map_document,
    map_one,
    request,
    span,
    usd,
)

DAY = 86_400 * SECOND

BAD_SPANS = [
    pytest.param({"traceId": "0" * 32}, "invalid_trace_id", id="trace-id-all-zero"),
    pytest.param({"traceId": "ab" * 15}, "invalid_trace_id", id="trace-id-15-bytes"),
    pytest.param({"traceId": "ab" * 17}, "invalid_trace_id", id="trace-id-17-bytes"),
    pytest.param({"traceId": ""}, "invalid_trace_id", id="trace-id-missing"),
    pytest.param({"spanId": "0" * 16}, "invalid_span_id", id="span-id-all-zero"),
    pytest.param({"spanId": "ab" * 7}, "invalid_span_id", id="span-id-7-bytes"),
    pytest.param({"spanId": ""}, "invalid_span_id", id="span-id-missing"),
    pytest.param({"startTimeUnixNano": "0"}, "missing_start_time", id="start-0"),
    pytest.param({"startTimeUnixNano": "1"}, "too_old", id="start-1970"),
    pytest.param({"startTimeUnixNano": str(NOW_NS - 91 * DAY)}, "too_old", id="start-91-days-ago"),
    pytest.param({"startTimeUnixNano": str(NOW_NS + DAY), "endTimeUnixNano": "0"}, "in_future", id="start-tomorrow"),
    pytest.param({"startTimeUnixNano": str(2**64 - 1)}, "in_future", id="start-uint64-max"),
    pytest.param({"startTimeUnixNano": "9214646400000000000"}, "in_future", id="start-2262"),
    pytest.param({"endTimeUnixNano": str(2**64 - 1)}, "in_future", id="end-uint64-max"),
]


class TestRejectedSpans:
    @pytest.mark.parametrize(("fields", "reason"), BAD_SPANS)
    def test_bad_span_is_rejected_with_its_reason(self, fields: dict[str, Any], reason: str) -> None:
        batch = map_document(request(span(**fields)))
        assert [item.reason for item in batch.rejected] == [reason]
        assert batch.records == []

    def test_the_good_spans_of_a_batch_are_kept_in_order(self) -> None:
        good = [span(spanId=f"{number:016x}") for number in range(1, 94)]
        bad = [span(**item.values[0]) for item in BAD_SPANS[:6]]  # type: ignore[arg-type]
        batch = map_document(request(*good[:50], *bad, *good[50:]))
        assert [record.span_id for record in batch.records] == [item["spanId"] for item in good]
        assert [item.index for item in batch.rejected] == list(range(50, 56))

    @pytest.mark.parametrize("parent", ["ab" * 3, "ab" * 16])
    def test_a_parent_id_of_the_wrong_length_costs_the_field_and_not_the_span(self, parent: str) -> None:
        record = map_one({}, parentSpanId=parent)
        assert record.parent_span_id is None
        assert record.attributes == {"otel.parent_span_id": parent}
        assert record.dropped == {"parent_span_id": {"reason": "invalid_parent_span_id"}}

    def test_every_reason_has_an_explanation(self) -> None:
        assert {item.values[1] for item in BAD_SPANS} <= set(REASONS)

    def test_json_id_that_is_not_hex_rejects_only_its_span(self) -> None:
        body = as_json(request(span(traceId="xyz" * 11), span()))
        batch = map_spans(decode_traces(body, JSON), now=NOW)
        assert (len(batch.records), [item.reason for item in batch.rejected]) == (1, ["invalid_trace_id"])

    def test_window_is_an_argument(self) -> None:
        document = request(span(startTimeUnixNano=str(NOW_NS - 2 * DAY), endTimeUnixNano="0"))
        assert len(map_document(document).records) == 1
        narrow = IngestWindow(max_age=timedelta(days=1))
        assert [item.reason for item in map_document(document, window=narrow).rejected] == ["too_old"]


class TestIdentityAndTimes:
    def test_ten_minutes_ahead_is_fine(self) -> None:
        start = NOW_NS + 600 * SECOND
        assert map_one(startTimeUnixNano=str(start), endTimeUnixNano=str(start)).duration_ms == 0

    def test_end_before_start_is_a_clock_that_ran_back(self) -> None:
        record = map_one(endTimeUnixNano=str(NOW_NS - 1))
        assert (record.duration_ms, record.attributes["observatory.clock_skew"]) == (0, True)

    def test_microseconds_are_kept_and_nothing_finer(self) -> None:
        """Rollups count whole microseconds: rows must hold the same."""
        record = map_one(startTimeUnixNano=str(NOW_NS + 123_456_789), endTimeUnixNano=str(NOW_NS + 124_000_001))
        assert record.ts == datetime(2026, 11, 1, 12, 0, 0, 123_456, tzinfo=UTC)
        assert record.duration_ms == 0.543
        assert map_one(endTimeUnixNano=str(NOW_NS + 20_384_522)).duration_ms == 20.385

    @pytest.mark.parametrize("parent", ["", "0" * 16])
    def test_absent_parent_is_a_root(self, parent: str) -> None:
        record = map_one(parentSpanId=parent)
        assert (record.parent_span_id, record.dropped) == (None, None)

    def test_parent_that_is_itself_is_cut_off(self) -> None:
        record = map_one(parentSpanId=SPAN_ID)
        assert record.parent_span_id is None
        assert record.dropped == {"parent_span_id": {"reason": "own_parent"}}

    def test_links_are_kept_as_text_and_bad_ones_left_out(self) -> None:
        good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "attributes": attributes({"why": "retry"})}
        record = map_one(links=[good, {"traceId": "ab", "spanId": "cd" * 8, "attributes": []}])
        assert record.links == [{"trace_id": "ab" * 16, "span_id": "cd" * 8, "attributes": {"why": "retry"}}]
        assert record.dropped == {"links": {"dropped": 1}}

    @pytest.mark.parametrize(("kind", "name"), list(enumerate(SPAN_KINDS)))
    def test_span_kind(self, kind: int, name: str) -> None:
        assert map_one(kind=kind).span_kind == name

    def test_unknown_span_kind_is_unspecified(self) -> None:
        assert map_one(kind=99).span_kind == "unspecified"

    def test_ids_and_name(self) -> None:
        record = map_one(name="chat gpt-4o", parentSpanId="CD" * 8)
        assert (record.trace_id, record.span_id, record.parent_span_id) == (TRACE_ID, SPAN_ID, "cd" * 8)
        assert record.span_name == "chat gpt-4o"


class TestResource:
    def test_service_environment_and_resource_attributes(self) -> None:
        resource = {
            "service.name": "shop",
            "service.version": "2",
            "deployment.environment.name": "prod",
            "host.name": "h",
        }
        record = map_one({"service.name": "ignored"}, resource=resource)
        assert (record.service_name, record.service_version, record.environment) == ("shop", "2", "prod")
        assert record.resource_attributes == resource

    def test_environment_is_default_when_nobody_says(self) -> None:
        assert map_one().environment == "default"

    def test_environment_of_the_span_wins_a_tie(self) -> None:
        key = "deployment.environment.name"
        assert map_one({key: "of the span"}, resource={key: "of the resource"}).environment == "of the span"
        assert (
            map_one({"langfuse.environment": "of the span"}, resource={key: "of the resource"}).environment
            == "of the resource"
        )

    def test_project_never_comes_from_telemetry(self) -> None:
        record = map_one(
            {"project_id": "other"}, resource={"openinference.project.name": "other", "project_id": "other"}
        )
        assert not hasattr(record, "project_id")


class TestOutcome:
    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({"status": {"code": 2}}, "ERROR"),
            ({"status": {"code": 1}}, "OK"),
            ({"status": {"code": 1}, "attributes": attributes({"error.type": "x"})}, "OK"),
            ({}, "OK"),
            ({"endTimeUnixNano": "0"}, "UNSET"),
            ({"attributes": attributes({"error.type": "x"})}, "ERROR"),
            ({"events": [event("exception")]}, "ERROR"),
            ({"attributes": attributes({"langfuse.observation.level": "ERROR"})}, "ERROR"),
            ({"attributes": attributes({"langfuse.observation.level": "WARNING"})}, "OK"),
        ],
    )
    def test_status(self, fields: dict[str, Any], status: str) -> None:
        assert map_one(**fields).status_code == status

    def test_error_message_prefers_the_status_then_the_exception_then_the_type(self) -> None:
        failed = event("exception", exception__type="T", exception__message="from the event")
        assert (
            map_one(status={"code": 2, "message": "from the status"}, events=[failed]).error_message
            == "from the status"
        )
        assert map_one(status={"code": 2}, events=[failed]).error_message == "from the event"
        assert map_one({"error.type": "timeout"}).error_message == "timeout"
        assert map_one({"error.type": "<class 'openai.RateLimitError'>"}).error_type == "openai.RateLimitError"

    def test_first_token_after_the_end_is_not_believed(self) -> None:
        record = map_one({"gen_ai.response.time_to_first_chunk": 9.5})
        assert (record.ttft_ms, record.dropped) == (None, {"ttft_ms": {"reason": "later_than_end"}})

    def test_a_whole_number_of_seconds_past_the_end_is_in_milliseconds(self) -> None:
        assert map_one({"gen_ai.server.time_to_first_token": 412}).ttft_ms == 412

    def test_strands_reports_milliseconds_where_the_convention_has_seconds(self) -> None:
        record = map_one({"gen_ai.server.time_to_first_token": 1}, scope="strands.telemetry.tracer")
        assert record.ttft_ms == 1

    @pytest.mark.parametrize(
        "sent", ['"2026-11-01T12:00:00.250Z"', '"\\"2026-11-01T12:00:00.250000+00:00\\""', "2026-11-01T12:00:00.25"]
    )
    def test_first_token_time_quoted_once_or_twice(self, sent: str) -> None:
        assert map_one({"langfuse.observation.completion_start_time": sent}).ttft_ms == 250


class TestColumns:
    def test_consumed_attributes_are_not_kept_twice(self) -> None:
        record = map_one({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.seed": 3})
        assert record.attributes == {"gen_ai.request.seed": 3}

    def test_raw_values_that_a_column_says_differently_are_kept(self) -> None:
        record = map_one({"gen_ai.provider.name": "azure.ai.openai", "gen_ai.operation.name": "generate_content"})
        assert (record.provider, record.operation_type) == ("azure", "chat")
        assert record.attributes == {
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.operation.name": "generate_content",
        }

    def test_second_alias_with_another_value_is_kept(self) -> None:
        record = map_one({"user.id": "a", "enduser.id": "b", "session.id": "s", "gen_ai.conversation.id": "c"})
        assert (record.user_id, record.session_id) == ("a", "s")
        assert record.attributes == {"enduser.id": "b", "gen_ai.conversation.id": "c"}

    def test_model_that_answered_wins_over_the_one_asked_for(self) -> None:
        record = map_one({"gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024-08-06"})
        assert (record.model, record.request_model) == ("gpt-4o-2024-08-06", "gpt-4o")

    def test_model_without_a_hint_is_a_chat_and_a_custom_operation_is_other(self) -> None:
        assert map_one({"gen_ai.request.model": "m"}).operation_type == "chat"
        custom = map_one({"gen_ai.request.model": "m", "gen_ai.operation.name": "dream"})
        assert (custom.operation_type, custom.is_generation) == ("other", False)
        assert custom.attributes["gen_ai.operation.name"] == "dream"

    def test_outer_vercel_span_is_not_a_second_call(self) -> None:
        outer, inner = (
            map_one({"ai.operationId": "ai.generateText"}),
            map_one({"ai.operationId": "ai.generateText.doGenerate"}),
        )
        assert (outer.operation_type, outer.is_generation) == ("chain", False)
        assert (inner.operation_type, inner.is_generation) == ("chat", True)

    def test_association_properties_are_tags(self) -> None:
        record = map_one(
            {"traceloop.association.properties.plan": "gold", "traceloop.association.properties.user_id": "u"}
        )
        assert (record.tags, record.user_id) == (["plan:gold"], "u")

    def test_langfuse_json_objects_are_read_member_by_member(self) -> None:
        record = map_one(
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "gpt-4o",
                "langfuse.observation.usage_details": '{"input": 10, "output": 5, "total": 15, "odd": 1}',
                "langfuse.observation.cost_details": '{"total": 0.5}',
            }
        )
        assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (10, 5, 15)
        assert (record.total_cost_usd, record.prompt_cost_usd, record.cost_source) == (usd("0.5"), None, "reported")
        assert record.attributes["langfuse.observation.usage_details.odd"] == 1

    def test_scope_is_among_the_attributes(self) -> None:
        assert map_one(scope="my.lib").attributes == {"otel.scope.name": "my.lib"}
