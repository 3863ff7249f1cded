"""Complete answers cached in Redis for a short time; concurrent identical questions share one computation.

Redis is an accelerator: without it every answer is computed, and nothing else changes. A stored value is JSON with a
checksum and the freshness tokens (see :mod:`server.cache.freshness`) read *before* the question was put to the
database, so a commit in between can only make the stored answer look stale, never fresh. One round trip fetches the
answer and the current tokens together.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

import orjson
from hiredis import ReplyError

from server.cache.freshness import LONGEST_TTL_SECONDS, trace_keys, window_is_closed, window_keys
from server.cache.stored_answer import CHECKSUM_BYTES, CachedAnswer, Copies, ForeignValue, pack, unpack
from server.fairness.off_loop import off_loop
from server.storage.read_source import ReadSource, read_source
from server.storage.redis_store import RedisStore, RedisUnavailable
from server.storage.row_scope import RowScope
from server.telemetry.observations import CacheAsked, observe, observe_hit

CLOSED_TTL_SECONDS: Final = LONGEST_TTL_SECONDS
TRACE_TTL_SECONDS: Final = LONGEST_TTL_SECONDS
LIVE_TTL_SECONDS: Final = 60
FORMAT: Final = "2"
CACHE_NAME: Final = "results"

# A process that computes an answer holds a lock; the lock expires by itself if that process dies.
LOCK_MS: Final = 3000
_FIRST_WAIT_SECONDS: Final = 0.01
_LONGEST_WAIT_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 0.1
"""Seconds for which a computation goes on after all its callers are gone: most end by then, and cancelling a statement
costs a connection."""


class KeyReader(Protocol):
    """Reads Redis keys. Raises RedisUnavailable."""

    async def read(
        self, names: Sequence[str], known: bytes = b"", lock: tuple[str, int] | None = None
    ) -> list[bytes | None]:
        """Return the values of ``names``. If the first still starts with ``known`` (unless empty), return only that
        prefix.

        ``lock`` is a key and milliseconds: one more value comes last, which is not None if the first value is missing
        and the lock was taken.
        """


@dataclass(frozen=True, slots=True)
class CacheQuestion:
    """A question in the form that decides whether two questions are equal.

    ``document`` is the whole canonical question (JSON values). Relative times stay as written ("now-6h"): the short
    life of such answers bounds how far they drift. ``window_end`` is the end of the time range, None for "now";
    ``trace_id`` is set for questions about one trace only.
    """

    kind: str
    scope: RowScope
    document: Mapping[str, Any]
    window_end: datetime | None = None
    trace_id: str | None = None
    key: str = field(init=False, compare=False)
    """The Redis key: format version, kind, and a hash over the effective scope and the question."""
    names: tuple[str, ...] = field(init=False, compare=False)
    """That key, and those of the tokens that the answer depends on."""
    lock: tuple[str, int] = field(init=False, compare=False)
    """The Redis key, and milliseconds, of the right to compute the answer."""

    def __post_init__(self) -> None:
        scope = self.scope
        canonical = orjson.dumps(
            [self.kind, scope.projects, scope.may_read_content, scope.may_read_costs, self.trace_id, self.document],
            option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS,
            default=str,
        )
        digest = hashlib.blake2b(canonical, digest_size=20).hexdigest()
        key = f"obs:answer:{FORMAT}:{self.kind}:{digest}"
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "names", (key, *self._token_keys()))
        object.__setattr__(self, "lock", (f"{key}:lock", LOCK_MS))

    @property
    def ttl_seconds(self) -> int:
        """Seconds for which the answer may be kept."""
        if self.trace_id is not None:
            return TRACE_TTL_SECONDS
        return CLOSED_TTL_SECONDS if window_is_closed(self.window_end) else LIVE_TTL_SECONDS

    def _token_keys(self) -> list[str]:
        if self.trace_id is not None:
            return trace_keys(self.scope.projects, self.trace_id)
        return window_keys(self.scope.projects, closed=window_is_closed(self.window_end))


@dataclass(frozen=True, slots=True)
class Answer:
    """A reader's result. If ``is_complete`` is false (cut short, partial), it is never stored."""

    data: Any
    pagination: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    is_complete: bool = True
    values: int = 0
    """About how many values ``data`` has: many are encoded in a thread."""


