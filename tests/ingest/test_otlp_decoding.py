"""Bytes to decoded spans: what is read, what is refused, and that nothing crashes."""

from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import (
    DecodeError,
    DecodeLimits,
    TooLarge,
    Unreadable,
    UnsupportedType,
    decode_logs,
    decode_traces,
)
from server.ingest.otlp.payload import DecodedSpan
from tests.ingest.spans_in_both_encodings import JSON, NOW, PROTOBUF, as_json, as_protobuf, event, request, span

GOOD = request(
    span(
        {"text": "hé", "number": 7, "flag": True, "ratio": 0.5, "list": ["a", 1], "object": {"k": [1, {"d": "x"}]},
            "raw": b"\x00\xff"},
        events=[event("e", key="value")],
        links=[{"traceId": "ab" * 16, "spanId": "cd" * 8, "attributes": []}],
        status={"code": 2, "message": "bad"},
        parentSpanId="cd" * 8,
    ),
    resource={"service.name": "shop"},
    scope="lib",
)  # fmt: skip


def only_span(body: bytes, content_type: str = JSON) -> DecodedSpan:
    return decode_traces(body, content_type).groups[0].spans[0]


def json_span(**fields: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span(**fields)]}]}]}).encode()


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def raw_span(content: bytes) -> bytes:
    return field(1, field(2, field(2, content)))


class TestWhatIsRead:
    @pytest.mark.parametrize("content_type", [JSON, PROTOBUF, "application/json; charset=utf-8", "Application/JSON"])
    def test_empty_body_has_no_spans(self, content_type: str) -> None:
        decoded = decode_traces(b"", content_type)
        assert (decoded.groups, decoded.span_count) == ([], 0)

    @pytest.mark.parametrize(
        "document", [{}, {"resourceSpans": []}, {"resourceSpans": [{"scopeSpans": [{}]}]}, {"resourceSpans": None}]
    )
    def test_empty_request_has_no_spans(self, document: Any) -> None:
        assert decode_traces(as_json(document), JSON).span_count == 0

    def test_both_encodings_give_the_same_decoded_spans(self) -> None:
        from_json, from_protobuf = decode_traces(as_json(GOOD), JSON), decode_traces(as_protobuf(GOOD), PROTOBUF)
        assert from_json.groups == from_protobuf.groups
        assert (from_json.encoding, from_protobuf.encoding) == ("json", "protobuf")

    @pytest.mark.parametrize(
        ("sent", "read"), [("AB" * 16, "ab" * 16), ("ab" * 16, "ab" * 16), ("zz", "zz"), (None, "")]
    )
    def test_hex_ids_in_both_cases(self, sent: str | None, read: str) -> None:
        assert only_span(json_span(traceId=sent)).trace_id == read

    @pytest.mark.parametrize(
        ("sent", "read"), [("SPAN_KIND_CLIENT", 3), (3, 3), ("3x", 0), ("SPAN_KIND_NEW", 0), (None, 0)]
    )
    def test_enums_as_names_or_numbers(self, sent: Any, read: int) -> None:
        assert only_span(json_span(kind=sent)).kind == read

    @pytest.mark.parametrize("sent", ["1764504000000000000", 1764504000000000000, None])
    def test_64_bit_numbers_as_text_or_number(self, sent: Any) -> None:
        assert only_span(json_span(startTimeUnixNano=sent)).start_ns == (int(sent) if sent else 0)

    def test_unknown_fields_and_snake_case_names_are_ignored(self) -> None:
        decoded = only_span(json_span(trace_id="ab" * 16, traceId=None, surprise={"a": [1]}))
        assert decoded.trace_id == ""

    def test_of_a_repeated_key_the_last_counts(self) -> None:
        body = json_span().replace(b'"name": "chat"', b'"name": "first", "name": "last"')
        assert only_span(body).name == "last"

    def test_of_a_repeated_attribute_the_last_counts_in_both_encodings(self) -> None:
        document = request(
            span(attributes=[{"key": "k", "value": {"intValue": "1"}}, {"key": "k", "value": {"intValue": "2"}}])
        )
        for body, content_type in ((as_json(document), JSON), (as_protobuf(document), PROTOBUF)):
            assert only_span(body, content_type).attributes == {"k": 2}

    def test_unknown_protobuf_fields_and_groups_are_skipped(self) -> None:
        unknown = varint(999 << 3) + b"\x05" + varint(998 << 3 | 5) + b"1234" + varint(997 << 3 | 1) + b"12345678"
        group = varint(996 << 3 | 3) + field(1, b"x") + varint(996 << 3 | 4)
        assert decode_traces(as_protobuf(GOOD) + unknown + group, PROTOBUF).span_count == 1

    def test_resource_sent_in_two_parts_is_merged_as_protobuf_does(self) -> None:
        def resource(key: bytes) -> bytes:
            return field(1, field(1, field(1, key) + field(2, field(1, b"v"))))

        body = field(1, resource(b"a") + field(2, field(2, b"")) + resource(b"b"))
        assert decode_traces(body, PROTOBUF).groups[0].resource.attributes == {"a": "v", "b": "v"}

    @pytest.mark.parametrize("sent", ["AP8=", "AP8", "AP-_"])
    def test_bytes_are_read_from_every_base64_and_kept_as_standard(self, sent: str) -> None:
        body = json_span(attributes=[{"key": "k", "value": {"bytesValue": sent}}])
        assert only_span(body).attributes["k"] in ("AP8=", "AP+/")


