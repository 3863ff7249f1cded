"""The queue of one client of the live tail: bounded, and honest about events that did not fit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from server.live.live_event import Parcel, notice
from server.queries.filters.filter_tree import Filter
from server.storage.row_scope import RowScope

BUFFER_BYTES: Final = 768 * 1024
"""Most bytes that wait for one client; with those on their way to the socket, less than 1 MiB."""
GOODBYE_SECONDS: Final = 2.0
"""Time in which a client must take its goodbye; then the connection is cut."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The events that a client wants: of which rows, with which fields. Streams with equal ones share the work."""

    scope: RowScope
    fields: tuple[str, ...]
    filter: Filter | None
    key: str
    """The filter as canonical JSON: equal filters have equal keys."""

    def __hash__(self) -> int:
        return hash((self.scope, self.fields, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and (self.scope, self.fields, self.key) == (
            other.scope,
            other.fields,
            other.key,
        )


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why the server ends a stream. ``retry_ms``: when the client may come back; None if that is of no use."""

    reason: str
    retry_ms: int | None = None


@dataclass(slots=True)
class _Gap:
    count: int
    resume_from: str


class LiveStream:
    """The queue of one client. :meth:`offer` never waits; :meth:`take` does."""

    def __init__(
        self, selection: Selection, check: Callable[[], Awaitable[RowScope]], abort: Callable[[], None]
    ) -> None:
        """``check`` raises an ApiError once the client may not have the stream any more; ``abort`` cuts its
        connection."""
        self.selection = selection
        self.check = check
        self._abort = abort
        self._waiting: deque[Parcel | _Gap] = deque()
        self._size = 0
        self._in_hand = 0  # bytes of the parcel that is being sent
        self._arrived = asyncio.Event()
        self._abort_later: asyncio.TimerHandle | None = None
        self.goodbye: Goodbye | None = None
        self.last_id = ""
        """Id of the newest event that was sent or waits."""
        self.sent = 0
        self.lost = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait or are being sent."""
        return self._size

    def offer(self, parcel: Parcel) -> None:
        """Add ``parcel`` to the queue; if there is no room, count its events as lost."""
        if self.goodbye is not None:
            return
        if self._size + parcel.size > BUFFER_BYTES and self._size:
            self._lose(parcel.count)
            return
        self._waiting.append(parcel)
        self._size += parcel.size
        self.last_id = parcel.events[-1].id or self.last_id
        self._arrived.set()

    def _lose(self, count: int) -> None:
        if not count:
            return
        self.lost += count
        if self._waiting and isinstance(newest := self._waiting[-1], _Gap):
            newest.count += count
        else:
            self._waiting.append(_Gap(count, self.last_id))

    async def take(self) -> Parcel | None:
        """Wait for the next parcel and return it; None once the stream has ended (:attr:`goodbye`).

        The call also says that the parcel before has been sent.
        """
        self._size -= self._in_hand
        self._in_hand = 0
        while not self._waiting:
            if self.goodbye is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        if self.goodbye is not None:
            return None
        item = self._waiting.popleft()
        if isinstance(item, _Gap):
            return notice(
                "gap", {"count": item.count, "reason": "slow_client", "resume_from": item.resume_from or None}
            )
        self._in_hand = item.size
        self.sent += item.count
        return item

    def end(self, goodbye: Goodbye) -> None:
        """End the stream: what waits is not sent any more, because the client may have lost the right to it.

        The connection is cut if its client does not take the goodbye within :data:`GOODBYE_SECONDS`.
        """
        if self.goodbye is not None:
            return
        self.goodbye = goodbye
        self._waiting.clear()
        self._arrived.set()
        self._abort_later = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._abort)

    def closed(self) -> None:
        """Note that the connection is closed."""
        self.goodbye = self.goodbye or Goodbye("client_gone")
        self._waiting.clear()
        if self._abort_later is not None:
            self._abort_later.cancel()
