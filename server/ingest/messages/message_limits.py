"""Messages within a size: the newest part of a conversation is kept, and omissions are recorded."""

from __future__ import annotations

from typing import Any

import orjson

from server.ingest.messages.coercion import cut_text, without_data
from server.ingest.messages.known_message import KnownMessage
from server.ingest.messages.message_shapes import Message

BLOB_BYTES = 2048
"""Base64 of an image or sound longer than this is not kept, only its kind and size."""

_TEXT_KEYS = ("content", "response", "result")
"""Keys of a part with text, which may contain a binary as a ``data:`` URL."""


def fit_messages(
    messages: list[Message], limit: int, source_length: int
) -> tuple[list[Message], dict[str, int] | None]:
    """Return messages whose JSON has at most ``limit`` bytes, and a record of omissions (None: nothing was left out).

    ``source_length`` is the length of the attribute(s) they came from: a short source needs no measuring. Kept first
    are the first message (the instructions) and the newest ones.
    """
    blobs = without_blobs(messages)
    if not blobs and source_length * 4 <= limit:
        return messages, None
    original = len(orjson.dumps(messages)) + blobs
    dropped: dict[str, int] = {"original_length": original}
    if blobs:
        dropped["blob_length"] = blobs
    if original - blobs <= limit:
        return messages, dropped if blobs else None
    share = limit // 4
    cut = [_shortened(message, share) for message in messages]
    sizes = [len(orjson.dumps(message)) + 1 for message in cut]
    room = limit - 2 - sizes[0]
    kept: list[Message] = []
    for message, size in zip(reversed(cut[1:]), reversed(sizes[1:]), strict=True):
        room -= size
        if room < 0:
            break
        kept.append(message)
    result = [cut[0], *reversed(kept)]
    dropped["messages"] = len(messages) - len(result)
    return result, dropped


def without_blobs(messages: list[Message]) -> int:
    """Remove long binary contents from the messages; return their length."""
    total = 0
    for message in messages:
        if type(message) is KnownMessage:  # it has none
            continue
        for part in message["parts"]:
            content = part.get("content")
            if type(content) is str and len(content) <= BLOB_BYTES and part.get("type") == "text":
                continue
            if part.get("type") == "blob" and isinstance(content, str) and len(content) > BLOB_BYTES:
                total += len(content)
                del part["content"]
                part["content_length"] = len(content)
                continue
            for key in _TEXT_KEYS:
                text = part.get(key)
                if isinstance(text, str) and len(text) > BLOB_BYTES:
                    short = without_data(text)
                    total += len(text) - len(short)
                    part[key] = short
    return total


def _shortened(message: Message, limit: int) -> Message:
    """Return the message in about ``limit`` bytes: its longest texts are cut, further parts left out."""
    parts: list[dict[str, Any]] = []
    room = limit
    for part in message["parts"]:
        short = {key: _cut_value(value, max(room, 0) // 2) for key, value in part.items()}
        room -= len(orjson.dumps(short))
        if room < 0:
            break
        parts.append(short)
    return {**message, "parts": parts}


def _cut_value(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return cut_text(value, limit)[0]
    if isinstance(value, dict | list) and len(orjson.dumps(value)) > limit:
        return cut_text(orjson.dumps(value).decode("utf-8"), limit)[0]
    return value