JUNK: list[Any] = [None, True, -1, 1.5, 10**30, "", "x", [], {}, [[]], [None], {"a": 1}, {"values": [None]}, "ff" * 16]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path to every value below ``node``."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


BAD_VALUES: list[Any] = [
    1,
    {"intValue": "1.5"},
    {"intValue": str(2**63)},
    {"boolValue": 1},
    {"doubleValue": "1e999"},
    {"bytesValue": "*"},
    {"stringValue": 1},
    {"arrayValue": []},
]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "content_type", ["", "text/plain", "application/grpc", "application/json; charset=utf-16", "application/jsonx"]
    )
    def test_other_content_types_are_refused(self, content_type: str) -> None:
        with pytest.raises(UnsupportedType):
            decode_traces(b"", content_type)

    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
    def test_other_content_encodings_are_refused(self, encoding: str) -> None:
        with pytest.raises(UnsupportedType):
            decode_traces(b"x", JSON, encoding)

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b"null",
            b"1",
            b'"x"',
            b"{",
            b"\xff{}",
            b'{"resourceSpans": {}}',
            b'{"resourceSpans": [1]}',
            b"\xef\xbb\xbf{}",
            b'{"x": NaN}',
            b'{"x": Infinity}',
            json_span(name=5),
            json_span(traceId=1),
            json_span(startTimeUnixNano="x"),
            json_span(startTimeUnixNano=-1),
            json_span(startTimeUnixNano=str(2**64)),
            json_span(startTimeUnixNano=1.5),
            json_span(startTimeUnixNano=True),
            json_span(attributes={}),
            json_span(attributes=[1]),
            json_span(attributes=[{"key": 1}]),
            json_span(status=[]),
            *(json_span(attributes=[{"key": "k", "value": value}]) for value in BAD_VALUES),
            b"[" * 2000,
        ],
    )
    def test_json_of_the_wrong_shape_is_unreadable(self, body: bytes) -> None:
        with pytest.raises(Unreadable):
            decode_traces(body, JSON)

    @pytest.mark.parametrize(
        "body",
        [
            b"garbage",
            b"\x08",
            b"\x0a\xff",
            b"\x0a" + b"\xff" * 11,
            b"\x00\x00",
            b"\x08\x01",
            b"\x0b\x0a",
            raw_span(field(9, field(1, b"k") + field(2, b"\x1a"))),
            field(1, b"\x10\x01"),  # scope_spans as a number
        ],
    )
    def test_broken_protobuf_is_unreadable(self, body: bytes) -> None:
        with pytest.raises(Unreadable):
            decode_traces(body, PROTOBUF)

    @pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
    def test_truncated_at_every_byte_never_crashes(self, content_type: str) -> None:
        body = as_json(GOOD) if content_type == JSON else as_protobuf(GOOD)
        for length in range(1, len(body)):
            with pytest.raises(Unreadable):
                decode_traces(body[:length], content_type)

    @settings(max_examples=300, deadline=None)
    @given(
        body=st.binary(max_size=300),
        content_type=st.sampled_from([JSON, PROTOBUF]),
        encoding=st.sampled_from([None, "gzip", "deflate"]),
    )
    def test_any_bytes_decode_or_raise_a_decode_error(
        self, body: bytes, content_type: str, encoding: str | None
    ) -> None:
        for decode in (decode_traces, decode_logs):
            try:
                decode(body, content_type, encoding)
            except DecodeError:
                continue

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_a_changed_byte_decodes_or_raises_a_decode_error(self, data: st.DataObject) -> None:
        content_type = data.draw(st.sampled_from([JSON, PROTOBUF]))
        body = bytearray(as_json(GOOD) if content_type == JSON else as_protobuf(GOOD))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        try:
            decode_traces(bytes(body), content_type)
        except DecodeError:
            pass

    def test_any_json_value_in_any_place_maps_or_raises_a_decode_error(self) -> None:
        for path in list(places(GOOD)):
            for junk in JUNK:
                document = copy.deepcopy(GOOD)
                *parents, last = path
                node: Any = document
                for key in parents:
                    node = node[key]
                node[last] = junk
                try:
                    map_spans(decode_traces(as_json(document), JSON), now=NOW)
                except DecodeError:
                    continue

    @pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
    @pytest.mark.parametrize(("kind", "deepest"), [("array", 49), ("object", 32)])
    def test_nesting_has_the_same_limit_in_both_encodings(self, content_type: str, kind: str, deepest: int) -> None:
        def body(levels: int) -> bytes:
            value: Any = 1
            for _ in range(levels):
                value = [value] if kind == "array" else {"k": value}
            document = request(span({"deep": value}))
            return as_json(document) if content_type == JSON else as_protobuf(document)

        assert decode_traces(body(deepest), content_type).span_count == 1
        for levels in (deepest + 1, 150):
            with pytest.raises(Unreadable):
                decode_traces(body(levels), content_type)


