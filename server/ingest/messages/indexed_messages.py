"""Messages that arrive as one attribute per field: ``llm.input_messages.0.message.role`` and the like.

OpenInference and OpenLLMetry flatten messages into indexed keys. They are reassembled here and then read like any other
messages (``message_shapes``).
"""

from __future__ import annotations

from typing import Any

from server.ingest.messages.coercion import decode_json, to_text
from server.ingest.messages.message_shapes import Message, read_messages
from server.text.remembered import remembered

IndexedValue = tuple[int, str, Any]
"""Index of the message, the rest of the key, the value."""

_WRAPPERS = frozenset({"message", "message_content", "tool_call", "prompt", "completion", "embedding"})
"""Path segments of OpenInference that only name the kind of the next segment."""


def assemble_messages(values: list[IndexedValue], default_role: str) -> list[Message]:
    """Return the messages that the indexed attributes of one prefix describe, in the order of their indexes."""
    tree: dict[Any, Any] = {}
    for index, path, value in values:
        node = tree.setdefault(index, {})
        _insert(node, _segments(path), value)
    messages: list[Message] = []
    for index in sorted(tree):
        item = _as_lists(tree[index])
        if item.keys() == {"finish_reason"} and messages:  # the end of the message before, under a number of its own
            messages[-1].setdefault("finish_reason", to_text(item["finish_reason"]))
            continue
        if "content" not in item and "text" in item:
            item["content"] = item.pop("text")
        elif "contents" in item and not item.get("content"):
            item["content"] = item.pop("contents")
        item["content"] = _structured(item.get("content"))
        item.setdefault("role", default_role)
        messages.extend(read_messages([item], default_role) or [])
    return messages


def _structured(content: Any) -> Any:
    """Return content that is a list of typed parts as JSON text, as OpenLLMetry sends it, as that list."""
    if isinstance(content, str) and content.startswith("[{"):
        parts = decode_json(content)
        if isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    return content


@remembered(4096)
def _segments(path: str) -> tuple[tuple[str | int, ...], str]:
    """Return the keys of the nodes that ``path`` leads through, and the last one, which holds the value."""
    segments = [part for part in path.split(".") if part not in _WRAPPERS] or ["text"]
    return tuple(
        int(segment) if segment.isascii() and segment.isdigit() and len(segment) <= 6 else segment
        for segment in segments[:-1]
    ), segments[-1]


def _insert(node: dict[Any, Any], segments: tuple[tuple[str | int, ...], str], value: Any) -> None:
    way, last = segments
    for key in way:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):  # "content" and "content.0" both sent: the first one stays
            return
        node = child
    node.setdefault(last, value)


def _as_lists(node: Any) -> Any:
    """Turn objects whose keys are all numbers into lists."""
    if not isinstance(node, dict):
        return node
    if node and all(isinstance(key, int) for key in node):
        return [_as_lists(node[key]) for key in sorted(node)]
    return {str(key): _as_lists(value) for key, value in node.items()}
