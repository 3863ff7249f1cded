"""Server-Sent Events of the live tail: from bytes to events, and when to come back.

Lines end with a line feed here. ``iter_lines`` of httpx also ends them at U+2028 and its like, which texts may contain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_observatory_client.errors import StreamEnded


@dataclass(frozen=True)
class LiveEvent:
    """One event: ``span``, ``update``, ``gap`` or ``heartbeat``; ``data`` is the row, or what the event tells."""

    event: str
    id: str
    data: dict[str, Any]


@dataclass
class LiveReader:
    """Puts bytes together. ``last_id`` is where to go on after a connection that broke."""

    last_id: str | None = None
    wait: float = 1.0
    """Seconds before coming back."""
    _rest: bytes = b""
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[LiveEvent]:
        """Take what arrived; yield the events that it completes. Raises StreamEnded for a goodbye for good."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode())

    def _line(self, line: str) -> Iterator[LiveEvent]:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "retry" and value.isdigit():
                self.wait = int(value) / 1000
            return
        if not self._data:
            return
        event = LiveEvent(self._event or "message", self.last_id or "", json.loads("\n".join(self._data)))
        self._event, self._data = "", []
        if event.event == "goodbye":
            if event.data.get("retry_ms") is None:
                raise StreamEnded(str(event.data.get("reason", "")))
            self.wait = event.data["retry_ms"] / 1000
            return
        yield event

    def broken(self) -> None:
        """Forget an event whose end did not come."""
        self._rest, self._event, self._data = b"", "", []

    def headers(self) -> dict[str, str]:
        """Return the headers of the next connection."""
        accept = {"Accept": "text/event-stream"}
        return accept if self.last_id is None else {**accept, "Last-Event-ID": self.last_id}
