"""Values that are odd, hostile or too large: repaired or left out with a note, never a failed batch."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.rejection import FIELD_REASONS
from server.ingest.mapping.span_record import SpanRecord
from tests.ingest.spans_in_both_encodings import (
    event,
    map_one,
)

BAD_TOKENS = [
    (-1, "negative"),
    (1.5, "not_an_integer"),
    (True, "not_an_integer"),
    ("many", "not_an_integer"),
    (float("nan"), "not_an_integer"),
    (float("inf"), "not_an_integer"),
    (str(2**63), "out_of_range"),
    ([1], "not_an_integer"),
]
BAD_COSTS = [
    (float("nan"), "not_a_number"),
    (float("inf"), "not_a_number"),
    (float("-inf"), "not_a_number"),
    (-1, "negative"),
    (1e308, "out_of_range"),
    ("free", "not_a_number"),
    (True, "not_a_number"),
]


class TestBadValues:
    @pytest.mark.parametrize(("value", "reason"), BAD_TOKENS)
    def test_token_count_is_dropped_with_its_reason_and_kept_as_sent(self, value: Any, reason: str) -> None:
        record = map_one({"gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": 4})
        assert (record.prompt_tokens, record.total_tokens) == (None, 4)
        assert record.dropped == {"prompt_tokens": {"reason": reason}}
        assert "gen_ai.usage.input_tokens" in record.attributes

    @pytest.mark.parametrize("value", [12, "12", 12.0, " 12 ", "12.0"])
    def test_whole_numbers_in_other_types_are_read(self, value: Any) -> None:
        assert map_one({"gen_ai.usage.input_tokens": value}).prompt_tokens == 12

    @pytest.mark.parametrize(("value", "reason"), BAD_COSTS)
    def test_cost_is_dropped_with_its_reason(self, value: Any, reason: str) -> None:
        record = map_one({"llm.cost.total": value})
        assert (record.total_cost_usd, record.cost_source) == (None, "none")
        assert record.dropped == {"total_cost_usd": {"reason": reason}}

    @pytest.mark.parametrize("value", ["0.1", 0.1])
    def test_cost_as_text_or_float_is_its_shortest_decimal(self, value: Any) -> None:
        record = map_one({"llm.cost.total": value})
        assert (record.total_cost_usd, record.cost_source) == (Decimal("0.1"), "reported")

    def test_a_usable_alias_further_down_replaces_a_bad_one(self) -> None:
        record = map_one({"gen_ai.usage.input_tokens": -1, "llm.usage.prompt_tokens": 8})
        assert record.prompt_tokens == 8

    def test_counts_and_totals_stay_in_range(self) -> None:
        record = map_one({"gen_ai.usage.input_tokens": 10**12, "gen_ai.usage.output_tokens": 10**12, "model": "gpt-4o"})
        assert record.total_tokens == 2 * 10**12
        assert record.total_cost_usd is not None

    def test_every_field_reason_that_is_given_is_documented(self) -> None:
        assert {reason for _, reason in BAD_TOKENS + BAD_COSTS} <= set(FIELD_REASONS)


class TestText:
    def test_nul_is_replaced_and_said(self) -> None:
        record = map_one(
            {"input": "a\0b", "custom\0key": "x\0", "nested": {"k\0": ["\0"]}, "user.id": "u\0"},
            name="na\0me",
            events=[event("e\0", note="\0")],
            status={"code": 2, "message": "bad\0"},
        )
        text = orjson.dumps(
            [record.span_name, record.input_text, record.attributes, record.events, record.user_id]
        ).decode()
        assert "\\u0000" not in text
        assert record.input_text == "a\ufffdb"
        assert record.dropped is not None
        assert record.dropped["characters"]["replaced"] >= 8

    def test_nul_inside_message_json_is_replaced(self) -> None:
        record = map_one({"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"a\\u0000b"}]}]'})
        assert record.input_text == "a\ufffdb"
        assert record.input_messages[0]["parts"][0]["content"] == "a\ufffdb"

    def test_lone_surrogate_inside_message_json_leaves_it_as_text(self) -> None:
        record = map_one({"gen_ai.input.messages": '[{"role":"user","content":"\\ud800"}]'})
        assert record.input_messages is None
        assert record.input_text == '[{"role":"user","content":"\\ud800"}]'

    def test_hostile_keys_are_inert(self) -> None:
        hostile = {
            "__proto__": "a",
            "$where": "b",
            "constructor.prototype": "c",
            "": "d",
            "k" * 1000: "e",
            "'; DROP": "f",
        }
        record = map_one(hostile)
        assert record.attributes["__proto__"] == "a"
        assert record.attributes["k" * 255] == "e"
        assert record.dropped == {"attributes": {"original_length": {"k" * 255: 1000}}}

    def test_nested_attributes_stay_json(self) -> None:
        deep: Any = "leaf"
        for _ in range(40):
            deep = [deep]
        record = map_one({"deep": deep})
        assert orjson.loads(orjson.dumps(record.attributes))["deep"] == deep

    def test_float_that_json_cannot_say_becomes_text(self) -> None:
        record = map_one({"a": float("nan"), "b": [float("inf")]})
        assert (record.attributes["a"], record.attributes["b"]) == ("NaN", ["Infinity"])


STORED_JSON = (
    "input_text",
    "input_messages",
    "output_text",
    "output_messages",
    "attributes",
    "resource_attributes",
    "events",
    "links",
    "error_message",
)


def stored_size(record: SpanRecord) -> int:
    return sum(len(orjson.dumps(getattr(record, name))) for name in STORED_JSON)


class TestLimits:
    def test_long_attribute_is_cut_and_its_length_recorded(self) -> None:
        record = map_one({"big": "é" * 500_000})
        assert len(record.attributes["big"].encode()) == 16 * 1024
        assert record.dropped == {"attributes": {"original_length": {"big": 1_000_000}}}

    def test_of_a_thousand_attributes_256_are_kept(self) -> None:
        record = map_one({f"key-{number}": number for number in range(1000)})
        assert len(record.attributes) == 256
        assert record.dropped == {"attributes": {"dropped": 744}}

    def test_of_two_hundred_events_128_are_kept(self) -> None:
        record = map_one(events=[event(f"e{number}") for number in range(200)])
        assert len(record.events) == 128
        assert record.dropped == {"events": {"dropped": 72}}

    def test_prompt_of_megabytes_keeps_its_first_and_last_message(self) -> None:
        limits = MappingLimits()
        messages = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "long " * 500_000},
            {"role": "user", "content": "end"},
        ]
        record = map_one(
            {"gen_ai.input.messages": orjson.dumps(messages).decode(), "gen_ai.completion": "x" * 5_000_000}
        )
        assert record.input_text is not None
        assert len(record.input_text) == limits.input_text
        assert record.input_messages[0]["parts"][0]["content"] == "be brief"
        assert record.input_messages[-1]["parts"][0]["content"] == "end"
        assert len(orjson.dumps(record.input_messages)) <= limits.input_messages
        assert record.dropped is not None
        assert record.dropped["input_text"]["original_length"] > 2_500_000
        assert record.dropped["output_text"] == {"original_length": 5_000_000}

    def test_whole_span_stays_under_one_mebibyte(self) -> None:
        values: dict[str, Any] = {f"a{number}": "x" * 30_000 for number in range(60)}
        values |= {
            "input": "y" * 900_000,
            "gen_ai.output.messages": orjson.dumps([{"role": "assistant", "content": "z" * 900_000}]).decode(),
        }
        record = map_one(
            values,
            resource={f"r{number}": "q" * 20_000 for number in range(30)},
            events=[event(f"e{number}", text="w" * 20_000) for number in range(40)],
        )
        assert stored_size(record) < 1024 * 1024

    def test_images_are_not_kept_but_said(self) -> None:
        part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
        record = map_one({"gen_ai.input.messages": orjson.dumps([{"role": "user", "content": [part]}]).decode()})
        assert (record.input_type, record.input_text) == ("multimodal", "[image]")
        assert record.input_messages[0]["parts"] == [
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content_length": 100_000}
        ]
        assert record.dropped is not None
        assert record.dropped["input_messages"]["blob_length"] == 100_000

    def test_what_the_sender_dropped_is_recorded(self) -> None:
        record = map_one(droppedAttributesCount=3, droppedEventsCount=2)
        assert record.dropped == {"attributes": {"dropped_by_sender": 3}, "events": {"dropped_by_sender": 2}}

    def test_user_and_session_are_cut_at_200(self) -> None:
        record = map_one({"user.id": "  " + "u" * 500, "session.id": "s" * 500})
        assert (len(record.user_id or ""), len(record.session_id or "")) == (200, 200)

    def test_tags_are_unique_sorted_and_at_most_fifty(self) -> None:
        record = map_one({"tag.tags": [f"t{number % 60:02}" for number in range(120)]})
        assert record.tags == [f"t{number:02}" for number in range(50)]
        assert record.dropped == {"tags": {"dropped": 10}}


_scalar = st.one_of(
    st.text(max_size=8), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=4)
)
_values = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_keys = st.sampled_from(
    [
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "llm.cost.total",
        "gen_ai.input.messages",
        "gen_ai.system",
        "llm.input_messages.0.message.role",
        "llm.input_messages.0.message.content",
        "gen_ai.prompt.0.content",
        "tag.tags",
        "gen_ai.response.finish_reasons",
        "langfuse.observation.usage_details",
        "ai.response.toolCalls",
        "session.id",
        "gen_ai.system_instructions",
        "gen_ai.response.time_to_first_chunk",
        "model",
        "error.type",
        "gen_ai.operation.name",
    ]
) | st.text(max_size=6)


@settings(max_examples=200, deadline=None)
@example(values={"\\u0000": []})
@example(values={"\0": ["\0"]})
@given(values=st.dictionaries(_keys, _values, max_size=6))
def test_any_attributes_map_the_same_from_both_encodings_to_a_storable_row(values: dict[str, Any]) -> None:
    values = {key.encode("utf-8", "replace").decode(): value for key, value in values.items()}
    record = map_one(values)
    text = orjson.dumps(
        {name: getattr(record, name) for name in SpanRecord.__slots__}, default=str, option=orjson.OPT_NON_STR_KEYS
    )
    # A backslash that is itself escaped begins no escape: a key may be spelled "\\u0000".
    assert b"\\u0000" not in text.replace(b"\\\\", b"")
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert 0 <= (getattr(record, name) or 0) <= 10**12
    assert record.total_cost_usd is None or 0 <= record.total_cost_usd < 10**9


_written = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("None"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(usage=st.dictionaries(st.sampled_from(["a, None", "it's", "x"]), _written, min_size=1, max_size=3))
def test_an_object_as_python_writes_it_is_the_object(usage: dict[str, Any]) -> None:
    def collected(value: Any) -> Any:
        fields = SpanFields()
        fields.collect({"metadata.usage_object": value})
        return fields.rest, fields.found

    text = repr(usage)
    # Halves of a pair, which no sender can put into an attribute, and numbers that JSON has no place for.
    assume("\\ud" not in text and not re.search(r"\d{19}", text))
    assert collected(text) == collected(usage)