class TestCompression:
    @pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
    def test_gzip_and_both_kinds_of_deflate(self, content_type: str) -> None:
        body = as_json(GOOD) if content_type == JSON else as_protobuf(GOOD)
        raw = zlib.compressobj(wbits=-15)
        for packed, encoding in (
            (gzip.compress(body), "gzip"),
            (gzip.compress(body[:9]) + gzip.compress(body[9:]), "GZIP"),
            (zlib.compress(body), "deflate"),
            (raw.compress(body) + raw.flush(), "deflate"),
            (body, "identity"),
        ):
            assert decode_traces(packed, content_type, encoding).groups == decode_traces(body, content_type).groups

    @pytest.mark.parametrize("spoil", [lambda body: body[:-5], lambda body: body + b"x", lambda body: b"x" + body])
    def test_broken_gzip_is_unreadable(self, spoil: Any) -> None:
        with pytest.raises(Unreadable):
            decode_traces(spoil(gzip.compress(as_json(GOOD))), JSON, "gzip")

    def test_deflate_with_a_tail_is_unreadable(self) -> None:
        with pytest.raises(Unreadable):
            decode_traces(zlib.compress(as_json(GOOD)) + b"tail", JSON, "deflate")

    def test_bomb_is_stopped_at_the_limit(self) -> None:
        bomb = gzip.compress(b"\0" * 200_000_000, 9)
        assert len(bomb) < 250_000
        tracemalloc.start()
        with pytest.raises(TooLarge):
            decode_traces(bomb, PROTOBUF, "gzip")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20

    def test_many_gzip_members_share_one_limit(self) -> None:
        member = gzip.compress(b"\0" * 1_000_000)
        with pytest.raises(TooLarge):
            decode_traces(member * 20, PROTOBUF, "gzip")

    def test_plain_body_over_the_limit_is_refused(self) -> None:
        with pytest.raises(TooLarge):
            decode_traces(b" " * 101, JSON, None, DecodeLimits(max_decoded_bytes=100))


