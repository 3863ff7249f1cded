"""Token buckets: a shared one in Redis, and a local one while Redis is down.

A bucket holds at most ``capacity`` tokens and refills at ``per_minute``. A request takes ``cost`` of them, or is
refused and takes nothing. So no caller ever gets more than capacity + rate × time, however many processes it calls at
once.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cachetools import LRUCache

from server.storage.redis_store import RedisStore, RedisUnavailable, ScriptCall

_KEY_PREFIX: Final = "obs:limit:1:"
MAX_LOCAL_BUCKETS: Final = 10_000
MAX_KEPT_CALLS: Final = 2000
_LATEST_MS: Final = 1 << 53
_ROUNDING: Final = 1e-6  # the script sends six decimal places


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket and what one request takes from it."""

    identifier: str
    """The party and the resource that are counted. Hashed before it becomes a key, because callers chose part of the
    text."""
    per_minute: float
    capacity: float
    cost: float = 1
    name: str = "default"
    """Name of the policy in the RateLimit headers."""
    degraded_share: float = 1.0
    """Part of the limit that is granted while Redis is down: less than 1 for guards of secrets."""

    key: str = field(init=False, repr=False, compare=False)
    """The Redis key."""

    def __post_init__(self) -> None:
        digest = hashlib.blake2b(self.identifier.encode(), digest_size=16).hexdigest()
        object.__setattr__(self, "key", _KEY_PREFIX + digest)

    def __hash__(self) -> int:
        return hash(self.key)


class BucketState(NamedTuple):
    """A bucket after the verdict. Times are Unix seconds."""

    bucket: Bucket
    tokens: float
    now: float

    @property
    def remaining(self) -> int:
        """Whole tokens left."""
        return max(0, math.floor(self.tokens))

    @property
    def retry_after(self) -> int:
        """Whole seconds until the same request would be let through; at least 1."""
        missing = self.bucket.cost - self.tokens
        return max(1, math.ceil(missing * 60 / self.bucket.per_minute))

    @property
    def full_after(self) -> int:
        """Whole seconds until the bucket is full again."""
        return max(0, math.ceil((self.bucket.capacity - self.tokens) * 60 / self.bucket.per_minute))


class Verdict(NamedTuple):
    """Whether a request may go on."""

    allowed: bool
    states: tuple[BucketState, ...]
    is_degraded: bool = False
    """True when a local bucket decided, because Redis did not answer."""

    @property
    def tightest(self) -> BucketState:
        """The bucket that refuses for longest, or the one with least left: the headers describe this one."""
        if len(self.states) == 1:
            return self.states[0]
        return min(self.states, key=lambda state: (state.tokens - state.bucket.cost) / state.bucket.per_minute)


class LocalBuckets:
    """Buckets of this process, with the arithmetic of the Redis script. Least recently used ones are forgotten."""

    def __init__(self, instances: int) -> None:
        """``instances``: number of processes that share each limit; each grants its share of it."""
        self._instances = instances
        self._levels: LRUCache[str, tuple[float, float]] = LRUCache(MAX_LOCAL_BUCKETS)

    def judge(self, buckets: Sequence[Bucket], *, take: bool) -> Verdict:
        """Return the verdict on ``buckets``, all or none."""
        clock = time.monotonic()
        shares = [self._share(bucket) for bucket in buckets]
        levels = [self._level(share, clock) for share in shares]
        allowed = all(level >= share.cost for share, level in zip(shares, levels, strict=True))
        states = []
        for share, level in zip(shares, levels, strict=True):
            rest = level - share.cost if allowed and take else level
            if take:
                self._levels[share.identifier] = (rest, clock)
            states.append(BucketState(share, rest, time.time()))
        return Verdict(allowed, tuple(states), is_degraded=True)

    def _share(self, bucket: Bucket) -> Bucket:
        part = bucket.degraded_share / self._instances
        return Bucket(
            bucket.identifier,
            bucket.per_minute * part,
            # A share too small for one request would refuse that request forever.
            max(bucket.capacity * part, bucket.cost),
            bucket.cost,
            bucket.name,
        )

    def _level(self, share: Bucket, clock: float) -> float:
        known = self._levels.get(share.identifier)
        if known is None:
            return share.capacity
        tokens, since = known
        return min(share.capacity, tokens + (clock - since) * share.per_minute / 60)


class _Question(NamedTuple):
    """The arguments of the script."""

    buckets: tuple[Bucket, ...]
    take: bool
    lookup: tuple[str, ...]
    known: bytes
    lock: tuple[str, int] | None


Judgement = tuple[Verdict, list[bytes | None] | None]


