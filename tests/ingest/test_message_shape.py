"""The shapes that the reader of protobuf takes from the descriptors of OTLP."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from server.ingest.otlp.message_shape import descriptor_of, shape_of
from server.ingest.otlp.repair import repaired_message


def numbers(descriptor: Descriptor) -> list[int]:
    """Number of the part that is one message, of the list, and of the schema URL."""
    return [field.number for field in sorted(descriptor.fields, key=lambda field: field.number) if field.number < 100]


@pytest.mark.parametrize("kind", [ResourceSpans, ScopeSpans, ResourceLogs, ScopeLogs], ids=lambda kind: kind.__name__)
def test_traces_and_logs_have_the_same_frame(kind: type[Message]) -> None:
    descriptor = descriptor_of(kind)
    assert numbers(descriptor) == [1, 2, 3] == numbers(ResourceSpans.DESCRIPTOR)
    assert descriptor.fields_by_number[3].name == "schema_url"
    assert descriptor.fields_by_number[1].name in ("resource", "scope")


def test_requests_of_traces_and_logs_have_one_list() -> None:
    assert numbers(ExportTraceServiceRequest.DESCRIPTOR) == numbers(ExportLogsServiceRequest.DESCRIPTOR) == [1]


def test_the_shape_of_a_span_names_its_messages_and_strings() -> None:
    shape = shape_of(Span.DESCRIPTOR)
    assert {descriptor.name for descriptor in shape.messages.values()} == {"KeyValue", "Event", "Link", "Status"}
    assert shape.strings == {Span.NAME_FIELD_NUMBER, Span.TRACE_STATE_FIELD_NUMBER}
    assert shape_of(KeyValue.DESCRIPTOR).messages == {KeyValue.VALUE_FIELD_NUMBER: AnyValue.DESCRIPTOR}


def test_a_broken_string_of_any_message_loses_its_character_only() -> None:
    broken = b"\xf0\x28"
    point = b"\x3a" + bytes([len(broken) + 4]) + b"\x0a" + bytes([len(broken) + 2]) + b"k" + broken + b"!"
    repaired = NumberDataPoint.FromString(repaired_message(point, NumberDataPoint.DESCRIPTOR))
    assert [item.key for item in repaired.attributes] == ["k\ufffd(!"]
