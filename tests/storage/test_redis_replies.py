"""Replies belong to their questions: what a faulty path to Redis does is noticed, and never shown to anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson
import pytest
from hiredis import ReplyError

from server.cache.result_cache import Answer, CacheQuestion, ResultCache
from server.rate_limit.token_bucket import Bucket, TokenBuckets
from server.storage import redis_store
from server.storage.redis_store import RedisStore, RedisUnavailable
from server.storage.row_scope import RowScope
from tests.storage.faulty_path import FAULTS, FaultyPath

TENANTS = {"alpha": 1_000_000, "beta": 5_000_000}
"""Projects, and the requests a minute that each of them may send: the numbers tell whose verdict it is."""


def compute(tag: str) -> Callable[[], Awaitable[Answer]]:
    async def answer() -> Answer:
        return Answer({"tag": tag})

    return answer


@pytest.fixture(autouse=True)
def eager_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure Redis is asked again at once: else few questions would meet a fault."""
    for name in ("PAUSE_SECONDS", "OPEN_SECONDS"):
        monkeypatch.setattr(redis_store, name, 0.0)


@pytest.mark.parametrize("fault", FAULTS)
async def test_nobody_gets_what_belongs_to_another_question(redis_url: str, fault: str) -> None:
    path = FaultyPath(seed=7)
    async with path.before(redis_url) as url:
        store = RedisStore(url, timeout=0.25)
        cache, buckets = ResultCache(store, orjson.dumps), TokenBuckets(store, instances=1)

        async def ask(tenant: str, number: int) -> None:
            question = CacheQuestion("traces", RowScope((tenant,)), {"number": number})
            bucket = Bucket(f"{tenant} {number}", TENANTS[tenant], TENANTS[tenant])

            class LimitedReader:
                async def read(
                    self, names: Sequence[str], known: bytes = b"", lock: tuple[str, int] | None = None
                ) -> list[bytes | None]:
                    verdict, values = await buckets.judge([bucket], lookup=names, known=known, lock=lock)
                    (state,) = verdict.states
                    assert verdict.allowed
                    assert state.tokens <= state.bucket.capacity
                    if not verdict.is_degraded and fault != "change":
                        assert state.tokens > TENANTS[tenant] - 1000, "the verdict on somebody else"
                    if values is None:
                        raise RedisUnavailable
                    return values

            tag = f"{tenant} {number}"
            found = await cache.answer(question, compute(tag), reader=LimitedReader() if number % 2 else None)
            assert orjson.loads(found.data) == {"tag": tag}

        for turn in range(40):
            path.fault = FAULTS[fault] if turn else None  # the first turn fills the cache
            await asyncio.gather(*(ask(tenant, number) for tenant in TENANTS for number in range(4)))
        assert path.faults > 5
        path.fault = None
        degraded = -1
        deadline = asyncio.get_running_loop().time() + 20
        while degraded != buckets.degraded_count:  # Redis is used again, over a new connection
            assert asyncio.get_running_loop().time() < deadline
            degraded = buckets.degraded_count
            await asyncio.gather(*(ask(tenant, number) for tenant in TENANTS for number in range(4)))
        await store.close()


async def test_a_late_reply_is_not_the_reply_to_the_next_question(redis_url: str) -> None:
    path = FaultyPath(seed=1)
    late: list[bytes] = []

    def delay(_: FaultyPath, replies: list[bytes]) -> list[bytes]:
        late.extend(replies)
        return [] if len(late) < 5 else late

    async with path.before(redis_url) as url:
        store = RedisStore(url, timeout=0.2)
        assert await store.ask(["SET", "one", "1"], ["SET", "two", "2"]) == [b"OK", b"OK"]
        path.dice.random = lambda: 0.0  # type: ignore[method-assign]
        path.fault = delay
        with pytest.raises(RedisUnavailable):
            await store.values(["one"])
        path.fault = None
        assert await store.values(["two", "one"]) == [b"2", b"1"]
        await store.close()


@pytest.mark.parametrize("same_connection", [True, False])
async def test_a_whole_reply_to_another_question_is_none_to_this(redis_url: str, same_connection: bool) -> None:
    """It has the right form, down to the length of the number at its end."""
    path = FaultyPath(seed=1)
    async with path.before(redis_url) as url:
        stores = [RedisStore(url, timeout=0.2) for _ in range(2)]
        one, other = stores[0], stores[0 if same_connection else 1]
        assert await one.ask(["SET", "one", "1"], ["SET", "two", "2"]) == [b"OK", b"OK"]
        assert await other.values(["two"]) == [b"2"]
        assert await one.values(["one"]) == [b"1"]
        earlier = path.earlier[-1]
        path.dice.random = lambda: 0.0  # type: ignore[method-assign]
        path.fault = lambda _, replies: earlier
        with pytest.raises(RedisUnavailable):
            await other.values(["two"])
        assert path.faults == 1
        path.fault = None
        assert await other.values(["two"]) == [b"2"]
        for store in set(stores):
            await store.close()


async def test_errors_of_redis_are_replies_like_others(redis_url: str) -> None:
    store = RedisStore(redis_url, timeout=1.0)
    good, bad, last = await store.ask(["SET", "text", "x"], ["LPUSH", "text", "y"], ["GET", "text"])
    assert (good, last) == (b"OK", b"x")
    assert isinstance(bad, ReplyError)
    await store.close()
