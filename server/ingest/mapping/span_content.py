"""Input and output of a call: messages, their text, and the finish reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from server.ingest.dialects.attribute_table import keys_of
from server.ingest.mapping.attribute_choice import Candidate, IndexedGroup, SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.coercion import decode_json, readable, storable, to_text, unquoted, without_data
from server.ingest.messages.indexed_messages import assemble_messages
from server.ingest.messages.known_messages import KnownMessages
from server.ingest.messages.message_limits import fit_messages
from server.ingest.messages.message_parts import read_parts, with_calls
from server.ingest.messages.message_rendering import is_multimodal, render_messages, render_parts
from server.ingest.messages.message_shapes import Message, read_messages
from server.ingest.messages.python_calls import arguments_of_tool

_ROLE = {"input": "user", "output": "assistant"}
_FIRST_OF_TUPLE = re.compile(r"[\[(]'([^']*)'")
"""The beginning of a list or a tuple of texts where Python wrote it."""
_MEMBER_OF_ENUM = re.compile(r"<?FinishReason\.(\w+)")
_TYPED_VALUES = keys_of("typed_values")
"""Attributes whose value is an object of a type and the value itself."""
_TRANSCRIPTS = keys_of("transcripts")
"""Attributes that hold all messages of a run, also those that it made: its input ends with the user's last words."""


class MessageEvents(list[dict[str, Any]]):
    """Messages that came one by one, as span events or log records."""


@dataclass(slots=True)
class SpanContent:
    """The content columns of a span."""

    input_type: str | None = None
    input_text: str | None = None
    input_messages: list[Message] | None = None
    output_text: str | None = None
    output_messages: list[Message] | None = None
    finish_reason: str | None = None

    def fill(self, record: SpanRecord) -> None:
        """Set the columns of ``record``."""
        record.input_type, record.input_text, record.input_messages = (
            self.input_type, self.input_text, self.input_messages,
        )  # fmt: skip
        record.output_text, record.output_messages = self.output_text, self.output_messages
        record.finish_reason = self.finish_reason


def read_content(fields: SpanFields, limits: MappingLimits, operation: str | None = None) -> SpanContent:
    """Return the content columns of a span, and take their slots."""
    content = SpanContent()
    is_tool = operation == "tool"
    if is_tool:
        _take_tool_events(fields)
        for slot, named in (("input", "tool_arguments"), ("output", "tool_result")):
            if named in fields.found:
                fields.found.setdefault(slot, []).extend(fields.found.pop(named))
    text, messages, size = _read_slot(fields, "input", is_tool=is_tool)
    if messages is None and not text and "input_ref" in fields.found:
        messages = _by_reference(fields, "input_ref", "input")
    if "system_instructions" in fields.found:
        messages, more = _with_instructions(fields, text, messages)
        size += more
    if messages:
        content.input_type = "multimodal" if is_multimodal(messages) else "chat"
        text = render_messages(messages)
        content.input_messages = _fitted(fields, "input_messages", messages, limits.input_messages, size)
    elif text:
        content.input_type = "text"
    content.input_text = fields.clean("input_text", text, limits.input_text) if text else None

    text, messages, size = _read_slot(fields, "output", is_tool=is_tool)
    if messages is None and not text and "output_ref" in fields.found:
        messages = _by_reference(fields, "output_ref", "output")
    if "output_tool_calls" in fields.found:
        text, messages, more = _with_tool_calls(fields, text, messages)
        size += more
    if messages:
        text = render_messages(messages)
        content.output_messages = _fitted(fields, "output_messages", messages, limits.output_messages, size)
    content.output_text = fields.clean("output_text", text, limits.output_text) if text else None
    content.finish_reason = _finish_reason(fields, messages, limits)
    return content


_ADDRESS = re.compile(r"<[\w.]+(?: object)?(?: [\w.<>]+)? at 0x[0-9a-fA-F]+>")
"""The text that Python writes of an object that it cannot show, such as a stream that was not read: no answer."""


