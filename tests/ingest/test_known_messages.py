"""A message that was met before is recognised by its text, and is the same as if it were read again."""

from __future__ import annotations

import copy
import gc
import itertools
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch
from server.ingest.mapping.span_mapping import mapping_steps
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.known_message import KnownMessage
from server.ingest.messages.known_messages import KnownContents, KnownMessages
from server.ingest.messages.message_rendering import render_messages
from server.ingest.messages.message_shapes import read_messages
from server.ingest.otlp.decode import decode_traces
from server.ingest.redaction.redaction_rules import redactor_of
from server.ingest.writing.content_layout import split_content
from server.ingest.writing.prepared_span import prepare_span
from server.text.instants import EARLIEST
from tests.bench.conversations import TENANTS, Conversations
from tests.ingest.otlp_payloads import PROTOBUF, export_request

FIXTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
ANY_AGE = IngestWindow(max_age=timedelta(days=10_000), max_future=timedelta(days=10_000))
NOW = datetime(2026, 11, 30, tzinfo=UTC)
WRITERS: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    lambda value: orjson.dumps(value).decode(),
    lambda value: json.dumps(value, indent=1),
]

WORDS = st.one_of(
    st.text(max_size=50),
    st.sampled_from(
        [
            '}, {"role"',
            '},{"role": "user"',
            '"}], "',
            "\\u0000",
            "\0",
            "plain words " * 9,
            "data:image/png;base64,",
            "\ud83d",
        ]
    ),
)
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "content": WORDS}),
    st.fixed_dictionaries(
        {"type": st.just("tool_call"), "name": WORDS, "arguments": st.dictionaries(WORDS, WORDS, max_size=2)}
    ),
    st.fixed_dictionaries({"type": st.just("tool_call_response"), "id": WORDS, "response": WORDS}),
    st.fixed_dictionaries(
        {"type": st.just("json"), "content": st.lists(st.fixed_dictionaries({"role": WORDS}), max_size=2)}
    ),
    st.fixed_dictionaries(
        {"messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "parts": WORDS}), max_size=2)}
    ),
    WORDS,
    st.none(),
)
MESSAGES = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "Human", "unknown", "critic", ""]),
         "parts": st.lists(PARTS, max_size=3)},
        optional={"name": WORDS, "finish_reason": WORDS},
    ),
    st.fixed_dictionaries({"parts": st.lists(PARTS, max_size=2), "role": st.just("user")}),
    st.fixed_dictionaries({"role": st.just("user"), "content": WORDS}),
    st.fixed_dictionaries({"role": WORDS, "parts": st.lists(PARTS, max_size=1), "object": st.just("response")}),
)  # fmt: skip


@given(conversation=st.lists(MESSAGES, min_size=1, max_size=4), writer=st.integers(0, len(WRITERS) - 1))
def test_a_list_is_read_as_ever_or_left_alone(conversation: list[Any], writer: int) -> None:
    known, write = KnownMessages(), WRITERS[writer]
    try:
        text = write(conversation)
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        return
    for _ in range(2):
        found = known.read_list(text)
        assert found is None or found == read_messages(text, "user")
        known.grow_older()


@given(text=st.text(alphabet='[]{}, "rolepats:u\\', max_size=60), beginning=st.sampled_from(['{"role"', '{"parts"']))
def test_text_that_is_no_json_is_left_alone(text: str, beginning: str) -> None:
    lists = f'[{beginning}: "user", "parts": []}}, {beginning}{text}}}]'
    found = KnownMessages().read_list(lists)
    assert found is None or found == read_messages(lists, "user")


@pytest.mark.parametrize("write", WRITERS[:3])
def test_the_history_of_a_call_is_not_read_again(write: Callable[[Any], str]) -> None:
    said = [
        {"role": role, "parts": [{"type": "text", "content": f"{role} says {'words ' * 20}"}]}
        for role in ("user", "assistant")
    ]
    known = KnownMessages()
    first = known.read_list(write(said))
    later = known.read_list(write([*said, {"role": "user", "parts": []}]))
    assert first is not None
    assert later is not None
    assert all(type(message) is KnownMessage for message in first)
    assert all(a is b for a, b in zip(first, later, strict=False))
    assert later == [*said, {"role": "user", "parts": []}]


