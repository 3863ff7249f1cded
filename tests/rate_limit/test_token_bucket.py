"""The bucket itself: in Redis and locally, with the same arithmetic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from server.access.principal import Principal, Role
from server.access.rate_policy import TIERS, failed_authentication_bucket, request_buckets
from server.http.client_address import normal_address
from server.rate_limit import token_bucket
from server.rate_limit.headers import rate_limit_headers
from server.rate_limit.token_bucket import Bucket, BucketState, LocalBuckets, TokenBuckets, Verdict
from server.storage.redis_line import Command
from server.storage.redis_store import RedisStore


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore(redis_url, timeout=2.0)
    yield made
    await made.close()


@pytest.fixture
def buckets(store: RedisStore) -> TokenBuckets:
    return TokenBuckets(store, instances=1)


def redis_of(store: RedisStore) -> Redis:
    assert store.redis is not None
    return store.redis


async def test_burst_then_refusal_then_refill_at_the_rate(buckets: TokenBuckets) -> None:
    bucket = Bucket("someone", per_minute=600, capacity=5)
    verdicts = [(await buckets.judge([bucket]))[0] for _ in range(6)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert verdicts[-1].states[0].retry_after == 1
    await asyncio.sleep(0.25)  # 10 a second: two more
    assert [(await buckets.judge([bucket]))[0].allowed for _ in range(2)] == [True, True]


async def test_refused_request_takes_nothing_from_any_of_its_buckets(buckets: TokenBuckets) -> None:
    wide, narrow = Bucket("wide", per_minute=1, capacity=10), Bucket("narrow", per_minute=1, capacity=1)
    assert (await buckets.judge([wide, narrow]))[0].allowed
    for _ in range(3):
        verdict, _ = await buckets.judge([wide, narrow])
        assert not verdict.allowed
        assert verdict.tightest.bucket.identifier == "narrow"
    assert (await buckets.judge([wide], take=False))[0].states[0].remaining == 9


async def test_looking_takes_nothing(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("looked at", per_minute=1, capacity=1)
    for _ in range(3):
        assert (await buckets.judge([bucket], take=False))[0].allowed
    assert await redis_of(store).exists(bucket.key) == 0


async def test_lookup_comes_back_in_the_same_round_trip(buckets: TokenBuckets, store: RedisStore) -> None:
    await redis_of(store).set("answer", b"\x00bytes")
    bucket = Bucket("reader", per_minute=60, capacity=1)
    verdict, values = await buckets.judge([bucket], lookup=["answer", "missing", "answer"])
    assert verdict.allowed
    assert values == [b"\x00bytes", None, b"\x00bytes"]
    verdict, values = await buckets.judge([bucket], lookup=["answer"])
    assert not verdict.allowed, "the limit counts whatever is remembered"


async def test_the_right_to_compute_comes_with_a_lookup_that_finds_nothing(
    buckets: TokenBuckets, store: RedisStore
) -> None:
    redis, bucket = redis_of(store), Bucket("computes", per_minute=60, capacity=3)
    await redis.set("answer", "there")
    lock = ("lock", 3000)
    assert (await buckets.judge([bucket], lookup=["answer", "x"], lock=lock))[1] == [b"there", None, None]
    assert not await redis.exists("lock"), "nothing is to be computed"
    assert (await buckets.judge([bucket], lookup=["missing", "answer"], lock=lock))[1] == [None, b"there", b"1"]
    assert 2000 < await redis.pttl("lock") <= 3000
    assert (await buckets.judge([bucket], lookup=["missing"], lock=lock))[1] == [None, None], "it is held"
    await redis.delete("lock")
    verdict, values = await buckets.judge([bucket], lookup=["missing"], lock=lock)
    assert (verdict.allowed, values) == (False, [None, None])
    assert not await redis.exists("lock"), "who is refused computes nothing"


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands went out each time that Redis was asked."""
    sizes: list[int] = []
    ask = RedisStore.ask

    async def counted(store: RedisStore, *commands: Command) -> list[Any]:
        sizes.append(len(commands))
        return await ask(store, *commands)

    monkeypatch.setattr(RedisStore, "ask", counted)
    return sizes


