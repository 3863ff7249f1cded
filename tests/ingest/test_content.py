"""Content as people read and search it: escapes are words, messages come in many wrappers, binaries leave a note."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.ingest.messages.coercion import decode_json, readable
from server.ingest.otlp.decode import decode_logs, decode_traces
from server.ingest.otlp.payload import DecodedSpan
from tests.ingest.spans_in_both_encodings import (
    JSON,
    NOW_NS,
    PROTOBUF,
    SPAN_ID,
    TRACE_ID,
    as_json,
    as_protobuf,
    map_one,
    request,
    span,
)

PIXELS = "iVBORw0KGgo" * 600


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('{"q": "Z\\u00fcrich"}', '{"q":"Zürich"}'),
        ('[{"q": "\\u6771\\u4eac"}]', '[{"q":"東京"}]'),
        ('{"q": "\\ud83d\\ude80"}', '{"q":"🚀"}'),
        ('{"q": "Z\\u00fcrich", "cut": "\\u6771', '{"q": "Zürich", "cut": "東'),
        ('{"id": 12345678901234567890, "q": "Z\\u00fcrich"}', '{"id": 12345678901234567890, "q": "Zürich"}'),
        ('{"half": "\\ud83d', '{"half": "\\ud83d'),
        ('{"cut": "a \\u0022b\\u0022 \\u000a', '{"cut": "a \\u0022b\\u0022 \\u000a'),
        ('{"cut": "no \\\\u00fcber', '{"cut": "no \\\\u00fcber'),
        ("plain \\u00fc text", "plain \\u00fc text"),
        ("{not json} at all", "{not json} at all"),
    ],
)
def test_json_is_read_as_what_it_says(sent: str, read: str) -> None:
    assert readable(sent, decode_json(sent)) == read
    assert map_one({"input.value": sent}).input_text == read


def test_arguments_of_a_tool_keep_their_form_and_lose_their_escapes() -> None:
    record = map_one(
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"ort":  "M\\u00fcnchen"}'}
    )
    assert record.input_text == '{"ort":  "München"}'


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (
            ['{"role":"system","parts":[{"type":"text","content":"a"}]}', '{"role":"user","content":"b"}'],
            "system: a\nuser: b",
        ),
        ({"prompt": "b", "system": "a"}, "system: a\nuser: b"),
        ({"prompt": "b", "model": "m"}, "b"),
        ({"prompt": "b", "size": 3}, '{"prompt":"b","size":3}'),
        ({"replies": [{"role": "assistant", "content": [{"text": "b"}]}]}, "b"),
        (
            [
                {"role": "user", "content": "b"},
                {"role": "tool", "content": {"type": "function", "function": {"name": "f", "parameters": {}}}},
            ],
            "b",
        ),
        (
            [
                {"role": "assistant", "content": [{"type": "reasoning", "summary": []}, {"type": "text", "text": "b"}]},
                {"role": "user", "content": "c"},
            ],
            "assistant: b\nuser: c",
        ),
        (
            [
                {
                    "role": "tool",
                    "content": [{"type": "tool-result", "toolCallId": "t", "output": {"type": "text", "value": "b"}}],
                }
            ],
            "tool: [tool_result t] b",
        ),
        (
            [{"role": "tool", "content": [{"toolResponse": {"name": "f", "ref": "t", "output": {"n": 1}}}]}],
            'tool: [tool_result t] {"n":1}',
        ),
        (
            [{"role": "tool", "content": [{"tool_call_result": {"result": "b", "origin": {"id": "t"}}}]}],
            "tool: [tool_result t] b",
        ),
    ],
)
def test_messages_are_found_in_every_wrapper(sent: Any, text: str) -> None:
    is_list_of_texts = isinstance(sent, list) and isinstance(sent[0], str)
    assert map_one({"gen_ai.input.messages": sent if is_list_of_texts else json.dumps(sent)}).input_text == text


def test_the_input_with_the_users_message_is_preferred() -> None:
    values = {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be kind.",
        "input.value": json.dumps({"system": "Be kind.", "prompt": "hi"}),
    }
    assert map_one(values).input_text == "system: Be kind.\nuser: hi"
    del values["input.value"]
    assert map_one(values).input_text == "system: Be kind."


def test_attributes_without_a_value_make_no_tool_call() -> None:
    values = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi",
        "llm.input_messages.0.message.tool_calls.0.tool_call.function.name": None,
    }
    assert map_one(values).input_text == "hi"


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"input.value": f"look: data:image/png;base64,{PIXELS} there"}, "look: [image/png, 4950 bytes] there"),
        ({"input.value": json.dumps({"url": f"data:image/png;base64,{PIXELS}"})}, '{"url":"[image/png, 4950 bytes]"}'),
        (
            {"gen_ai.input.messages": json.dumps([{"role": "user", "content": f"data:;base64,{PIXELS}"}])},
            "[data, 4950 bytes]",
        ),
        (
            {
                "gen_ai.input.messages": json.dumps(
                    [
                        {
                            "role": "user",
                            "parts": [{"type": "uri", "modality": "image", "uri": f"data:image/png;base64,{PIXELS}"}],
                        }
                    ]
                )
            },
            "[image]",
        ),
    ],
)
def test_binary_contents_become_a_note_with_type_and_size(values: dict[str, Any], note: str) -> None:
    record = map_one(values)
    assert record.input_text == note
    assert PIXELS not in json.dumps(record.input_messages)


def test_content_that_was_put_elsewhere_is_a_link() -> None:
    record = map_one(
        {"gen_ai.input.messages_ref": "s3://talks/1.json", "gen_ai.output.messages_ref": "s3://talks/2.json"}
    )
    assert (record.input_text, record.output_text) == ("[s3://talks/1.json]", "[s3://talks/2.json]")
    assert record.input_messages == [{"role": "user", "parts": [{"type": "uri", "uri": "s3://talks/1.json"}]}]
    assert record.attributes["gen_ai.input.messages_ref"] == "s3://talks/1.json"


def test_a_reference_gives_way_to_the_content_itself() -> None:
    record = map_one({"gen_ai.input.messages_ref": "s3://talks/1.json", "input.value": "hi"})
    assert record.input_text == "hi"


def spans_of(body: bytes, encoding: str) -> list[DecodedSpan]:
    return [item for group in decode_traces(body, encoding).groups for item in group.spans]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"low \ude80 end", "low \ufffd end"),
        (r"\ud83d\ud83d\ude80", "\ufffd🚀"),
        (r"A\ud83dA", "A\ufffdA"),
        (r"kept \ud83d\ude80 and \\ud83d", "kept 🚀 and \\ud83d"),
        ("\\u0041\\udc00", "A\ufffd"),
    ],
)
def test_half_a_character_in_json_costs_the_character(written: str, read: str) -> None:
    body = as_json(request(span({"note": "HERE"}), span({"note": "whole"}))).replace(b"HERE", written.encode())
    assert [item.attributes["note"] for item in spans_of(body, JSON)] == [read, "whole"]


def test_bytes_that_are_not_utf8_cost_the_character_in_json_too() -> None:
    body = as_json(request(span({"note": "HERE"}))).replace(b"HERE", b"caf\xe9 \xff")
    assert spans_of(body, JSON)[0].attributes["note"] == "caf\ufffd \ufffd"


@pytest.mark.parametrize("where", ["attribute", "list", "key", "name", "event", "status"])
def test_bytes_that_are_not_utf8_cost_the_character_in_protobuf(where: str) -> None:
    mark = "QQQQ"
    values_of: dict[str, dict[str, Any]] = {
        "attribute": {"note": mark}, "list": {"note": [{"x": mark}]}, "key": {mark: 1},
    }  # fmt: skip
    fields_of: dict[str, dict[str, Any]] = {
        "name": {"name": mark},
        "status": {"status": {"code": 2, "message": mark}},
        "event": {"events": [{"name": mark, "timeUnixNano": str(NOW_NS), "attributes": []}]},
    }
    values, fields = values_of.get(where, {}), fields_of.get(where, {})
    whole = as_protobuf(request(span(values, **fields), span({"note": "whole"})))
    broken = spans_of(whole.replace(mark.encode(), b"\xffab\xc3"), PROTOBUF)
    assert broken[1].attributes == {"note": "whole"}
    assert repr(broken[0]) == repr(spans_of(whole, PROTOBUF)[0]).replace(mark, "\ufffdab\ufffd")


def test_half_a_character_in_a_log_record_costs_the_character() -> None:
    record = {"traceId": TRACE_ID, "spanId": SPAN_ID, "timeUnixNano": str(NOW_NS), "eventName": "e"}
    body = json.dumps(
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{**record, "body": {"stringValue": "HERE"}}]}]}]}
    )
    decoded = decode_logs(body.replace("HERE", r"\ud83d").encode(), JSON)
    assert decoded.groups[0].records[0].body == "\ufffd"
