"""Events of the live tail, and parcels of them in the form in which either transport sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.frames import Frame, Opcode

from server.text.json_text import dumps

EVENTS: Final[dict[str, str]] = {
    "span": "A span was stored; the data is the row that lists show.",
    "update": "A later report of a span took the place of an earlier one, as when a running span ends; the whole row.",
    "heartbeat": "The stream is alive, and its id is the place it has reached; sent at its start and every 15 seconds.",
    "gap": "Events are missing: `count` of them (null: not known), for the `reason`. `resume_from` is the last id "
    "before them.",
    "goodbye": "The server ends the stream for the `reason`, an error code or `draining`; `retry_ms`: milliseconds "
    "after which to come back, null if that is of no use.",
}
"""Name and meaning, for the reference page."""

PARCEL_BYTES: Final = 64 * 1024
"""About as many bytes are handed to a connection at once."""
_FRAMING: Final = 48
"""Bytes that count for what is written around data and id."""


class LiveEvent:
    """One event. Many streams send it, so each form of it is made once."""

    __slots__ = ("_message", "_sse", "data", "id", "is_counted", "name")

    def __init__(self, name: str, data: bytes, id: str = "") -> None:
        """``data`` is JSON without line breaks; ``id`` is the place in the feed after the event."""
        self.name = name
        self.data = data
        self.id = id
        self.is_counted = name in ("span", "update")
        """Whether a client that does not get it has missed something."""
        self._sse: bytes | None = None
        self._message: bytes | None = None

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return len(self.data) + len(self.id) + _FRAMING

    def sse(self) -> bytes:
        """Return the event as a Server-Sent Event."""
        if self._sse is None:
            id_line = f"id: {self.id}\n" if self.id else ""
            self._sse = b"%bevent: %b\ndata: %b\n\n" % (id_line.encode(), self.name.encode(), self.data)
        return self._sse

    def frame(self) -> bytes:
        """Return the event as a WebSocket frame: a server's frames are not masked, so all clients get the same."""
        if self._message is None:
            id_member = f'"id":"{self.id}",' if self.id else ""
            text = b'{"event":"%b",%b"data":%b}' % (self.name.encode(), id_member.encode(), self.data)
            self._message = Frame(Opcode.TEXT, text).serialize(mask=False)
        return self._message


@dataclass(frozen=True, slots=True)
class Form:
    """How a transport writes events."""

    name: str
    encode: Callable[[LiveEvent], bytes]


SSE: Final = Form("sse", LiveEvent.sse)
FRAMES: Final = Form("websocket", LiveEvent.frame)


class Parcel:
    """Some events that are sent together."""

    __slots__ = ("_encoded", "count", "events", "size")

    def __init__(self, events: Sequence[LiveEvent]) -> None:
        self.events = events
        self.size = sum(event.size for event in events)
        self.count = sum(event.is_counted for event in events)
        self._encoded: dict[str, bytes] = {}

    def encoded(self, form: Form) -> bytes:
        """Return the events as ``form`` writes them."""
        data = self._encoded.get(form.name)
        if data is None:
            data = self._encoded[form.name] = b"".join(form.encode(event) for event in self.events)
        return data


def parcels(events: Iterable[LiveEvent]) -> list[Parcel]:
    """Put ``events`` into parcels of at most :data:`PARCEL_BYTES`; a larger event has one for itself."""
    found: list[Parcel] = []
    batch: list[LiveEvent] = []
    size = 0
    for event in events:
        if batch and size + event.size > PARCEL_BYTES:
            found.append(Parcel(batch))
            batch, size = [], 0
        batch.append(event)
        size += event.size
    if batch:
        found.append(Parcel(batch))
    return found


def notice(name: str, members: dict[str, Any], id: str = "") -> Parcel:
    """Return a parcel with one event about the stream itself."""
    return Parcel([LiveEvent(name, dumps(members), id)])
