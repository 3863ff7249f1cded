"""Limits, cache and tokens in a Valkey Cluster and behind a Sentinel, before and after the loss of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from redis.crc import key_slot

from server.cache.freshness import Freshness, Touched
from server.cache.result_cache import Answer, CacheQuestion, ResultCache
from server.live.wake_ups import WakeUps
from server.rate_limit.token_bucket import Bucket, TokenBuckets
from server.settings import SettingsError, load_settings
from server.storage.redis_address import CLUSTER_TAG
from server.storage.redis_store import RedisStore, RedisUnavailable
from server.storage.row_scope import RowScope
from tests.storage.valkeys import Valkeys, ask, until

PROJECTS = ("alpha", "beta", "gamma")
SLOTS = 16384


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


async def a_minute_of_use(store: RedisStore) -> None:
    """Use a limit, a cached answer about three projects, and a commit that makes it stale: each over several keys."""
    buckets = TokenBuckets(store, instances=1)
    limits = [Bucket(f"caller {number}", 600, 100) for number in range(3)]
    verdict, _ = await buckets.judge(limits)
    assert verdict.allowed
    assert not verdict.is_degraded
    cache, freshness = ResultCache(store, orjson.dumps), Freshness(store)
    question = CacheQuestion("lists", RowScope(PROJECTS), {"limit": 50})
    hits = [(await cache.answer(question, compute)).is_hit for _ in range(2)]
    await freshness.touched({"beta": Touched(datetime.now(UTC), datetime.now(UTC), frozenset({"t1"}))})
    await freshness.close()
    hits.append((await cache.answer(question, compute)).is_hit)
    assert hits[1:] == [True, False]


async def compute() -> Answer:
    return Answer({"rows": 3})


async def until_used(store: RedisStore) -> None:
    """Wait until Redis answers again."""
    async with asyncio.timeout(60):
        while True:
            try:
                (reply,) = await store.ask(["SET", "again", b"1"])
            except RedisUnavailable:
                reply = None
            if reply == b"OK":
                return
            await asyncio.sleep(0.05)


def cluster(valkeys: Valkeys) -> tuple[list[int], int]:
    """Form a cluster of three nodes: two own the slots, and the third is a replica of the owner of ours, whose place
    comes second.
    """
    ports = [valkeys.start("--cluster-enabled", "yes", "--cluster-node-timeout", "15000") for _ in range(3)]
    ours = key_slot(CLUSTER_TAG.encode()) * 2 // SLOTS
    for number, port in enumerate(ports[:2]):
        ask(port, "CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 2, (number + 1) * SLOTS // 2 - 1)
    for number, port in enumerate(ports):
        ask(port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", port)
    owner = ask(ports[ours], "CLUSTER", "MYID").decode()
    until(lambda: ask(ports[2], "CLUSTER", "REPLICATE", owner))
    until(lambda: all(b"cluster_state:ok" in (ask(port, "CLUSTER", "INFO") or b"") for port in ports))
    until(lambda: (ask(ports[2], "INFO", "replication") or {}).get("master_link_status") == "up")
    return ports, ours


async def test_a_cluster_serves_all_keys_of_a_call_and_survives_its_owner() -> None:
    with Valkeys() as valkeys:
        ports, ours = await in_thread(lambda: cluster(valkeys))
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        store = RedisStore(url, timeout=10.0)
        try:
            await a_minute_of_use(store)
            heard = asyncio.Event()
            wake_ups = WakeUps(url, store, timeout=10.0, heard=lambda projects: heard.set())
            wake_ups.start()
            async with asyncio.timeout(60):
                while not heard.is_set():  # the message reaches listeners at any node
                    wake_ups.tell(PROJECTS)
                    await asyncio.sleep(0.02)
            await wake_ups.stop()
            valkeys.kill(ports[ours])
            await in_thread(lambda: until(lambda: ask(ports[2], "CLUSTER", "FAILOVER", "TAKEOVER")))
            await until_used(store)
            await a_minute_of_use(store)
        finally:
            await store.close()


async def test_a_slot_that_moves_is_found_again() -> None:
    with Valkeys() as valkeys:
        ports, ours = await in_thread(lambda: cluster(valkeys))
        store = RedisStore(f"redis+cluster://127.0.0.1:{ports[0]}", timeout=10.0)
        try:
            await a_minute_of_use(store)
            other = ask(ports[1 - ours], "CLUSTER", "MYID").decode()
            slot = key_slot(CLUSTER_TAG.encode())
            ask(ports[ours], "FLUSHALL")
            source, target = ports[ours], ports[1 - ours]
            assert ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(source, "CLUSTER", "MYID").decode())
            assert ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", other)
            for port in (target, source):
                assert ask(port, "CLUSTER", "SETSLOT", slot, "NODE", other)
            await until_used(store)
            await a_minute_of_use(store)
        finally:
            await store.close()


async def test_the_master_that_sentinels_name_is_used_and_its_successor_after_it() -> None:
    with Valkeys() as valkeys:

        def replicated() -> tuple[int, int]:
            master = valkeys.start()
            replica = valkeys.start("--replicaof", "127.0.0.1", str(master), "--repl-diskless-sync-delay", "0")
            sentinel = valkeys.start(
                "--sentinel",
                config=f"port PORT\nsentinel monitor main 127.0.0.1 {master} 1\n"
                "sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 5000\n",
            )
            until(lambda: (ask(replica, "INFO", "replication") or {}).get("master_link_status") == "up")
            until(lambda: ask(sentinel, "SENTINEL", "REPLICAS", "main"))
            return master, sentinel

        master, sentinel = await in_thread(replicated)
        store = RedisStore(f"redis+sentinel://127.0.0.1:{sentinel}/main", timeout=10.0)
        try:
            await a_minute_of_use(store)
            valkeys.kill(master)
            await until_used(store)
            await a_minute_of_use(store)
        finally:
            await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1:26379/main/x",
        "redis+cluster://",
        "redis+cluster://one,,two",
        "redis+cluster://one:port",
        "http://one",
    ],
)
def test_an_address_that_names_no_server_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: expected"):
        load_settings({"REDIS_URL": url})


async def test_a_server_that_lost_the_newest_tokens_hands_out_no_older_answer() -> None:
    """As after a failover to a replica that was behind, or a start from yesterday's disk: what was made stale before,
    a deletion perhaps, is not there again."""
    with Valkeys() as valkeys:
        master = await in_thread(valkeys.start)
        replica = await in_thread(lambda: valkeys.start("--replicaof", "127.0.0.1", str(master)))
        before, after = (RedisStore(f"redis://127.0.0.1:{port}/0", timeout=5.0) for port in (master, replica))
        question, calls = CacheQuestion("lists", RowScope(PROJECTS), {"q": 1}), 0

        async def compute() -> Answer:
            nonlocal calls
            calls += 1
            return Answer({"call": calls})

        cache, freshness = ResultCache(before, orjson.dumps), Freshness(before)
        await cache.answer(question, compute)
        assert (await cache.answer(question, compute)).is_hit
        await in_thread(lambda: until(lambda: ask(replica, "EXISTS", question.key)))
        assert ask(replica, "REPLICAOF", "NO", "ONE")
        now = datetime.now(UTC)
        await freshness.deleted("alpha", Touched(now, now, frozenset()))
        assert not (await cache.answer(question, compute)).is_hit
        assert not (await ResultCache(after, orjson.dumps).answer(question, compute)).is_hit
        for store in (before, after):
            await store.close()
