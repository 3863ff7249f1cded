"""The live tail of one server process: its streams, their feeds, and what wakes and ends them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from server.access.access_services import ConcurrencyLimit
from server.errors import (
    ApiError,
    InsufficientScope,
    InvalidCursor,
    InvalidParameter,
    InvalidToken,
    MissingToken,
    Overloaded,
    ProjectForbidden,
)
from server.fairness.party import Party, tenant_of
from server.fairness.standing_places import StandingPlaces
from server.live.live_event import Parcel, notice
from server.live.live_feed import LiveFeed
from server.live.live_stream import GOODBYE_SECONDS, Goodbye, LiveStream, Selection
from server.live.wake_ups import WakeUps
from server.periodic_task import PeriodicTask
from server.queries.lists.change_reader import feed_now
from server.queries.lists.feed_position import FeedPosition, parse_position
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.telemetry.observations import LiveStreamEnded, LiveStreamsOpen, observe

RESUME_SECONDS: Final = 600
"""How long after an event a client may come back with its id and miss nothing."""
FEED_KEPT_SECONDS: Final = 900
"""How long the feed is kept: longer, because clocks differ."""
TRIM_SECONDS: Final = 60.0
CHECK_SECONDS: Final = 2.0
"""Pause between two looks whether clients may still have their streams."""
WATCH_SECONDS: Final = 2.0
"""Pause between two looks for what no message has told of."""
POLLING_SECONDS: Final = 0.2
"""The same while messages are not to be relied on."""
DISTRUST_SECONDS: Final = 10.0
"""How long messages are not relied on after one was missing."""
_ENDING: Final = (InvalidToken, MissingToken, InsufficientScope, ProjectForbidden)
_RETURN_MS: Final = (500, 2500)
"""When clients of a server that stops come back: spread, so that not all come at once."""


class LiveTail:
    """Opens streams; one per process."""

    def __init__(
        self, reads: Database, worker: Database, wake_ups: Callable[[Callable[[Iterable[str]], None]], WakeUps],
        *, most_streams: int, most_of_one: int,
    ) -> None:  # fmt: skip
        """``wake_ups`` makes the messages between processes, given who hears them. ``most_of_one``: streams of one
        caller in this process."""
        self._reads = reads
        self._worker = worker
        self._wake_ups = wake_ups(self._heard)
        self._places = StandingPlaces(
            "live streams", most_streams, exhausted=lambda: Overloaded("too many live streams")
        )
        self.slots = ConcurrencyLimit(most_of_one)
        self._streams: dict[LiveStream, None] = {}
        self._all_left = asyncio.Event()
        self._feeds: dict[tuple[str, ...], LiveFeed] = {}
        self._seen = ""
        self._announced: set[str] = set()
        self._polls_until = 0.0
        self._is_draining = False
        self._watch = PeriodicTask(
            "live tail watch", self._look, pause=POLLING_SECONDS, next_pause=lambda _: self._pause()
        )
        self._checks = PeriodicTask("live tail credentials", self._check, pause=CHECK_SECONDS)
        self.trimming = PeriodicTask("live tail trimming", self._trim, pause=TRIM_SECONDS)
        """Removes what no client may come back for; runs whether or not there are streams."""

    @property
    def streams(self) -> list[LiveStream]:
        """The streams that are open."""
        return list(self._streams)

    def committed(self, projects: Iterable[str]) -> None:
        """Note that this process has stored spans of ``projects``."""
        self._heard(projects)
        self._wake_ups.tell(projects)

    @asynccontextmanager
    async def stream(
        self,
        selection: Selection,
        last_id: str | None,
        *,
        check: Callable[[], Awaitable[RowScope]],
        abort: Callable[[], None],
    ) -> AsyncIterator[tuple[LiveStream, AsyncIterator[Parcel]]]:
        """Open a stream, with the parcels to send, from now on or from behind the event ``last_id``.

        ``check`` returns the rows that the client may see by now, or raises; ``abort`` cuts its connection.

        Raises :class:`Overloaded` if there are too many, :class:`ShareExhausted` if too many are of the caller's
        projects, :class:`InvalidCursor` for an id that is none, and the database's errors.
        """
        if self._is_draining:
            raise Overloaded("the server is about to stop")
        with self._places.hold():
            position, gap = await self._start(selection.scope, last_id)
            stream = LiveStream(selection, check, abort)
            feed = self._enter(stream)
            try:
                yield stream, _led_by(gap, feed.follow(stream, position))
            finally:
                stream.closed()
                await self._leave(stream, feed)

    async def drain(self) -> None:
        """End all streams, telling their clients when to come back, and wait a moment for them."""
        self._is_draining = True
        for stream in list(self._streams):
            stream.end(Goodbye("draining", random.randint(*_RETURN_MS)))  # noqa: S311
        if self._streams:
            self._all_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS + 0.5):
                    await self._all_left.wait()

    async def close(self) -> None:
        """End what is left, and stop the background work."""
        for task in (self.trimming, self._watch, self._checks):
            await task.stop()
        await self._wake_ups.stop()
        for feed in self._feeds.values():
            await feed.task.stop()

    async def _start(self, scope: RowScope, last_id: str | None) -> tuple[FeedPosition | None, Parcel | None]:
        """Return where a stream begins (None: now), and what it has to be told first."""
        if last_id is None:
            return None, None
        try:
            seconds, position = parse_position(last_id)
        except ValueError as error:
            raise InvalidCursor(f"Last-Event-ID: {error}.") from error
        try:
            async with self._reads.read(scope) as connection:
                now = await feed_now(connection)
                is_other = position.newest_transaction > now.newest_transaction
                if is_other or not -RESUME_SECONDS < time.time() - seconds < RESUME_SECONDS:
                    reason = "other_database" if is_other else "expired"
                    return None, notice("gap", {"count": None, "reason": reason, "resume_from": None})
                for snapshot in filter(None, (position.after, position.until)):
                    await connection.fetchval(statement("check_snapshot"), snapshot)
                return position, None
        except InvalidParameter as error:
            raise InvalidCursor("Last-Event-ID: not an id of this stream.") from error

    def _enter(self, stream: LiveStream) -> LiveFeed:
        self._wake_ups.start()
        self._watch.start()
        self._checks.start()
        self._streams[stream] = None
        observe(LiveStreamsOpen(1))
        projects = stream.selection.scope.projects
        feed = self._feeds.get(projects)
        if feed is None:
            feed = self._feeds[projects] = LiveFeed(self._reads, projects)
            feed.task.start(Party(tenant_of(projects), "live tail"))
        feed.users += 1
        return feed

    async def _leave(self, stream: LiveStream, feed: LiveFeed) -> None:
        del self._streams[stream]
        if not self._streams:
            self._all_left.set()
        observe(LiveStreamsOpen(-1))
        observe(LiveStreamEnded(stream.goodbye.reason if stream.goodbye else "", stream.sent, stream.lost))
        feed.leave(stream)
        feed.users -= 1
        if not feed.users:
            del self._feeds[feed.projects]
            await feed.task.stop()

    def _heard(self, projects: Iterable[str]) -> None:
        if not self._feeds:
            return
        told = frozenset(projects)
        self._announced |= told
        self._wake(told)

    def _wake(self, projects: frozenset[str]) -> None:
        for feed in self._feeds.values():
            if not projects.isdisjoint(feed.projects):
                feed.wake()

    def _pause(self) -> float:
        is_told = self._wake_ups.is_listening and time.monotonic() > self._polls_until
        return WATCH_SECONDS if is_told else POLLING_SECONDS

    async def _look(self) -> None:
        """Find out which projects have news, whatever messages have told. Costs nothing while nobody watches."""
        if not self._streams:
            self._seen = ""
            return
        announced, self._announced = self._announced, set()
        async with self._worker.plain() as connection:
            seen = self._seen or (await feed_now(connection)).after
            if not self._seen:  # feeds were here before: what came between is theirs to find
                self._wake(frozenset(project for projects in self._feeds for project in projects))
            ((snapshot, projects),) = await connection.fetch(statement("list_projects_in_feed"), seen)
        self._seen = snapshot
        news = frozenset(projects)
        if not news <= announced:
            self._polls_until = time.monotonic() + DISTRUST_SECONDS
        self._wake(news)

    async def _check(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await asyncio.gather(*(_check(stream) for stream in list(self._streams)))

    async def _trim(self) -> None:
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("trim_span_feed"), FEED_KEPT_SECONDS)


async def _check(stream: LiveStream) -> None:
    """End ``stream`` if its client may not have it any more. A question that cannot be answered now is asked again."""
    try:
        scope = await stream.check()
    except _ENDING as error:
        stream.end(Goodbye(error.code))
    except ApiError:
        return
    else:
        if scope != stream.selection.scope:
            stream.end(Goodbye("scope_changed", 0))


async def _led_by(first: Parcel | None, rest: AsyncIterator[Parcel]) -> AsyncIterator[Parcel]:
    if first is not None:
        yield first
    async for parcel in rest:
        yield parcel