_Flight = tuple[str, tuple[bytes, ...] | None, int]
"""A computation in progress: the key, the tokens under which it began, and the era."""


class ResultCache:
    """Read-through cache for whole answers; see the module's docstring."""

    def __init__(
        self, store: RedisStore, encode: Callable[[Any], bytes], *, enabled: bool = True, max_bytes: int = 1 << 20
    ) -> None:
        """``encode`` turns ``Answer.data`` into JSON. Answers larger than ``max_bytes`` are not stored."""
        self._store = store
        self._encode = encode
        self._enabled = enabled
        self._max_bytes = max_bytes
        self._copies = Copies()
        self._flights: dict[_Flight, asyncio.Task[CachedAnswer]] = {}
        self._awaited: Counter[asyncio.Task[CachedAnswer]] = Counter()
        """Number of callers that wait for each computation."""
        self._era = 0

    async def answer(
        self, question: CacheQuestion, compute: Callable[[], Awaitable[Answer]], *, reader: KeyReader | None = None
    ) -> CachedAnswer:
        """Return the stored answer if it is present and fresh, else compute and store it.

        ``reader`` reads the Redis keys for us, together with other business (the rate limit); its exceptions other than
        RedisUnavailable go to the caller.

        Callers with the same question at the same time, here and in other processes, share one ``compute()``. It runs
        to its end even when the caller that started it goes away.
        """
        key = question.key
        tokens, hit, is_locked = await self._lookup(question, key, reader or self)
        if hit is not None:
            observe_hit(CACHE_NAME)
            return hit
        name = (key, tokens, self._era)
        flight = self._flights.get(name) if tokens is not None else self._any_flight(key)
        if flight is None:
            flight = asyncio.create_task(self._produce(question, key, tokens, compute, is_locked=is_locked))
            self._flights[name] = flight
            flight.add_done_callback(lambda task: self._landed(name, task))
        self._awaited[flight] += 1
        try:
            return await asyncio.shield(flight)
        finally:
            self._awaited[flight] -= 1
            if not self._awaited[flight]:
                del self._awaited[flight]
                if not flight.done():
                    asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._give_up, name, flight)
            del flight  # its error would hold this frame, and this frame the error

    def begin_era(self) -> None:
        """Let no later caller share a computation that is in progress: it may have read rows that were deleted
        meanwhile."""
        self._era += 1

    def fresh(self, answer: Answer) -> CachedAnswer:
        """Return ``answer`` in the form in which it is sent, without storing it."""
        data = self._encode(answer.data)
        fingerprint = _fingerprint(data, answer.pagination)
        source = read_source.get()
        meta = answer.meta if source is None else {**answer.meta, **source.meta()}
        return CachedAnswer(data, answer.pagination, meta, fingerprint, is_hit=False, stored_at=time.time())

    def _any_flight(self, key: str) -> asyncio.Task[CachedAnswer] | None:
        """Return a computation of ``key`` in progress, begun under any tokens: without Redis no answer can be known to
        be fresher.
        """
        flights = self._flights.items()
        return next((flight for (name, _, era), flight in flights if name == key and era == self._era), None)

    def _give_up(self, name: _Flight, flight: asyncio.Task[CachedAnswer]) -> None:
        """End a computation whose callers are all gone. Otherwise callers that hang up could cause work beyond all
        limits."""
        if not self._awaited[flight]:
            self._forget(name, flight)  # at once, so that no caller joins it now
            flight.cancel()

    def _forget(self, name: _Flight, flight: asyncio.Task[CachedAnswer]) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]

    def _landed(self, name: _Flight, task: asyncio.Task[CachedAnswer]) -> None:
        self._forget(name, task)
        if not task.cancelled():
            task.exception()  # all waiting callers may be gone, and then nobody else would retrieve it

    async def _lookup(
        self, question: CacheQuestion, key: str, reader: KeyReader
    ) -> tuple[tuple[bytes, ...] | None, CachedAnswer | None, bool]:
        """Return (current tokens or None if Redis is down, cached answer if fresh, whether we hold the compute
        lock).
        """
        try:
            if not self._enabled:
                await reader.read([])
                return None, None, False
            *values, locked = await reader.read(question.names, self._copies.checksum(key), question.lock)
        except RedisUnavailable:
            observe(CacheAsked(CACHE_NAME, "unavailable"))
            return None, None, False
        except asyncio.CancelledError:
            # The lock may have been taken for us; others would wait until it expires.
            self._store.post(["DEL", question.lock[0]])
            raise
        return *self._judge(key, values), locked is not None

    async def read(
        self, names: Sequence[str], known: bytes = b"", lock: tuple[str, int] | None = None
    ) -> list[bytes | None]:
        """Return the values of ``names``, whole; no lock is taken. See :class:`KeyReader`."""
        return [*await self._store.values(names), None] if names else []

    def _judge(self, key: str, values: Sequence[bytes | None]) -> tuple[tuple[bytes, ...], CachedAnswer | None]:
        """Return the current tokens, and the stored answer if it is intact and was stored under these tokens.

        A Redis that was restored from disk, or took over from another, may have lost the newest tokens and still hold
        an answer that they had made stale. So the identity of the Redis server counts as a token, too.
        """
        tokens = (*[value or b"" for value in values[1:]], self._store.server_id)
        stored = values[0]
        if stored is None:
            self._copies.drop(key)
            return tokens, None
        known = self._copies.take(key, stored[:CHECKSUM_BYTES])
        if known is not None:
            return tokens, known[1] if known[0] == tokens else None
        try:
            stored_tokens, found = unpack(key, stored)
            self._copies.keep(key, stored[:CHECKSUM_BYTES], stored_tokens, found)
        except ForeignValue:
            observe(CacheAsked(CACHE_NAME, "corrupted"))
            self._store.distrust("the answer to another question")
            return tokens, None
        except ValueError:
            observe(CacheAsked(CACHE_NAME, "corrupted"))
            self._store.post(["DEL", key])
            return tokens, None
        return tokens, found if stored_tokens == tokens else None

    async def _produce(
        self,
        question: CacheQuestion,
        key: str,
        tokens: tuple[bytes, ...] | None,
        compute: Callable[[], Awaitable[Answer]],
        *,
        is_locked: bool,
    ) -> CachedAnswer:
        lock, _ = question.lock
        if tokens is not None and not is_locked:
            tokens, hit = await self._take_lock(question, key, lock)
            if hit is not None:
                observe_hit(CACHE_NAME)
                return hit
        observe(CacheAsked(CACHE_NAME, "miss"))
        source = ReadSource()
        read_source.set(source)  # of this task alone
        try:
            answer = await compute()
            fresh = await off_loop(answer.values, partial(self.fresh, answer))
        except BaseException:
            self._store.post(["DEL", lock])
            raise
        if tokens is not None:
            # Not awaited: the caller has its answer, and later callers in this process find it stored.
            if answer.is_complete and source.is_current and len(fresh.data) <= self._max_bytes:
                self._store.post(["SET", key, pack(key, tokens, fresh), "EX", question.ttl_seconds], ["DEL", lock])
            else:
                self._store.post(["DEL", lock])
        return fresh

    async def _take_lock(
        self, question: CacheQuestion, key: str, lock: str
    ) -> tuple[tuple[bytes, ...] | None, CachedAnswer | None]:
        """Wait until the answer is stored or we hold the lock to compute it (or Redis is lost)."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                locked, values = await self._store.ask(
                    ["SET", lock, b"1", "NX", "PX", LOCK_MS], ["MGET", *question.names]
                )
            except RedisUnavailable:
                return None, None
            except asyncio.CancelledError:
                self._store.post(["DEL", lock])  # as in _lookup
                raise
            if isinstance(locked, ReplyError):
                return None, None  # Redis answers but does not store: it is full or read-only
            try:
                tokens, hit = self._judge(key, self._store.values_in(values, len(question.names)))
            except RedisUnavailable:
                return None, None
            if hit is not None and locked:
                self._store.post(["DEL", lock])
            if hit is not None or locked:
                return tokens, hit
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _fingerprint(data: bytes, pagination: Mapping[str, Any] | None) -> str:
    # The continuation of a list follows from its rows, but also contains the moment of the request, so it is left out.
    page = {name: value for name, value in (pagination or {}).items() if name != "continuation"}
    # Processors have instructions for SHA-256, so it takes a third of the time of other hashes.
    digest = hashlib.sha256(data, usedforsecurity=False)
    digest.update(orjson.dumps(page, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()[:32]
