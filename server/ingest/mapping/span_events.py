"""Span events and links: their information about the call, and the part of them that is stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from server.ingest.dialects.attribute_table import EVENT_OFFSET, read_table
from server.ingest.dialects.name_families import plain_form
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.span_content import MessageEvents
from server.ingest.mapping.span_times import to_rfc3339
from server.ingest.mapping.stored_attributes import store_attributes
from server.ingest.messages.coercion import decode_json, to_text
from server.ingest.otlp.payload import Attributes, DecodedEvent, DecodedLink
from server.text.remembered import remembered

EVENTS: dict[str, Any] = read_table("events.json")
MESSAGE_EVENTS: dict[str, dict[str, str]] = EVENTS["messages"]
_MERGED = frozenset(EVENTS["merged"])
_MERGED_BY_ATTRIBUTE = tuple(EVENTS["merged_by_attribute"])
_FIRST_TOKEN = frozenset(EVENTS["first_token"])
_EXCEPTION = frozenset(EVENTS["exception"])
_TOOL_RESULTS: dict[str, dict[str, list[str]]] = EVENTS["tool_results"]

_BLOCK_KEYS = frozenset({"text", "toolUse", "toolResult", "type", "image", "document", "reasoningContent"})

_MESSAGES_RANK = EVENT_OFFSET - 1
"""Messages from events come after every attribute of the span and before merged event attributes."""


@dataclass(slots=True)
class EventFindings:
    """Findings from the events of a span."""

    first_token_ns: int | None = None
    exception_type: str | None = None
    exception_message: str | None = None
    has_exception: bool = False


NO_FINDINGS = EventFindings()
"""For a span without events, as most are; must not be changed."""


def read_events(events: list[DecodedEvent], fields: SpanFields) -> EventFindings:
    """Add the information in events to ``fields`` and gather the rest."""
    findings = EventFindings()
    messages: dict[str, MessageEvents] = {}
    for event in events:
        name = event.name
        if name in MESSAGE_EVENTS:
            rule = MESSAGE_EVENTS[name]
            messages.setdefault(rule["slot"], MessageEvents()).append(event_message(event.attributes, rule["role"]))
        if name in _TOOL_RESULTS:
            for slot, keys in _TOOL_RESULTS[name].items():
                text = _first_text(event.attributes, tuple(keys))
                if text:
                    fields.add(slot, EVENT_OFFSET, f"event {name}", text)
        if name in _MERGED or any(key in event.attributes for key in _MERGED_BY_ATTRIBUTE):
            fields.collect(event.attributes, EVENT_OFFSET)
        if findings.first_token_ns is None and event.time_ns and tells_first_token(name):
            findings.first_token_ns = event.time_ns
        if name in _EXCEPTION:
            findings.has_exception = True
            findings.exception_type = _first_text(event.attributes, _TYPE_KEYS) or findings.exception_type
            findings.exception_message = _first_text(event.attributes, _MESSAGE_KEYS) or findings.exception_message
    for slot, group in messages.items():
        names = " ".join(
            sorted({event.name for event in events if MESSAGE_EVENTS.get(event.name, {}).get("slot") == slot})
        )
        fields.add(slot, _MESSAGES_RANK, f"event {names}", group)
    return findings


_TYPE_KEYS = ("exception.type", "error.type", "type")
_MESSAGE_KEYS = ("exception.message", "error.message", "message", "error")
_FIRST_TOKEN_NAME = re.compile(r"(?:^|[._])(?:(?:time_to_)?first_(?:token|chunk)|new_token)$")


@remembered(1024)
def tells_first_token(name: str) -> bool:
    """Return whether an event of this name marks the first token: by the table, or by the end of the name."""
    return name in _FIRST_TOKEN or _FIRST_TOKEN_NAME.search(plain_form(name[:200]).replace(" ", "_")) is not None


def _first_text(attributes: Attributes, keys: tuple[str, ...]) -> str:
    return next((text for key in keys if (text := to_text(attributes.get(key)))), "")


def event_message(body: Attributes, role: str) -> dict[str, Any]:
    """Return the message in a ``gen_ai.*.message`` or ``gen_ai.choice`` event, in one of its three forms.

    The fields are in the event itself, as JSON under ``gen_ai.event.content``, or (choices) under ``message``; members
    may be JSON text.
    """
    content = body.get("gen_ai.event.content")
    if isinstance(content, str):
        content = decode_json(content) or {"content": content}
    fields = dict(content) if isinstance(content, dict) else dict(body)
    for key in ("message", "tool_calls"):
        if isinstance(fields.get(key), str):
            fields[key] = decode_json(fields[key]) or {"content": fields[key]}
    if isinstance(fields.get("message"), list):
        fields["message"] = {"content": fields["message"]}
    if isinstance(fields.get("content"), str):
        fields["content"] = _blocks(fields["content"])
    inner = fields.get("message")
    if isinstance(inner, dict):
        inner.setdefault("role", role)
    fields.setdefault("role", role)
    return fields


def _blocks(text: str) -> Any:
    """Content blocks that came as JSON text, as Strands sends them; any other text as it is."""
    blocks = decode_json(text) if text.startswith("[{") else None
    if isinstance(blocks, list) and all(
        isinstance(block, dict) and not _BLOCK_KEYS.isdisjoint(block) for block in blocks
    ):
        return blocks
    return text


def read_conversation(fields: SpanFields) -> None:
    """Split a list of message events in one attribute (slot ``conversation``) into input and output: the answer is the
    choice, or the assistant's message at the end.
    """
    for rank, key, value in fields.candidates("conversation"):
        events = decode_json(value) if isinstance(value, str) else value
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            fields.rest[key] = value
            continue
        slots: dict[str, MessageEvents] = {}
        for position, event in enumerate(events):
            rule = MESSAGE_EVENTS.get(str(event.get("event.name")), {"slot": "input", "role": "user"})
            is_answer = position == len(events) - 1 and rule["role"] == "assistant"
            slot = "output" if is_answer else rule["slot"]
            slots.setdefault(slot, MessageEvents()).append(event_message(event, rule["role"]))
        for slot, group in slots.items():
            fields.add(slot, rank, key, group)


def store_events(
    events: list[DecodedEvent], fields: SpanFields, limits: MappingLimits, sent_dropped: int
) -> list[dict[str, Any]]:
    """Return the ``events`` column. Events whose content is in the message columns are not stored twice."""
    stored: list[dict[str, Any]] = []
    left_out = 0
    room = limits.attributes // 2
    for event in events:
        if event.name in MESSAGE_EVENTS or event.name in _MERGED:
            continue
        if len(stored) >= limits.event_count or room <= 0:
            left_out += 1
            continue
        attributes, size = store_attributes(
            event.attributes, fields, "events", room, limits.event_attribute_count, limits
        )
        room -= size + len(event.name) + 50
        item: dict[str, Any] = {
            "name": fields.clean("event_name", event.name, limits.name),
            "ts": to_rfc3339(event.time_ns) if event.time_ns else None,
            "attributes": attributes,
        }
        if event.dropped_attributes_count:
            item["dropped_attributes_count"] = event.dropped_attributes_count
        stored.append(item)
    if left_out or sent_dropped:
        note = fields.dropped.setdefault("events", {})
        note.update({"dropped": left_out} if left_out else {})
        note.update({"dropped_by_sender": sent_dropped} if sent_dropped else {})
    return stored


def store_links(
    links: list[DecodedLink], fields: SpanFields, limits: MappingLimits, sent_dropped: int
) -> list[dict[str, Any]]:
    """Return the ``links`` column. A link is text to us: it opens nothing and nobody follows it."""
    stored: list[dict[str, Any]] = []
    room = limits.attributes // 8
    for link in links:
        if len(stored) >= limits.link_count or room <= 0:
            break
        if not (_is_hex(link.trace_id, 32) and _is_hex(link.span_id, 16)):
            continue
        attributes, size = store_attributes(
            link.attributes, fields, "links", room, limits.event_attribute_count, limits
        )
        room -= size + 100
        item: dict[str, Any] = {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": attributes}
        if link.trace_state:
            item["trace_state"] = fields.clean("links", link.trace_state, limits.name)
        stored.append(item)
    left_out = len(links) - len(stored)
    if left_out or sent_dropped:
        note = fields.dropped.setdefault("links", {})
        note.update({"dropped": left_out} if left_out else {})
        note.update({"dropped_by_sender": sent_dropped} if sent_dropped else {})
    return stored


_HEX_DIGITS = frozenset("0123456789abcdef")


def _is_hex(identifier: str, length: int) -> bool:
    return len(identifier) == length and _HEX_DIGITS.issuperset(identifier)
