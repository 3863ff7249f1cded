"""The content of a span in the parts that several spans may share: messages, texts that are none, and long attributes.

Only content whose texts follow from its messages can be taken apart; :func:`split_content` says so by comparing. The
statements that put it together again are in migrations 0070 to 0073 and 0107.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from asyncpg.pgproto.pgproto import UUID

from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.known_message import KnownMessage
from server.ingest.messages.message_rendering import render_parts
from server.queries.records.message_text import text_of_parts

BARE_ROLES = ("user", "assistant")
"""Roles that the only message of a side does not name in its text."""

MODEL, TOOL = "assistant", "tool"

LONG_ATTRIBUTE = 512
"""Characters from which on an attribute is a part, whether others have it or not: a row of its own takes about 130."""

CALL_IDS = ("gen_ai.tool.call.id", "ai.toolCall.id")
"""Attributes of a tool's span that name the call which it answers."""

SHORTEST_RESULT = 128
"""Characters from which on the result of a tool is a part: a shorter one takes less room in its span."""


@dataclass(slots=True)
class ContentPart:
    """A message, a text alone, or an attribute. Spans of several batches may share it: only its id is ever added."""

    body: str
    """As JSON: the message, a string, or an object of one member."""
    words: str
    """Its text, without the role."""
    text: str | None
    """The same where it does not follow from the body."""
    _named: tuple[bytes, bytes, UUID] | None = None

    def id_under(self, key: bytes, suffix: bytes) -> UUID:
        """Return its id in the project with ``key``. ``suffix``: what tells it from a part of equal content."""
        if self._named is None or self._named[0] != key or self._named[1] != suffix:
            data = f"{self.body}\0{self.text or ''}".encode() + suffix
            self._named = key, suffix, UUID(hashlib.blake2b(data, digest_size=16, key=key).digest())
        return self._named[2]


@dataclass(frozen=True, slots=True)
class SharedContent:
    """The parts of a span: those of the input, those of the output, then those of attributes."""

    parts: tuple[ContentPart, ...]
    inputs: int
    states_finish: bool
    """Each message of the output states the finish reason of the span; the parts are without it."""
    history: int
    """How many of the parts, the first ones, the call only repeats: those up to the last message of the model."""
    attributes: tuple[str, ...]
    """Which attributes are parts."""
    result_alone: bool = False
    """The part of the output is the message of a tool, and the span has no more of it than the response."""

    @property
    def size(self) -> int:
        """About how many bytes they have."""
        return sum([len(part.body) for part in self.parts])


def split_content(record: SpanRecord, *, with_results: bool = False) -> SharedContent | None:
    """Return the parts of the content of ``record``; None if its texts do not follow from them, or it has no messages.
    A text alone is seldom sent twice, and takes less room in its span; ``with_results``: but for the result of a tool,
    which the next call of the conversation has among its messages.
    """
    if record.input_messages is None and record.output_messages is None:
        return _split_result(record) if with_results else None
    answers, states_finish = _without_finish(record.output_messages, record.finish_reason)
    asked = _split(record.input_messages, record.input_text)
    answered = _split(answers, record.output_text)
    if asked is None or answered is None or not (asked or answered):
        return None
    long = _long_attributes(record)
    history = _history(record.input_messages or ())
    return SharedContent((*asked, *answered, *long.values()), len(asked), states_finish, history, tuple(long))


def _split_result(record: SpanRecord) -> SharedContent | None:
    """Return the parts of a tool's span: its arguments, and the message with its result. None if the
    result is short, or nothing says which call it answers.
    """
    call = next((record.attributes[name] for name in CALL_IDS if name in record.attributes), None)
    result = record.output_text
    if not isinstance(call, str) or not call or result is None or len(result) < SHORTEST_RESULT:
        return None
    # Members in the order of mapped messages: the id of a part is a hash of its JSON.
    inner: list[dict[str, Any]] = [{"type": "tool_call_response", "id": call, "response": result}]
    answer = ContentPart(orjson.dumps({"role": TOOL, "parts": inner}).decode(), render_parts(inner), None)
    asked = _split(None, record.input_text) or []
    long = _long_attributes(record)
    parts = (*asked, answer, *long.values())
    return SharedContent(parts, len(asked), False, 0, tuple(long), result_alone=True)


def _long_attributes(record: SpanRecord) -> dict[str, ContentPart]:
    return {key: part for key, value in record.attributes.items() if (part := _long_attribute(key, value)) is not None}


def _history(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the place after the last message of the model; 0 if there is none."""
    for place in range(len(messages), 0, -1):
        if messages[place - 1]["role"] == MODEL:
            return place
    return 0


def _long_attribute(key: str, value: Any) -> ContentPart | None:
    """Return the part of an attribute; None if it is short, and takes less room in the row."""
    if not isinstance(value, str | list | dict):
        return None
    if isinstance(value, str) and len(value) < LONG_ATTRIBUTE:
        return None
    body = orjson.dumps({key: value}).decode()
    return ContentPart(body, "", None) if len(body) >= LONG_ATTRIBUTE else None


def _without_finish(messages: Any, reason: str | None) -> tuple[Any, bool]:
    """Return ``messages`` without the finish reason, if it is ``reason`` in each of them: the history of later calls
    has the same message without it. Also returns whether that is so.
    """
    if reason is None or not isinstance(messages, list) or not messages:
        return messages, False
    if not all(isinstance(message, dict) and message.get("finish_reason") == reason for message in messages):
        return messages, False
    return [{key: value for key, value in message.items() if key != "finish_reason"} for message in messages], True


def _split(messages: Any, text: str | None) -> list[ContentPart] | None:
    """Return the parts of one side; None if they would not give ``text``."""
    if messages is None:
        return [] if text is None else [ContentPart(orjson.dumps(text).decode(), text, None)]
    if text is None or not isinstance(messages, list):
        return None
    parts, lines = [], []
    is_one = len(messages) == 1
    for message in messages:
        if type(message) is KnownMessage and not is_one:
            if message.part is None:
                message.part = _message_part(message, message.words)
            parts.append(message.part)
            lines.append(f"{message['role']}: {message.words}")
            continue
        try:
            role, words = message["role"], render_parts(message["parts"])
            parts.append(_message_part(message, words))
        except (KeyError, TypeError, AttributeError):
            return None
        if not isinstance(role, str):
            return None
        lines.append(words if is_one and role in BARE_ROLES else f"{role}: {words}")
    return parts if parts and "\n".join(lines) == text else None


def _message_part(message: Mapping[str, Any], words: str) -> ContentPart:
    text = None if text_of_parts(message["parts"]) == words else words
    return ContentPart(orjson.dumps(message).decode(), words, text)