async def test_requests_of_one_moment_that_ask_the_same_are_judged_by_one_call(
    buckets: TokenBuckets, round_trips: list[int]
) -> None:
    bucket = Bucket("panels", per_minute=1, capacity=20, cost=2)
    await buckets.judge([bucket], take=False)
    round_trips.clear()
    judged = await asyncio.gather(*(buckets.judge([bucket]) for _ in range(8)))
    assert round_trips == [1]
    assert [verdict.states[0].remaining for verdict, _ in judged] == [18, 16, 14, 12, 10, 8, 6, 4]
    assert (await buckets.judge([bucket], take=False))[0].states[0].remaining == 4
    others = await asyncio.gather(*(buckets.judge([bucket], lookup=[name]) for name in ("a", "b")))
    assert [verdict.states[0].remaining for verdict, _ in others] == [2, 0], "different questions are asked apart"


async def test_when_it_is_too_much_for_all_as_many_go_on_as_there_is_room_for(
    buckets: TokenBuckets, round_trips: list[int]
) -> None:
    bucket, other = Bucket("crowd", per_minute=1, capacity=11, cost=2), Bucket("wide", per_minute=1, capacity=100)
    looks = await asyncio.gather(*(buckets.judge([bucket], take=False) for _ in range(8)))
    assert all(verdict.allowed for verdict, _ in looks), "looking takes nothing, however many look"
    round_trips.clear()
    judged = await asyncio.gather(*(buckets.judge([bucket, other]) for _ in range(200)))
    assert [verdict.allowed for verdict, _ in judged] == [True] * 5 + [False] * 195
    assert round_trips == [1, 1, 1], "all, those who fit, the rest"
    assert judged[-1][0].states[0].retry_after == 60
    assert judged[-1][0].states[1].remaining == 95, "who is refused takes nothing from any bucket"


async def test_of_those_who_ask_together_one_gets_the_right_to_compute(
    buckets: TokenBuckets, store: RedisStore
) -> None:
    bucket = Bucket("together", per_minute=60, capacity=10)
    asked = [buckets.judge([bucket], lookup=["none"], lock=("lock", 3000)) for _ in range(4)]
    await asyncio.sleep(0)
    asked[0].cancel()  # the first goes away before the reply is there
    rest = await asyncio.gather(*asked[1:])
    assert [values for _, values in rest] == [[None, b"1"], [None, None], [None, None]]