def _read_slot(fields: SpanFields, slot: str, *, is_tool: bool) -> tuple[str | None, list[Message] | None, int]:
    """Return the text or the messages of the first candidate that has any, and the length of its source."""
    if slot not in fields.found:
        return None, None, 0
    instructions: tuple[str | None, list[Message] | None, int] | None = None
    for candidate in fields.candidates(slot):
        text, messages, size = _read_candidate(fields, candidate, _ROLE[slot], is_tool)
        if messages and slot == "input" and messages[-1]["role"] == "system" and _is_system(messages):
            # Some senders have the user's message in another attribute only.
            if instructions is None:
                instructions = text, messages, size
                fields.sources["input_text"] = fields.sources["input_messages"] = candidate[1]
            continue
        if instructions is not None and not messages:
            continue
        if messages and not messages[-1]["parts"] and not any(message["parts"] for message in messages):
            # Messages without words: some senders put the words elsewhere. Their finish reason counts.
            reasons = [message["finish_reason"] for message in messages if "finish_reason" in message]
            if slot == "output" and reasons and "finish_reason" not in fields.found:
                fields.add("finish_reason", candidate[0], candidate[1], reasons)
            continue
        if text and text[0] == "<" and not messages and _ADDRESS.fullmatch(text):
            continue
        if text == "[]" and candidate[1].endswith("messages"):
            continue
        if text or messages:
            fields.sources[f"{slot}_text"] = candidate[1]
            if messages:
                if candidate[1] in _TRANSCRIPTS:
                    messages = _until_last_words_of_user(messages)
                fields.sources[f"{slot}_messages"] = candidate[1]
            return text, messages, size
    return instructions or (None, None, 0)


def _until_last_words_of_user(messages: list[Message]) -> list[Message]:
    """Return the messages without those that came after the user's last words; all, if the user said nothing."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message["role"] == "user" and any(part["type"] != "tool_call_response" for part in message["parts"]):
            return messages[: position + 1]
    return messages


def _is_system(messages: list[Message]) -> bool:
    return all(message["role"] == "system" for message in messages)


def _take_tool_events(fields: SpanFields) -> None:
    """Message events of a tool's own span are its arguments and its result, no talk with a tool."""
    for slot in ("input", "output"):
        for position, (rank, key, value) in enumerate(fields.found.get(slot, ())):
            if isinstance(value, MessageEvents):
                said = (item["message"] if isinstance(item.get("message"), dict) else item for item in value)
                text = "\n".join(render_parts(read_parts(item.get("content"))) for item in said)
                fields.found[slot][position] = (rank, key, text)


def _by_reference(fields: SpanFields, slot: str, side: str) -> list[Message] | None:
    """Return a message that is a link to where the content was put, instead of the content."""
    for candidate in fields.candidates(slot):
        fields.keep(candidate)
        if isinstance(candidate[2], str) and candidate[2]:
            fields.sources[f"{side}_text"] = fields.sources[f"{side}_messages"] = candidate[1]
            return _storable([{"role": _ROLE[side], "parts": [{"type": "uri", "uri": candidate[2]}]}])
    return None


def _read_candidate(
    fields: SpanFields, candidate: Candidate, role: str, is_tool: bool
) -> tuple[str | None, list[Message] | None, int]:
    value = candidate[2]
    if candidate[1] in _TYPED_VALUES:
        value = _untyped(decode_json(value) if isinstance(value, str) else value, value)
    if isinstance(value, IndexedGroup):
        size, is_sound = 0, True
        for _, path, item in value:
            if type(item) is str:
                size += len(path) + len(item)
                is_sound = is_sound and "\0" not in item
            else:
                size += len(path) + len(to_text(item))
                is_sound = False
        assembled = assemble_messages(value, role)
        return None, assembled if is_sound else _storable(assembled), size
    if isinstance(value, MessageEvents):
        return None, _storable(read_messages(list(value), role) or []), len(to_text(list(value)))
    if isinstance(value, str):
        messages = _known(fields).read_list(value) if role == "user" else None
        if messages is not None:
            return None, messages, len(value)
        decoded = decode_json(value)
        if decoded is None and value[:2] in ('"[', '"{'):  # JSON in a text of JSON
            value = unquoted(value)
            decoded = decode_json(value)
        messages = None if decoded is None else read_messages(decoded, role)
        if messages:
            return None, _storable(messages) if "\0" in value else messages, len(value)
        if not is_tool and isinstance(decoded, list) and len(decoded) == 1 and isinstance(decoded[0], str):
            return readable(decoded[0]), None, len(value)
        if is_tool and role == "user" and (named := arguments_of_tool(decoded)) is not decoded:
            return readable(to_text(named)), None, len(value)
        # Input and output of a tool keep their form.
        return readable(unquoted(value), None if is_tool else decoded), None, len(value)
    messages = read_messages(value, role)
    if not messages and isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = [unquoted(item) for item in value]
        if len(value) == 1:
            return readable(value[0], decode_json(value[0])), None, len(value[0])
    text = without_data(to_text(value))
    return text, _storable(messages) if messages else None, len(text)


