"""The result cache: groups C and P of the reliability cases, on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from server.cache.freshness import Freshness, Touched
from server.cache.result_cache import Answer, CacheQuestion, ResultCache
from server.errors import QueryTimeout
from server.storage.redis_store import RedisStore
from server.storage.row_scope import RowScope

ALPHA = RowScope(("alpha",))


def question(
    scope: RowScope = ALPHA, *, hours_ago: float | None = None, trace_id: str | None = None, **document: Any
) -> CacheQuestion:
    end = None if hours_ago is None else datetime.now(UTC) - timedelta(hours=hours_ago)
    return CacheQuestion("traces", scope, {**document, "to": hours_ago}, window_end=end, trace_id=trace_id)


class Counter:
    """A reader that counts how often it is asked."""

    def __init__(self, *, delay: float = 0.0, fails: bool = False, complete: bool = True, size: int = 0) -> None:
        self.calls = 0
        self.delay, self.fails, self.complete, self.size = delay, fails, complete, size

    async def __call__(self) -> Answer:
        self.calls += 1
        await asyncio.sleep(self.delay)
        if self.fails:
            raise QueryTimeout
        data = {"call": self.calls, "filler": "x" * self.size}
        return Answer(data, {"cursor": None, "has_more": False, "limit": 50}, {"exact": True}, self.complete)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    opened = RedisStore(redis_url, timeout=1.0)
    yield opened
    await opened.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def cache(store: RedisStore) -> ResultCache:
    return ResultCache(store, orjson.dumps)


def touched(ago: timedelta = timedelta(0), *trace_ids: str) -> dict[str, Touched]:
    moment = datetime.now(UTC) - ago
    return {"alpha": Touched(moment, moment, frozenset(trace_ids))}


async def test_the_second_answer_is_the_first_one_and_says_so(cache: ResultCache) -> None:
    reader = Counter()
    first = await cache.answer(question(model="m"), reader)
    second = await cache.answer(question(model="m"), reader)
    assert (first.is_hit, second.is_hit, reader.calls) == (False, True, 1)
    assert (second.data, second.pagination, second.meta) == (first.data, first.pagination, first.meta)
    assert second.fingerprint == first.fingerprint
    assert second.age_seconds >= 0


async def test_answers_never_cross_scopes_or_questions(cache: ResultCache) -> None:
    reader = Counter()
    different = [
        question(model="m"),
        question(model="n"),
        question(RowScope(("beta",)), model="m"),
        question(RowScope(("alpha", "beta")), model="m"),
        question(RowScope(("alpha",), may_read_content=False), model="m"),
    ]
    for asked in different:
        assert not (await cache.answer(asked, reader)).is_hit
    assert reader.calls == len(different)


def test_the_order_of_keys_does_not_make_another_question() -> None:
    assert question(a=1, b=[2]).key == question(b=[2], a=1).key


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"hours_ago": None}, 60),
        ({"hours_ago": 0.9}, 60),
        ({"hours_ago": 1.1}, 300),
        ({"trace_id": "t"}, 300),
    ],
)
async def test_ttl_follows_freshness(cache: ResultCache, redis: Redis, asked: dict[str, Any], seconds: int) -> None:
    asked_now = question(**asked)  # made now: a window of 54 minutes ago is closed six minutes later
    await cache.answer(asked_now, Counter())
    assert 0 < await redis.ttl(asked_now.key) <= seconds
    assert await redis.ttl(asked_now.key) > seconds - 5


async def test_only_complete_answers_are_stored(cache: ResultCache, redis: Redis) -> None:
    failing = Counter(fails=True)
    for _ in range(2):
        with pytest.raises(QueryTimeout):
            await cache.answer(question(), failing)
    assert failing.calls == 2
    partial = Counter(complete=False)
    for _ in range(2):
        assert not (await cache.answer(question(), partial)).is_hit
    assert await redis.keys("obs:answer:*") == []


async def test_an_answer_above_the_size_limit_is_given_but_not_stored(store: RedisStore, redis: Redis) -> None:
    small = ResultCache(store, orjson.dumps, max_bytes=1000)
    assert len((await small.answer(question(), Counter(size=2000))).data) > 2000
    assert await redis.keys("obs:answer:*") == []


async def test_identical_misses_share_one_query(cache: ResultCache) -> None:
    reader = Counter(delay=0.05)
    answers = await asyncio.gather(*(cache.answer(question(), reader) for _ in range(200)))
    assert reader.calls == 1
    assert len({answer.data for answer in answers}) == 1


async def test_other_processes_wait_for_the_one_that_asks(redis_url: str) -> None:
    stores = [RedisStore(redis_url, timeout=1.0) for _ in range(4)]
    reader = Counter(delay=0.1)
    caches = [ResultCache(store, orjson.dumps) for store in stores]
    await asyncio.gather(*(cache.answer(question(), reader) for cache in caches for _ in range(50)))
    for store in stores:
        await store.close()
    assert reader.calls <= 2


async def test_a_query_that_fails_lets_the_next_process_ask(redis_url: str) -> None:
    stores = [RedisStore(redis_url, timeout=1.0) for _ in range(2)]
    failing, working = Counter(delay=0.1, fails=True), Counter()
    first = asyncio.create_task(ResultCache(stores[0], orjson.dumps).answer(question(), failing))
    await asyncio.sleep(0.05)
    assert (await ResultCache(stores[1], orjson.dumps).answer(question(), working)).data
    with pytest.raises(QueryTimeout):
        await first
    for store in stores:
        await store.close()


async def test_the_query_outlives_the_caller_that_started_it(cache: ResultCache) -> None:
    reader = Counter(delay=0.1)
    first = asyncio.create_task(cache.answer(question(), reader))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(cache.answer(question(), reader))
    await asyncio.sleep(0)
    first.cancel()
    assert orjson.loads((await second).data)["call"] == 1
    assert reader.calls == 1


async def test_a_query_that_nobody_waits_for_any_more_ends(cache: ResultCache) -> None:
    reader, ended = Counter(delay=30), asyncio.Event()

    async def compute() -> Answer:
        try:
            return await reader()
        finally:
            ended.set()

    callers = [asyncio.create_task(cache.answer(question(), compute)) for _ in range(3)]
    await asyncio.sleep(0.05)
    for caller in callers:
        caller.cancel()
    async with asyncio.timeout(5):
        await ended.wait()
        reader.delay = 0
        assert orjson.loads((await cache.answer(question(), compute)).data)["call"] == 2  # and its lock is free


CORRUPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda value: b"",
    "truncated": lambda value: value[:-1],
    "one bit": lambda value: value[:-3] + bytes([value[-3] ^ 1]) + value[-2:],
    "other format": lambda value: b'{"data": []}',
    "pickle": lambda value: b"\x80\x04K\x01.",
    "checksum only": lambda value: b"00000000\n",
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
async def test_a_corrupted_value_is_a_miss_and_is_removed(cache: ResultCache, redis: Redis, kind: str) -> None:
    reader, asked = Counter(), question()
    await cache.answer(asked, reader)
    stored = await redis.get(asked.key)
    assert isinstance(stored, bytes)
    await redis.set(asked.key, CORRUPTIONS[kind](stored))
    assert not (await cache.answer(asked, reader)).is_hit
    assert reader.calls == 2
    assert (await cache.answer(asked, reader)).is_hit


async def test_a_value_of_another_redis_type_is_a_miss(cache: ResultCache, redis: Redis) -> None:
    asked = question()
    await redis.rpush(asked.key, "x")
    assert not (await cache.answer(asked, Counter())).is_hit
    assert (await cache.answer(asked, Counter())).is_hit


async def test_without_redis_answers_are_computed_and_still_shared() -> None:
    for store in (RedisStore("", timeout=0.2), RedisStore("redis://127.0.0.1:1/0", timeout=0.2)):
        cache, reader = ResultCache(store, orjson.dumps), Counter(delay=0.4)
        answers = await asyncio.gather(*(cache.answer(question(), reader) for _ in range(20)))
        assert reader.calls == 1
        assert not any(answer.is_hit for answer in answers)
        assert not (await cache.answer(question(), reader)).is_hit
        await store.close()


async def test_a_disabled_cache_asks_every_time(store: RedisStore) -> None:
    cache, reader = ResultCache(store, orjson.dumps, enabled=False), Counter()
    assert not (await cache.answer(question(), reader)).is_hit
    assert not (await cache.answer(question(), reader)).is_hit
    assert reader.calls == 2


Touch = Callable[[dict[str, Touched]], Awaitable[None]]


async def test_new_spans_make_live_answers_old_and_leave_closed_ones(cache: ResultCache, store: RedisStore) -> None:
    live, closed, other = question(), question(hours_ago=5), question(RowScope(("beta",)))
    reader = Counter()
    for asked in (live, closed, other):
        await cache.answer(asked, reader)
    await Freshness(store).touched(touched())
    assert not (await cache.answer(live, reader)).is_hit
    assert (await cache.answer(closed, reader)).is_hit
    assert (await cache.answer(other, reader)).is_hit


async def test_late_spans_make_closed_windows_old(cache: ResultCache, store: RedisStore) -> None:
    closed, reader = question(hours_ago=5), Counter()
    await cache.answer(closed, reader)
    await Freshness(store).touched(touched(timedelta(hours=6)))
    assert not (await cache.answer(closed, reader)).is_hit


async def test_a_span_makes_its_own_trace_old_and_no_other(cache: ResultCache, store: RedisStore) -> None:
    reader, mine, other = Counter(), question(trace_id="t1"), question(trace_id="t2")
    await cache.answer(mine, reader)
    await cache.answer(other, reader)
    await Freshness(store).touched(touched(timedelta(0), "t1"))
    assert not (await cache.answer(mine, reader)).is_hit
    assert (await cache.answer(other, reader)).is_hit


async def test_a_commit_of_very_many_traces_makes_all_of_the_project_old(
    cache: ResultCache, store: RedisStore, redis: Redis
) -> None:
    reader, mine = Counter(), question(trace_id="t1")
    await cache.answer(mine, reader)
    await Freshness(store).touched(touched(timedelta(0), *(f"n{number}" for number in range(2000))))
    assert not (await cache.answer(mine, reader)).is_hit
    assert len(await redis.keys("obs:fresh:*")) < 10


async def test_commits_in_quick_succession_are_told_together_within_a_second(
    cache: ResultCache, store: RedisStore
) -> None:
    freshness, reader = Freshness(store), Counter()
    await freshness.touched(touched())
    await cache.answer(question(), reader)
    for _ in range(20):
        await freshness.touched(touched())
    await asyncio.sleep(0.5)
    assert not (await cache.answer(question(), reader)).is_hit
    await freshness.close()


async def test_an_answer_read_before_a_commit_does_not_pass_for_one_read_after(
    cache: ResultCache, store: RedisStore
) -> None:
    """The commit lands while the query runs: what is stored then must not be given to later callers."""
    freshness = Freshness(store)

    async def slow() -> Answer:
        await freshness.touched(touched())
        return Answer({"old": True})

    await cache.answer(question(), slow)
    assert not (await cache.answer(question(), Counter())).is_hit


async def test_what_could_not_be_told_is_told_when_redis_is_back(redis_url: str, cache: ResultCache) -> None:
    reader = Counter()
    await cache.answer(question(), reader)
    away = RedisStore("redis://127.0.0.1:1/0", timeout=0.2)
    freshness = Freshness(away)
    await freshness.touched(touched())
    back = RedisStore(redis_url, timeout=1.0)
    away.redis, away._line = back.redis, back._line
    for _ in range(40):
        await asyncio.sleep(0.05)
        if not (await cache.answer(question(), reader)).is_hit:
            break
    assert reader.calls == 2
    await freshness.close()
    await back.close()