async def test_key_lives_as_long_as_the_bucket_takes_to_fill(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("short", per_minute=600, capacity=100)
    await buckets.judge([bucket])
    assert 1000 <= await redis_of(store).pttl(bucket.key) <= 1200
    await buckets.judge([Bucket("short", per_minute=600, capacity=100, cost=99)])
    assert 10_500 <= await redis_of(store).pttl(bucket.key) <= 11_100


@pytest.mark.parametrize(
    "value", [b"", b"nan:1", b"inf:0", b"-5.0:1", b"1e9:1", b"5:x", b"\xff\xfe", b"99999.0:0", b"3.0:"]
)
async def test_corrupt_value_is_a_full_bucket_and_heals(buckets: TokenBuckets, store: RedisStore, value: bytes) -> None:
    bucket = Bucket("corrupt", per_minute=60, capacity=3)
    await redis_of(store).set(bucket.key, value)
    verdict, _ = await buckets.judge([bucket])
    assert not verdict.is_degraded
    assert verdict.states[0].remaining == 2


async def test_value_of_another_type_is_a_full_bucket_and_heals(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("foreign", per_minute=60, capacity=3)
    await redis_of(store).rpush(bucket.key, "x")
    for remaining in (2, 1):
        verdict, _ = await buckets.judge([bucket])
        assert (verdict.is_degraded, verdict.states[0].remaining) == (False, remaining)


async def test_clock_that_was_set_back_takes_no_tokens_away(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("traveller", per_minute=60, capacity=10)
    await redis_of(store).set(bucket.key, f"4.000000:{int(time.time() * 1000) + 3_600_000}")
    assert (await buckets.judge([bucket]))[0].states[0].remaining == 3
    await asyncio.sleep(1.1)
    assert (await buckets.judge([bucket]))[0].states[0].remaining == 3, "and refills from now on"


async def test_times_keep_their_milliseconds_and_tokens_their_fractions(
    buckets: TokenBuckets, store: RedisStore
) -> None:
    bucket = Bucket("precise", per_minute=100_000, capacity=120_000)
    before = int(time.time() * 1000)
    await buckets.judge([bucket])
    kept = await redis_of(store).get(bucket.key)
    assert isinstance(kept, bytes)
    tokens, since = kept.split(b":")
    assert before - 5 <= int(since) <= before + 2000
    assert len(tokens.split(b".")[1]) == 6


async def test_script_is_loaded_again_after_the_server_forgot_it(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("flushed", per_minute=60, capacity=9)
    await buckets.judge([bucket])
    await redis_of(store).script_flush()
    verdict, _ = await buckets.judge([bucket])
    assert (verdict.is_degraded, verdict.states[0].remaining) == (False, 7)


async def test_flushed_redis_gives_one_extra_burst_at_most(buckets: TokenBuckets, store: RedisStore) -> None:
    bucket = Bucket("burst", per_minute=1, capacity=5)
    first = sum([(await buckets.judge([bucket]))[0].allowed for _ in range(10)])
    await redis_of(store).flushdb()
    second = sum([(await buckets.judge([bucket]))[0].allowed for _ in range(10)])
    assert (first, second) == (5, 5)


async def test_ten_parallel_clients_of_two_processes_never_get_more_than_capacity_plus_rate(redis_url: str) -> None:
    stores = [RedisStore(redis_url, timeout=2.0) for _ in range(2)]
    processes = [TokenBuckets(store, instances=2) for store in stores]
    bucket = Bucket("shared", per_minute=1200, capacity=40)
    started = time.monotonic()

    async def client(number: int) -> int:
        return sum([(await processes[number % 2].judge([bucket]))[0].allowed for _ in range(30)])

    granted = sum(await asyncio.gather(*(client(number) for number in range(10))))
    elapsed = time.monotonic() - started
    assert 40 <= granted <= 40 + 20 * elapsed + 1
    for store in stores:
        await store.close()


async def test_lost_redis_gives_local_shares_at_once() -> None:
    lost = TokenBuckets(RedisStore("redis://127.0.0.1:1/0", timeout=0.2), instances=4)
    bucket = Bucket("lonely", per_minute=60, capacity=40)
    started = time.monotonic()
    verdicts = [(await lost.judge([bucket], lookup=["x"])) for _ in range(20)]
    assert time.monotonic() - started < 2  # not 20 time-outs
    assert sum(verdict.allowed for verdict, _ in verdicts) == 10, "a quarter of the capacity"
    assert all(verdict.is_degraded and values is None for verdict, values in verdicts)
    assert lost.degraded_count == 20
    assert rate_limit_headers(verdicts[-1][0])["X-RateLimit-Policy"] == "degraded"


async def test_guards_of_secrets_are_stricter_without_redis() -> None:
    local = LocalBuckets(1)
    guard = Bucket("guard", per_minute=100, capacity=100, degraded_share=0.25)
    assert sum(local.judge([guard], take=True).allowed for _ in range(100)) == 25


def test_share_too_small_for_one_request_still_lets_it_through() -> None:
    local = LocalBuckets(1000)
    assert local.judge([Bucket("dear", per_minute=60, capacity=72, cost=50)], take=True).allowed


def test_a_million_callers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_bucket, "MAX_LOCAL_BUCKETS", 100)
    local = LocalBuckets(1)
    for number in range(1000):
        local.judge([Bucket(f"caller {number}", per_minute=60, capacity=2)], take=True)
    assert len(local._levels) == 100
    assert local.judge([Bucket("caller 999", per_minute=60, capacity=2)], take=True).states[0].remaining == 0


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    per_minute=st.floats(1, 1e6), burst=st.floats(1, 2), cost=st.integers(1, 50), share=st.floats(0, 1),
    allowed=st.booleans(),
)  # fmt: skip
def test_headers_are_whole_numbers_that_agree(
    per_minute: float, burst: float, cost: int, share: float, allowed: bool
) -> None:
    bucket = Bucket("x", per_minute, max(per_minute * burst, cost), cost)
    now = time.time()
    state = BucketState(bucket, bucket.capacity * share, now)
    headers = rate_limit_headers(Verdict(allowed, (state,)))
    assert int(headers["X-RateLimit-Limit"]) >= 1
    assert 0 <= int(headers["X-RateLimit-Remaining"]) <= bucket.capacity
    assert int(headers["X-RateLimit-Reset"]) >= now
    assert headers["RateLimit"] == f'"default";r={state.remaining};t={state.full_after}'
    assert ("Retry-After" in headers) is not allowed
    if not allowed:
        waited = state.tokens + int(headers["Retry-After"]) * per_minute / 60
        assert waited >= cost - 1e-6, "honouring Retry-After must be enough"


def test_tiers_are_those_of_the_seed() -> None:
    assert {role: (tier.per_minute, tier.burst) for role, tier in TIERS.items()} == {
        Role.ADMIN: (100_000, 120_000),
        Role.DEVELOPER: (10_000, 12_000),
        Role.VIEWER: (1_000, 1_200),
        Role.BILLING: (1_000, 1_200),
    }


def test_tokens_and_keys_of_one_subject_share_a_budget_and_routes_do_not() -> None:
    def key(route: str = "api/v1/traces", **changes: object) -> str:
        fields: dict[str, object] = {"subject": "ann", "role": Role.VIEWER, "scopes": frozenset(),
                                     "projects": frozenset({"alpha"}), **changes}  # fmt: skip
        return request_buckets(Principal(**fields), route, 1)[0].key  # type: ignore[arg-type]

    assert key(credential_id="token-1") == key(credential_id="key-1", kind="api_key")
    assert key() != key(subject="bob")
    assert key() != key(route="api/v1/metrics")
    assert key(account="key:k", rate_limit_per_minute=5) != key()


def test_project_ceiling_is_a_second_bucket_for_principals_of_one_project() -> None:
    one = Principal("ann", Role.VIEWER, frozenset(), frozenset({"alpha"}))
    two = Principal("bob", Role.ADMIN, frozenset(), frozenset({"alpha"}))
    every = Principal("root", Role.ADMIN, frozenset(), frozenset({"*"}))
    ceilings = [request_buckets(who, "r", 1, project_ceiling=100)[1].key for who in (one, two)]
    assert ceilings[0] == ceilings[1]
    assert len(request_buckets(every, "r", 1, project_ceiling=100)) == 1
    assert len(request_buckets(one, "r", 1)) == 1


def test_addresses_are_normal_and_a_network_of_ipv6_is_one_caller() -> None:
    for text, address in {
        "192.0.2.1": "192.0.2.1", " 192.0.2.1 ": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
        "[2001:DB8:0:0::1]": "2001:db8::1", "fe80::1%eth0": "fe80::1", "": "", "unknown": "", "192.0.2.1:80": "",
        "192.0.2.01": "", "\udcff": "", "a\nb": "", "_hidden": "", "1" * 5000: "",
    }.items():  # fmt: skip
        assert normal_address(text) == address, text
    one = failed_authentication_bucket("2001:db8:1:2::1", 60)
    assert one.key == failed_authentication_bucket("2001:db8:1:2:ffff::9", 60).key
    assert one.key != failed_authentication_bucket("2001:db8:1:3::1", 60).key
    assert failed_authentication_bucket("192.0.2.1", 60).key != failed_authentication_bucket("192.0.2.2", 60).key


def test_anonymous_callers_are_counted_by_address() -> None:
    def key(address: str) -> str:
        who = Principal("anonymous", Role.VIEWER, frozenset(), frozenset({"demo"}), "anonymous", address)
        return request_buckets(who, "r", 1)[0].key

    assert key("192.0.2.1") != key("192.0.2.2")
    assert key("2001:db8::1") == key("2001:db8::2")