class TestMemory:
    def test_a_million_empty_spans_are_counted_before_they_are_parsed(self) -> None:
        body = field(1, field(2, b"\x12\x00" * 1_000_000))
        tracemalloc.start()
        with pytest.raises(TooLarge):
            decode_traces(body, PROTOBUF)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * 2**20

    @pytest.mark.parametrize("body", [b"\x0a\x00" * 1_000_000, field(1, b"\x12\x00" * 1_000_000)])
    def test_millions_of_empty_resources_or_scopes_are_refused(self, body: bytes) -> None:
        with pytest.raises(TooLarge):
            decode_traces(body, PROTOBUF)

    @pytest.mark.parametrize("number", [9, 11, 13])
    def test_millions_of_empty_values_in_one_span_are_refused(self, number: int) -> None:
        with pytest.raises(TooLarge):
            decode_traces(raw_span(field(number, b"") * 1_000_000), PROTOBUF)

    def test_millions_of_empty_list_items_are_refused(self) -> None:
        value = field(2, field(5, b"\x0a\x00" * 1_000_000))
        with pytest.raises(TooLarge):
            decode_traces(raw_span(field(9, value)), PROTOBUF)

    def test_millions_of_empty_json_objects_are_refused(self) -> None:
        with pytest.raises(TooLarge):
            decode_traces(b'{"x":[' + b"{}," * 2_000_000 + b"{}]}", JSON)

    def test_values_over_all_spans_have_a_limit_in_both_encodings(self) -> None:
        document = request(*[span({"a": [1] * 50}) for _ in range(4)])
        limits = DecodeLimits(max_values=150)
        for body, content_type in ((as_json(document), JSON), (as_protobuf(document), PROTOBUF)):
            with pytest.raises(TooLarge):
                decode_traces(body, content_type, None, limits)

    def test_number_of_spans_has_a_limit_in_both_encodings(self) -> None:
        document = request(*[span() for _ in range(4)])
        for body, content_type in ((as_json(document), JSON), (as_protobuf(document), PROTOBUF)):
            assert decode_traces(body, content_type, None, DecodeLimits(max_spans=4)).span_count == 4
            with pytest.raises(TooLarge):
                decode_traces(body, content_type, None, DecodeLimits(max_spans=3))

    def test_deeply_nested_large_message_is_unreadable_not_a_crash(self) -> None:
        content = b"x" * 70_000
        for _ in range(120):
            content = field(2, field(5, field(1, content)))[len(b"") :]
            content = content[content.index(b"\x2a") :]
        with pytest.raises(DecodeError):
            decode_traces(raw_span(field(9, field(2, content))), PROTOBUF)


def test_log_records_are_the_same_in_both_encodings() -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.trace_id, record.span_id = 5, bytes.fromhex("ab" * 16), bytes.fromhex("cd" * 8)
    record.event_name, record.body.string_value = "gen_ai.evaluation.result", "words"
    document = {
        "resourceLogs": [
            {
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "observedTimeUnixNano": "5",
                                "traceId": "AB" * 16,
                                "spanId": "cd" * 8,
                                "attributes": [{"key": "event.name", "value": {"stringValue": "x"}}],
                                "eventName": "gen_ai.evaluation.result",
                                "body": {"stringValue": "words"},
                            }
                        ]
                    }
                ]
            }
        ]
    }
    from_json = decode_logs(as_json(document), JSON).groups[0].records[0]
    from_protobuf = decode_logs(message.SerializeToString(), PROTOBUF).groups[0].records[0]
    from_json.attributes.clear()
    assert from_json == from_protobuf
