"""Messages recognised by their JSON text, so that the history of a conversation is not read again with each call.

A list of messages is cut at the beginnings of its members; a member whose text was met before is the message that was
read then. That is exact: if each piece is an object of its own, then together they are the list. Anything else, such as
a member of another shape, leaves the whole list to :mod:`server.ingest.messages.message_shapes`.

Projects share nothing here, not even the time that it takes to read a message which another has sent.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from server.ingest.messages.coercion import decode_json, storable
from server.ingest.messages.known_message import KnownMessage
from server.ingest.messages.message_limits import BLOB_BYTES, without_blobs
from server.ingest.messages.message_parts import read_parts
from server.ingest.messages.message_rendering import is_multimodal, render_parts
from server.ingest.messages.message_shapes import Message, read_message

MOST_BYTES: Final = 24 * 1024 * 1024
"""About how much a process remembers, with all that was made of it."""

_LARGEST: Final = 256 * 1024
"""A larger message is read each time, so that a few of them do not take the place of all others."""
_FEWEST: Final = 48
"""Characters of a message; shorter ones are read as fast as they are found."""
_MEMBERS: Final = frozenset({"role", "parts", "name", "finish_reason"})
_BEGINNINGS: Final = ('{"role"', '{"parts"')
_Key = str | tuple[str, str]


class KnownMessages:
    """The messages of one project: those met lately, and those met before, which are forgotten next."""

    __slots__ = ("_all", "_earlier", "_lately")

    def __init__(self, all_projects: KnownContents | None = None) -> None:
        self._all = all_projects
        self._lately: dict[_Key, KnownMessage] = {}
        self._earlier: dict[_Key, KnownMessage] = {}

    def grow_older(self) -> bool:
        """Forget what was not met lately; return whether anything is left."""
        self._earlier, self._lately = self._lately, {}
        return bool(self._earlier)

    def read_list(self, text: str) -> list[Message] | None:
        """Return what ``read_messages`` makes of the input in ``text``, if that is a list of several messages in
        OpenTelemetry's shape; else None.
        """
        if text[:2] != "[{" or text[-2:] != "}]":
            return None
        beginning = next((item for item in _BEGINNINGS if text.startswith(item, 1)), None)
        if beginning is None:
            return None
        pieces = text[1 + len(beginning) : -2].split(f"}}, {beginning}")
        if len(pieces) == 1:
            pieces = pieces[0].split(f"}},{beginning}")
            if len(pieces) == 1:
                return None
        messages: list[Message] = []
        for piece in pieces:
            key = piece if beginning is _BEGINNINGS[0] else beginning + piece
            message: Message | None = self._lately.get(key) or self._met_earlier(key)
            if message is None:
                message = _read(f"{beginning}{piece}}}")
                if message is None:
                    return None
                message = self._note(key, message, piece)
            messages.append(message)
        return messages

    def read_instructions(self, value: Any) -> Message | None:
        """Return the system's message with the instructions in ``value``; None if there are none."""
        if not isinstance(value, str):
            return _instructions(value)
        key = ("instructions", value)
        message: Message | None = self._lately.get(key) or self._met_earlier(key)
        if message is None:
            message = _instructions(value)
            if message is not None:
                message = self._note(key, message, value)
        return message

    def _met_earlier(self, key: _Key) -> KnownMessage | None:
        message = self._earlier.pop(key, None)
        if message is not None:
            self._keep(key, message)
        return message

    def _note(self, key: _Key, message: Message, text: str) -> Message:
        """Return ``message`` as one that is known, unless it is very short, very large, or loses something later."""
        if len(text) < _FEWEST or (size := _size(text)) > _LARGEST or _has_blobs(message, len(text)):
            return message
        words, has_media = render_parts(message["parts"]), is_multimodal([message])
        known = KnownMessage(message, words=words, is_multimodal=has_media, size=size)
        self._keep(key, known)
        return known

    def _keep(self, key: _Key, message: KnownMessage) -> None:
        self._lately[key] = message
        if self._all is not None:
            self._all.count(message.size)


class KnownContents:
    """The known messages of all projects, within a bound for all of them together."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._noted = 0
        self._projects: dict[str, KnownMessages] = {}

    def of(self, project_id: str) -> KnownMessages:
        """Return the messages of a project, which are of use to it alone."""
        found = self._projects.get(project_id)
        if found is None:
            found = self._projects[project_id] = KnownMessages(self)
        return found

    def count(self, size: int) -> None:
        """Count what was met for the first time in a while; beyond half of the bound all projects forget what they did
        not meet lately.
        """
        self._noted += size
        if self._noted > self._most // 2:
            self._noted = 0
            self._projects = {name: known for name, known in list(self._projects.items()) if known.grow_older()}


def _read(piece: str) -> Message | None:
    """Return the message in a piece of a list, if it is the same in every list."""
    items = decode_json(f"[{piece}]")  # in brackets, since the nesting is counted
    is_message = isinstance(items, list) and len(items) == 1 and _stands_alone(items[0])
    return read_message(items[0], "user") if is_message else None


def _stands_alone(item: Any) -> bool:
    """Return whether an object is a message in OpenTelemetry's shape, whatever is beside it."""
    if type(item) is not dict or not item.keys() <= _MEMBERS:
        return False
    role = item.get("role")
    return type(role) is str and bool(role) and role.lower() != "unknown" and type(item.get("parts")) is list


def _instructions(value: Any) -> Message | None:
    decoded = decode_json(value) if isinstance(value, str) else value
    parts = read_parts(value if decoded is None else decoded)
    return storable({"role": "system", "parts": parts})[0] if parts else None


def _size(text: str) -> int:
    """Return about how many bytes are held for a message: its text in three forms, and its objects, lists and texts,
    each of which takes many times as much as the characters that it is written in.
    """
    inner = 300 * (text.count("{") + text.count("[")) + 45 * text.count('"') + 24 * text.count(",")
    return 400 + (3 if text.isascii() else 10) * len(text) + inner


def _has_blobs(message: Message, length: int) -> bool:
    """Return whether binary contents will be taken out of the message, which each span has to note."""
    if length <= BLOB_BYTES:
        return False
    copy = deepcopy(message)
    without_blobs([copy])
    return bool(copy != message)
