"""Reads what is new for one set of projects and hands it to the streams that watch it.

However many streams there are, the feed is read once; streams with the same filter and fields share the events, too.
New events are read from the database, after the position that the feed has reached
(:mod:`server.queries.lists.feed_position`); a wake-up only says that something may be there.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import asyncpg

from server.errors import ApiError, DatabaseUnavailable, PoolTimeout, ShareExhausted
from server.live.live_event import LiveEvent, Parcel, notice, parcels
from server.live.live_stream import Goodbye, LiveStream, Selection
from server.periodic_task import PeriodicTask
from server.queries.lists.change_reader import FeedPage, feed_now, filter_groups, read_changed_spans, read_feed
from server.queries.lists.feed_position import FeedPosition
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.text.instants import format_instant
from server.text.json_text import dumps

PAGE_CHANGES: Final = 250
"""Changes that are read at once."""
POLL_SECONDS: Final = 0.04
"""Shortest pause between two looks: commits of that time are read together."""
HEARTBEAT_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 0.5
_RETRY_MS: Final = 1000
_AWAY: Final = (DatabaseUnavailable, PoolTimeout, ShareExhausted)
_STEP_BYTES: Final = 256 * 1024
"""After events of so many bytes, other tasks get a turn on the event loop."""

Events = dict[Selection, list[LiveEvent]]


class LiveFeed:
    """The feed of some projects in this process, and the streams that it feeds."""

    def __init__(self, database: Database, projects: tuple[str, ...]) -> None:
        self.projects = projects
        self.users = 0
        """Number of streams that use the feed, including those that are still catching up."""
        self._database = database
        self._scope = RowScope(projects)
        self._streams: defaultdict[Selection, dict[LiveStream, None]] = defaultdict(dict)
        self._position: FeedPosition | None = None
        self._polled_at = 0.0
        self._woken = asyncio.Event()
        self._lock = asyncio.Lock()
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        self.task = PeriodicTask("live tail", self._look, pause=POLL_SECONDS, pause_after_failure=RETRY_SECONDS)

    def wake(self) -> None:
        """Look soon: something may have been stored."""
        self._woken.set()

    async def follow(self, stream: LiveStream, position: FeedPosition | None) -> AsyncIterator[Parcel]:
        """Yield the events of ``stream``: those stored after ``position`` (None: none of them) as fast as its client
        takes them, then new ones as they come.

        Ends with the stream. No event is missing and none comes twice where the stream joins the others: first it reads
        alone up to the newest event, then it joins the feed, and then it reads alone what lies between the two places.
        """
        if position is not None:
            yield heartbeat(position)
            async for page, found in self._pages(stream, position, None):
                for parcel in found:
                    yield parcel
                position = page.position
        joined_at = await self._join(stream)
        if joined_at is None:
            return
        if position is None:
            yield heartbeat(joined_at)
        else:
            async for _, found in self._pages(stream, position, joined_at):
                for parcel in found:
                    yield parcel
        while (taken := await stream.take()) is not None:
            yield taken

    def leave(self, stream: LiveStream) -> None:
        """Take ``stream`` out of the feed."""
        streams = self._streams.get(stream.selection)
        if streams is not None:
            streams.pop(stream, None)
            if not streams:
                del self._streams[stream.selection]

    async def _pages(
        self, stream: LiveStream, position: FeedPosition, until: FeedPosition | None
    ) -> AsyncIterator[tuple[FeedPage, list[Parcel]]]:
        """Read for ``stream`` alone. Waits while the database is away; any other failure ends the stream."""
        while stream.goodbye is None:
            try:
                page, events = await self._read(position, [stream.selection], until)
            except _AWAY:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except ApiError as error:
                stream.end(Goodbye(error.code, _RETRY_MS))
                return
            position = page.position
            yield page, parcels(events.get(stream.selection, ()))
            if not page.has_more:
                return

    async def _join(self, stream: LiveStream) -> FeedPosition | None:
        """Add ``stream`` to the feed; return the place after which the feed serves it, or None if it has ended."""
        asked_at = time.monotonic()
        while stream.goodbye is None:
            try:
                async with self._lock:
                    place = self._position
                    if place is None or self._polled_at < asked_at:  # else another stream has just polled
                        place = await self._poll()
                    self._streams[stream.selection][stream] = None
                    return place
            except _AWAY:
                await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _look(self) -> None:
        """Wait for a wake-up or the next heartbeat, and hand out what is new."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._heartbeat_at - time.monotonic())):
                await self._woken.wait()
        self._woken.clear()
        try:
            async with self._lock:
                await self._poll()
        except BaseException:
            self._woken.set()
            raise
        finally:
            self._beat()

    def _beat(self) -> None:
        if self._position is None or time.monotonic() < self._heartbeat_at:
            return
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        beat = heartbeat(self._position)
        for streams in self._streams.values():
            for stream in streams:
                stream.offer(beat)

    async def _poll(self) -> FeedPosition:
        """Hand out everything that the database shows; return where that ends."""
        self._polled_at = time.monotonic()
        if self._position is None or not self._streams:
            async with self._database.read(self._scope) as connection:
                self._position = await feed_now(connection)
            return self._position
        has_more = True
        while has_more:
            page, events = await self._read(self._position, list(self._streams), None)
            self._position, has_more = page.position, page.has_more
            for selection, found in events.items():
                for parcel in parcels(found):
                    for stream in list(self._streams.get(selection, ())):
                        stream.offer(parcel)
                    await asyncio.sleep(0)  # lets clients take this parcel before the next
        return self._position

    async def _read(
        self, position: FeedPosition, selections: Sequence[Selection], until: FeedPosition | None
    ) -> tuple[FeedPage, Events]:
        """Return a page of changes and the events that each of ``selections`` makes of it.

        If the database cannot evaluate the filter of a selection, the streams of that selection are ended. If it is
        the only selection, the error is raised instead.
        """
        try:
            return await self._read_once(position, selections, until)
        except ApiError as error:
            if isinstance(error, _AWAY) or len(selections) < 2:
                raise
        page, events = await self._read_once(position, (), until)
        page_end = FeedPosition(page.position.until or page.position.after)
        for selection in selections:
            try:
                events |= (await self._read_once(position, [selection], page_end))[1]
            except _AWAY:
                raise
            except ApiError as error:
                for stream in self._streams.get(selection, ()):
                    stream.end(Goodbye(error.code, _RETRY_MS))
        return page, events

    async def _read_once(
        self, position: FeedPosition, selections: Sequence[Selection], until: FeedPosition | None
    ) -> tuple[FeedPage, Events]:
        async with self._database.read(self._scope, follows_index=True) as connection:
            page = await read_feed(connection, position, most=PAGE_CHANGES, until=until)
            events: Events = {}
            # Selections that differ in their filter only share one statement.
            groups: defaultdict[tuple[RowScope, tuple[str, ...]], list[Selection]] = defaultdict(list)
            for selection in selections if page.changes else ():
                groups[selection.scope, selection.fields].append(selection)
            for members in groups.values():
                events |= await _group_events(connection, page, members)
        return page, events


async def _group_events(connection: asyncpg.Connection, page: FeedPage, members: Sequence[Selection]) -> Events:
    """Return the events of selections that differ in their filter only."""
    events: Events = {}
    seconds = int(time.time())
    rest = iter(members)
    for filters in filter_groups(selection.filter for selection in members):
        group = [next(rest) for _ in filters]
        spans = await read_changed_spans(connection, group[0].scope, group[0].fields, filters, page.changes)
        made: list[LiveEvent] = []
        size = 0
        for span in spans:
            name = "update" if span.change.is_update else "span"
            made.append(LiveEvent(name, dumps(span.row), span.change.position.text(seconds)))
            size += made[-1].size
            if size > _STEP_BYTES:
                size = 0
                await asyncio.sleep(0)
        for number, selection in enumerate(group):
            events[selection] = [event for event, span in zip(made, spans, strict=True) if number in span.matches]
    return events


def heartbeat(position: FeedPosition) -> Parcel:
    """Return a heartbeat with the place that the stream has reached."""
    return notice("heartbeat", {"ts": format_instant(datetime.now(UTC))}, position.text(int(time.time())))