class TokenBuckets:
    """Judges requests in Redis, or locally while Redis does not answer. Never raises for Redis.

    Identical requests in one turn of the event loop (a dashboard's viewers behind one credential) are judged by one
    call that takes their total cost from the buckets. If that is too much, as many of them pass as the buckets allow.
    Measured with eight clients that ask for one remembered list (`make bench-queries-cached`, 2026-11-30): 15 % more
    requests a second than with a call for each. It may go when a call to Redis costs less than that.
    """

    def __init__(self, store: RedisStore, *, instances: int) -> None:
        self._store = store
        self._script = store.script("server.rate_limit", "token_bucket.lua")
        # A caller that repeats a request repeats it exactly.
        self._call = lru_cache(maxsize=MAX_KEPT_CALLS)(self._packed)
        self._local = LocalBuckets(instances)
        self._askers: dict[_Question, list[asyncio.Future[Judgement]]] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self.degraded_count = 0
        """Verdicts given without Redis since the process started."""

    def judge(
        self,
        buckets: Sequence[Bucket],
        *,
        take: bool = True,
        lookup: Sequence[str] = (),
        known: bytes = b"",
        lock: tuple[str, int] | None = None,
    ) -> asyncio.Future[Judgement]:
        """Return a future of the verdict, and of the values of the Redis keys ``lookup`` read in the same round trip.

        ``take`` false only looks. ``known``: prefix of the first value of which the caller has a copy; if the value
        still begins with it, only the prefix comes back. ``lock``: a key, and the milliseconds for which it is taken if
        the first value is missing and nobody holds it; then one more value comes last, ``1`` if it was taken. The
        values are None if Redis did not answer.
        """
        question = _Question(tuple(buckets), take, tuple(lookup), known, lock)
        askers = self._askers.get(question)
        if askers is None:
            askers = self._askers[question] = []
            task = asyncio.create_task(self._answer(question, askers))  # starts when this turn is over
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
        asker = asyncio.get_running_loop().create_future()
        askers.append(asker)
        return asker

    async def _answer(self, question: _Question, askers: list[asyncio.Future[Judgement]]) -> None:
        del self._askers[question]
        try:
            judgements = await self._judge_all(question, len(askers))
        except Exception as error:  # noqa: BLE001  # every waiting caller gets it
            for asker in askers:
                if not asker.done():
                    asker.set_exception(error)
            return
        # Some callers may be gone by now. Give the lock to a caller that is still waiting.
        for asker, judgement in zip([asker for asker in askers if not asker.done()], judgements, strict=False):
            asker.set_result(judgement)

    async def _judge_all(self, question: _Question, count: int) -> list[Judgement]:
        """Judge ``count`` identical requests one after the other."""
        found = await self._judge(question, count)
        verdict, _ = found[0]
        if verdict.allowed or verdict.is_degraded or count == 1:
            return found
        room = min(count - 1, *(int(state.tokens // state.bucket.cost) for state in verdict.states))
        if room == 0:
            return found
        return [*await self._judge_all(question, room), *await self._judge_all(question, count - room)]

    async def _judge(self, question: _Question, count: int) -> list[Judgement]:
        """Judge ``count`` identical requests together: all of them pass, or none."""
        try:
            reply = await self._script.run(self._call(question, count))
        except RedisUnavailable:
            return self._judge_here(question, count)
        buckets = question.buckets
        try:
            allowed, now, tokens, values = _read_reply(question, reply)
        except (TypeError, ValueError):
            self._store.distrust("a reply other than a verdict")
            return self._judge_here(question, count)
        found: list[Judgement] = []
        for place in range(count):
            behind = count - 1 - place if allowed and question.take else 0
            pairs = zip(buckets, tokens, strict=True)
            states = [BucketState(bucket, left + behind * bucket.cost, now) for bucket, left in pairs]
            found.append((Verdict(allowed, tuple(states)), values))
            if question.lock is not None:
                values = [*values[:-1], None]
        return found

    def _judge_here(self, question: _Question, count: int) -> list[Judgement]:
        self.degraded_count += count
        return [(self._local.judge(question.buckets, take=question.take), None) for _ in range(count)]

    def _packed(self, question: _Question, count: int) -> ScriptCall:
        buckets, take, lookup, known, lock = question
        keys = [*(bucket.key for bucket in buckets), *lookup]
        arguments: list[Any] = [len(buckets), 1 if take else 0]
        times = count if take else 1
        for bucket in buckets:
            arguments += [bucket.capacity, bucket.per_minute / 60_000, bucket.cost * times]
        arguments.append(known)
        if lock is not None:
            keys.append(lock[0])
            arguments.append(lock[1])
        return self._script.prepared(keys, arguments)


def _read_reply(question: _Question, reply: Sequence[Any]) -> tuple[bool, float, list[float], list[bytes | None]]:
    """Return the verdict, the time in seconds, the tokens left and the values read. Raises TypeError, ValueError."""
    allowed, now, *rest = reply
    count = len(question.buckets)
    tokens, values = [float(text) for text in rest[:count]], rest[count:]
    if (
        allowed not in (0, 1)
        or type(now) is not int
        or not 0 <= now < _LATEST_MS
        or not all(
            0 <= left <= bucket.capacity + _ROUNDING for left, bucket in zip(tokens, question.buckets, strict=True)
        )
        or len(values) != len(question.lookup) + (question.lock is not None)
        or not all(value is None or isinstance(value, bytes) for value in values)
    ):
        raise ValueError("no verdict")
    return allowed == 1, now / 1000, tokens, values
