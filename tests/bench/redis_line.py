"""Processor time of one command to Redis over our line, over redis-py and over coredis: ``make bench-redis_line``.

Tasks run the script of the limits at once, each one call after another, as requests do: 1, 8 and 64 of them, over a
unix socket to a Valkey of this run. Only processor time of this process counts, in interleaved rounds; the ratio is
that of a library to our line, so 2 means twice as expensive. coredis is tried where it is installed
(``pip install -r tests/bench/requirements.txt``).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from server.embedded import EmbeddedServices
from server.storage.redis_store import RedisStore

SCRIPT: Final = "return {ARGV[1], redis.call('INCRBY', KEYS[1], 1)}"
TASKS: Final = (1, 8, 64)
CALLS: Final = 1500
"""Of all tasks together, in a round."""

Call = Callable[[str], Awaitable[Any]]


@asynccontextmanager
async def our_line(url: str) -> AsyncIterator[Call]:
    """Open one connection for all, with numbered replies and a time-out."""
    store = RedisStore(url, timeout=5)
    sha = (await store.ask(("SCRIPT", "LOAD", SCRIPT)))[0]
    yield lambda key: store.ask(("EVALSHA", sha, 1, key, b"00000001"))
    await store.close()


@asynccontextmanager
async def redis_py(url: str) -> AsyncIterator[Call]:
    """Open a pool with a connection for each caller and a time-out for each command."""
    from redis.asyncio import BlockingConnectionPool, Redis

    async with Redis(
        connection_pool=BlockingConnectionPool.from_url(url, max_connections=64, timeout=20, socket_timeout=5)
    ) as client:
        sha = await client.script_load(SCRIPT)
        yield lambda key: client.evalsha(sha, 1, key, b"00000001")


@asynccontextmanager
async def coredis(url: str) -> AsyncIterator[Call]:
    """Open coredis' pool, whose connections carry several commands at once."""
    from coredis import Redis  # type: ignore[import-not-found]  # the benchmark installs it, the tests do not

    async with Redis.from_url(url, stream_timeout=5) as client:
        sha = await client.script_load(SCRIPT)
        yield lambda key: client.evalsha(sha, keys=[key], args=[b"00000001"])


WAYS: Final = {"our line": our_line, "redis-py": redis_py, "coredis": coredis}


async def spent(call: Call, tasks: int) -> float:
    """Return the seconds of processor time of one call while ``tasks`` are under way."""

    async def one(number: int) -> None:
        for _ in range(CALLS // tasks):
            await call(f"bench:{number}")

    begun = time.process_time()
    await asyncio.gather(*map(one, range(tasks)))
    return (time.process_time() - begun) / (CALLS // tasks * tasks)


async def measure(url: str, rounds: int) -> None:
    """Print microseconds of each way, and how many times those of our line they are."""
    async with AsyncExitStack() as stack:
        ways = {
            name: await stack.enter_async_context(way(url))
            for name, way in WAYS.items()
            if name != "coredis" or find_spec("coredis")
        }
        for tasks in TASKS:
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, call in ways.items():
                    taken[name].append(await spent(call, tasks))
            ours = statistics.median(taken["our line"])
            for name, values in taken.items():
                middle = statistics.median(values)
                print(f"{tasks:3} at once, {name:9}: {middle * 1e6:6.1f} µs a call, {middle / ours:5.2f} ×")


def main() -> None:
    """Measure on a Valkey of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="obs-") as folder:
        services = EmbeddedServices(Path(folder) / "data")
        try:
            urls = services.start()
            import uvloop

            uvloop.run(measure(urls.redis_url, options.rounds))
        finally:
            services.stop()


if __name__ == "__main__":
    main()