def _mapped(body: bytes, content_type: str, known: KnownMessages | None, *, redacted: bool = False) -> list[Any]:
    """Return rows, and their content as parts."""
    batch = MappedBatch()
    for _ in mapping_steps(decode_traces(body, content_type), batch, now=NOW, window=ANY_AGE, known=known):
        pass
    redactor = redactor_of({"rules": [{"pattern": "[aeiou]+"}, {"key": "content"}]}, b"key") if redacted else None
    found = []
    for record in batch.records:
        if redactor is not None:
            redactor.redact(record)
        span = prepare_span("acme", record, shared_from=EARLIEST, resources_from=EARLIEST, results_from=EARLIEST)
        parts = [(part.body, part.words, part.text) for part in span.content.parts] if span.content else None
        columns = {field.name: getattr(record, field.name) for field in fields(record)}
        found.append((columns, span.values, span.dimension, span.size, parts))
    return found


def test_captured_payloads_are_mapped_the_same_with_and_without_memory() -> None:
    bodies = [(path.read_bytes(), PROTOBUF) for path in sorted(FIXTURES.glob("*.traces.pb"))]
    bodies += [(path.read_bytes(), "application/json") for path in sorted(FIXTURES.glob("*.traces.json"))]
    known = KnownContents(200_000)
    for body, content_type in [*bodies, *bodies]:
        assert _mapped(body, content_type, known.of("acme")) == _mapped(body, content_type, None)


def test_conversations_are_mapped_the_same_with_and_without_memory() -> None:
    talks, known, shared = Conversations(5, active=3), KnownContents(), 0
    for number in range(12):
        body = talks.request(TENANTS[0], 20)
        redacted = number % 3 == 1  # what one request has made of a message is not what the next one finds
        remembered = _mapped(body, PROTOBUF, known.of("acme"), redacted=redacted)
        assert remembered == _mapped(body, PROTOBUF, None, redacted=redacted)
        shared += sum(parts is not None for *_, parts in remembered)
    assert shared > 100


def test_what_is_taken_out_of_a_message_is_noted_each_time() -> None:
    picture = "data:image/png;base64," + "QUJD" * 2000
    said = [{"role": "user", "parts": [{"type": "text", "content": picture}]}] * 2
    body = export_request(1, attributes={"gen_ai.input.messages": json.dumps(said)}).SerializeToString()
    known = KnownMessages()
    first, second = (_mapped(body, PROTOBUF, known)[0][0] for _ in range(2))
    assert (
        first["dropped"]["input_messages"]["blob_length"] == second["dropped"]["input_messages"]["blob_length"] > 9000
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "content": "plain words of a talk, and so on " * 30},
        {"type": "text", "content": "\u4e2d" + " wide words" * 90},
        {"type": "tool_call", "name": "empty", "arguments": [[] for _ in range(700)]},
        {"type": "tool_call", "name": "objects", "arguments": [{"a": number} for number in range(300)]},
        {"type": "tool_call", "name": "texts", "arguments": [f"text {number}" for number in range(500)]},
        {"type": "tool_call", "name": "numbers", "arguments": [number + 0.5 for number in range(700)]},
    ],
    ids=lambda part: part.get("name") or part["content"][:5],
)
def test_a_process_remembers_no_more_than_its_bound(part: dict[str, Any]) -> None:
    bound, every, told = 800_000, KnownContents(800_000), 0
    gc.collect()
    tracemalloc.start()
    try:
        numbers = itertools.count()
        while told < 4 * bound:
            number = next(numbers)
            said = [{"role": "user", "parts": [part, {"type": "text", "content": f"{number}"}]}] * 2
            found = every.of(f"project {number % 7}").read_list(json.dumps(said, ensure_ascii=False))
            assert found is not None
            assert {type(message) for message in found} == {KnownMessage}
            told += found[0].size  # type: ignore[attr-defined]
            record = SpanRecord(ts=NOW, trace_id="", span_id="", span_name="", input_messages=found)
            record.input_text = render_messages(found)
            assert split_content(record) is not None
            del found, record
        gc.collect()
        assert bound / 8 < tracemalloc.get_traced_memory()[0] < 1.3 * bound
    finally:
        tracemalloc.stop()


def test_projects_share_no_message() -> None:
    every = KnownContents()
    text = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "the same words in two projects"}]}] * 2)
    ours, theirs = every.of("ours").read_list(text), every.of("theirs").read_list(text)
    assert ours == theirs
    assert ours is not None
    assert theirs is not None
    assert ours[0] is every.of("ours").read_list(text)[0]  # type: ignore[index]
    assert ours[0] is not theirs[0]


def test_a_copy_of_a_known_message_is_an_ordinary_one() -> None:
    known = KnownMessages().read_list(
        json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x" * 50}]}] * 2)
    )
    assert known is not None
    assert type({**known[0]}) is dict
    assert orjson.loads(orjson.dumps(known)) == known == copy.copy(known)
