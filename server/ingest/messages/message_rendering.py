"""Messages as plain text, for search and for tables.

There is one block per message, ``role: text``; the only message of a list has no role if it is the user's (input) or
the assistant's (output). The rule is part of the stored data: cached pages and the full-text index depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from server.ingest.messages.coercion import without_data
from server.ingest.messages.known_message import KnownMessage
from server.ingest.messages.message_parts import Part
from server.ingest.messages.message_shapes import Message

_BARE_ROLES = ("user", "assistant")
_BESIDE_WORDS = frozenset({"blob", "uri", "file"})
_MEDIA = frozenset({"image", "audio", "video"})


def render_messages(messages: list[Message]) -> str:
    """Return the text of a list of messages."""
    if len(messages) == 1 and messages[0]["role"] in _BARE_ROLES:
        return render_parts(messages[0]["parts"])
    lines = []
    for message in messages:
        words = message.words if type(message) is KnownMessage else render_parts(message["parts"])
        lines.append(f"{message['role']}: {words}")
    return "\n".join(lines)


def render_parts(parts: list[Part]) -> str:
    """Return the text of one message: its parts, one per line."""
    if len(parts) == 1 and parts[0].get("type") == "text":
        return without_data(str(parts[0]["content"]))
    return "\n".join(_RENDERERS.get(str(part.get("type")), _json)(part) for part in parts)


def is_multimodal(messages: list[Message]) -> bool:
    """Return whether a part is something other than words and tool traffic."""
    for message in messages:
        if type(message) is KnownMessage:
            if message.is_multimodal:
                return True
        elif any(part.get("type") in _BESIDE_WORDS for part in message["parts"]):
            return True
    return False


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode("utf-8")


def _json(part: Part) -> str:
    return _compact(part["content"] if part.get("type") == "json" else part)


def _text(part: Part) -> str:
    return without_data(_compact(part.get("content", "")))


def _reasoning(part: Part) -> str:
    return f"[reasoning] {_compact(part.get('content', ''))}"


def _tool_call(part: Part) -> str:
    arguments = part.get("arguments")
    return f"[tool_call {part.get('name', '')}({'' if arguments is None else _compact(arguments)})]"


def _tool_response(part: Part) -> str:
    response = part.get("response", part.get("result"))
    return f"[tool_result {part.get('id', '')}] {'' if response is None else _compact(response)}"


def _media(part: Part) -> str:
    modality = part.get("modality")
    if modality is None and isinstance(part.get("uri"), str):
        return f"[{part['uri']}]"
    return f"[{modality}]" if isinstance(modality, str) and modality in _MEDIA else "[document]"


_RENDERERS: dict[str, Callable[[Part], str]] = {
    "text": _text,
    "reasoning": _reasoning,
    "tool_call": _tool_call,
    "tool_call_response": _tool_response,
    "blob": _media,
    "uri": _media,
    "file": _media,
    "json": _json,
}