def _known(fields: SpanFields) -> KnownMessages:
    if fields.known is None:
        fields.known = KnownMessages()
    return fields.known


def _untyped(value: Any, otherwise: Any) -> Any:
    """Return what is in an object of a type and a value, or ``otherwise`` for anything else; lists hold such."""
    if not isinstance(value, dict) or value.keys() != {"type", "value"}:
        return otherwise
    inner = value["value"]
    if value["type"] == "list" and isinstance(inner, list):
        return [_untyped(item, item) for item in inner]
    return inner


def _storable(messages: list[Message]) -> list[Message]:
    result: list[Message] = storable(messages)[0]
    return result


def _with_instructions(
    fields: SpanFields, text: str | None, messages: list[Message] | None
) -> tuple[list[Message] | None, int]:
    """Return the messages with the system instructions before them."""
    for _, key, value in fields.candidates("system_instructions"):
        instructions = _known(fields).read_instructions(value)
        if instructions is None:
            continue
        fields.sources.setdefault("input_text", key)
        if messages is None:
            messages = [{"role": "user", "parts": read_parts(text)}] if text else []
        if not (messages and messages[0]["role"] == "system"):
            messages = [instructions, *messages]
        return messages, len(to_text(value))
    return messages, 0


def _with_tool_calls(
    fields: SpanFields, text: str | None, messages: list[Message] | None
) -> tuple[str | None, list[Message] | None, int]:
    """Return the answer with tool calls that came in an attribute of their own."""
    for _, key, value in fields.candidates("output_tool_calls"):
        calls = decode_json(value) if isinstance(value, str) else value
        if not isinstance(calls, list) or not calls:
            continue
        parts = read_parts([{**call, "type": "tool_call"} for call in calls if isinstance(call, dict)])
        if messages:
            parts = with_calls(messages[-1]["parts"], parts)
            messages = [*messages[:-1], {**messages[-1], "parts": parts}]
        else:
            messages = [{"role": "assistant", "parts": [*read_parts(text), *parts]}]
        fields.sources.setdefault("output_text", key)
        return None, messages, len(to_text(value))
    return text, messages, 0


def _fitted(fields: SpanFields, column: str, messages: list[Message], limit: int, source_length: int) -> list[Message]:
    kept, dropped = fit_messages(messages, limit, source_length)
    if dropped is not None:
        fields.dropped[column] = dropped
    return kept


def _first_of_tuple(text: str) -> str:
    """Return the first of several texts, written as Python writes a list or a tuple of them; else ``text`` itself."""
    found = _FIRST_OF_TUPLE.match(text) if text[:1] in ("[", "(") else None
    return unquoted(text) if found is None else found[1]


def _plain_reason(reason: str) -> str:
    """Return the name of a reason that was written as Python writes a member of an enumeration."""
    found = _MEMBER_OF_ENUM.match(reason)
    return reason if found is None else found[1]


def _finish_reason(fields: SpanFields, messages: list[Message] | None, limits: MappingLimits) -> str | None:
    """Return the finish reason of the first choice. Several different ones stay among the attributes."""
    for candidate in fields.candidates("finish_reason") if "finish_reason" in fields.found else ():
        value = candidate[2]
        if isinstance(value, str):
            value = decode_json(value) or _first_of_tuple(value)
        reasons = [to_text(item) for item in value] if isinstance(value, list) else [to_text(value)]
        if reasons and reasons[0]:
            fields.sources["finish_reason"] = candidate[1]
            if len(set(reasons)) > 1:
                fields.keep(candidate)
            return fields.clean("finish_reason", _plain_reason(reasons[0]), limits.name)
    for message in messages or ():
        if "finish_reason" in message:
            fields.sources["finish_reason"] = fields.sources["output_messages"]
            return fields.clean("finish_reason", message["finish_reason"], limits.name)
    return None
