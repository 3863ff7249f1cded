"""Remembered answers: ``make bench-queries-cached`` (ARGS="--spans 100000 --seconds 5").

Each address is asked again and again by one client and by eight, so that all but the first answer come from Redis;
beside them a bare Sanic route that returns the bytes of the list (also in bursts that take turns, with the processor
time of both), the facets as they are computed (each request with another range), a stampede on a cold answer, and how
many commands Redis is asked for one remembered list.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.load import PROJECT
from tests.bench.queries import BareRoute, bare_route, prepare, put
from tests.process.program import Program

DAY_MS = 86_400_000
BURST_SECONDS = 0.25


class Addresses:
    """Addresses to ask for, over a range that ends with the loaded spans."""

    def __init__(self, end: datetime) -> None:
        self.to = int(end.timestamp() * 1000)
        self._shift = itertools.count()

    def remembered(self) -> dict[str, str]:
        """Return addresses that stay the same."""
        window = f"from={self.to - DAY_MS}&to={self.to}"
        return {
            "list of 50": f"/api/v1/traces?{window}",
            "one trace": f"/api/v1/traces/{1:032x}",
            "sessions": f"/api/v1/sessions?{window}",
            "facet model": f"/api/v1/facets/model?{window}",
        }

    def computed(self) -> dict[str, Callable[[], str]]:
        """Return addresses that are new each time."""

        def moving(path: str, days: int) -> Callable[[], str]:
            def address() -> str:
                to = self.to - next(self._shift)
                return f"{path}from={to - days * DAY_MS}&to={to}"

            return address

        return {
            "facet model, 30 days, rollups": moving("/api/v1/facets/model?", 30),
            "facet user_id, 30 days, rows": moving("/api/v1/facets/user_id?", 30),
            "facet attribute_keys, 30 days, rows": moving("/api/v1/facets/attribute_keys?", 30),
            "sessions, 30 days": moving("/api/v1/sessions?", 30),
        }


async def measure(urls: EmbeddedUrls, base_url: str, worker: int, end: datetime, seconds: float) -> None:
    """Measure all rows of the table. ``worker`` is the process id of the server process."""
    token = issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.ADMIN, projects=[PROJECT])
    headers = {"Authorization": f"Bearer {token}"}
    addresses = Addresses(end)
    print("\n| answer | 1 client p50 | 8 clients p50 | requests/s |\n|---|---|---|---|")

    async def row(name: str, path: Callable[[], str], **more: str) -> float:
        sent = {**headers, **more}
        await put(base_url, sent, path, 1, 0.3)
        alone, _ = await put(base_url, sent, path, 1, seconds)
        eight, rate = await put(base_url, sent, path, 8, seconds)
        one, many = (statistics.median(times) * 1000 for times in (alone, eight))
        print(f"| {name} | {one:.2f} ms | {many:.2f} ms | {rate:,.0f} |")
        return rate

    rates = {
        name: await row(f"{name}, remembered", functools.partial(str, path))
        for name, path in addresses.remembered().items()
    }
    for name, path in addresses.computed().items():
        await row(name, path)
    listed = addresses.remembered()["list of 50"]
    async with LoadConnection(base_url, headers) as connection:
        _, body = await connection.get(listed)
    async with bare_route(body) as bare:
        times, bare_rate = await put(bare.url, headers, lambda: "/x", 8, seconds)
        print(
            f"| bare Sanic route, bytes of the list | | {statistics.median(times) * 1000:.2f} ms | {bare_rate:,.0f} |"
        )
        print(f"\nremembered list / bare route: {rates['list of 50'] / bare_rate:.2f}")
        valkey = int((await redis_info(urls, "server"))["process_id"])
        await in_turns(base_url, headers, listed, bare, {"server": worker, "Valkey": valkey}, seconds)
    print(f"Redis commands for one remembered list: {await redis_commands(urls, base_url, headers, listed):.2f}")
    print(f"stampede of 200 on a cold list, all answered after: {await stampede(base_url, headers, addresses):.0f} ms")


async def in_turns(
    base_url: str, headers: dict[str, str], path: str, bare: BareRoute, processes: dict[str, int], seconds: float
) -> None:
    """Short bursts of 8 clients to the remembered list and to the bare route in turns, so that both meet the same
    machine; prints what a request costs in processor time, as the scheduler counts it, and how the rates compare."""

    async def burst(url: str, address: str, pids: Iterable[int]) -> tuple[float, list[float]]:
        before = [processor_time(pid) for pid in pids]
        times, rate = await put(url, headers, lambda: address, 8, BURST_SECONDS)
        return rate, [(processor_time(pid) - start) / len(times) for pid, start in zip(pids, before, strict=True)]

    rates: list[float] = []
    costs: dict[str, list[float]] = {name: [] for name in [*processes, "bare route"]}
    ratios: list[float] = []
    for _ in range(max(5, int(seconds / BURST_SECONDS))):
        rate, used = await burst(base_url, path, processes.values())
        bare_rate, (bare_cost,) = await burst(bare.url, "/x", [bare.pid])
        rates.append(rate / bare_rate)
        ratios.append(used[0] / bare_cost)
        for name, cost in zip(costs, [*used, bare_cost], strict=True):
            costs[name].append(cost)
    print(f"in bursts that take turns ({len(rates)} pairs, load average {os.getloadavg()[0]:.1f}):")
    print(f"- rate / bare route, median of pairs: {statistics.median(rates):.2f}")
    shown = ", ".join(f"{name} {statistics.median(values) * 1e6:.0f} µs" for name, values in costs.items())
    print(f"- processor time of a request: {shown}; server / bare route, median: {statistics.median(ratios):.2f}")


def processor_time(pid: int) -> float:
    """Return the seconds that the main thread of a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def redis_info(urls: EmbeddedUrls, section: str) -> dict[str, Any]:
    """Return a section of the INFO of Redis."""
    redis = Redis.from_url(urls.redis_url)
    try:
        info: dict[str, Any] = await redis.info(section)
    finally:
        await redis.aclose()
    return info


async def redis_commands(urls: EmbeddedUrls, base_url: str, headers: dict[str, str], path: str) -> float:
    """Return the number of commands that clients send to Redis for one request, averaged over 200."""

    async def calls() -> int:
        stats = await redis_info(urls, "commandstats")
        # Redis also counts the commands inside a script; only those that came over the wire are wanted.
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "get", "setex"))

    async with LoadConnection(base_url, headers) as connection:
        await connection.get(path)
        before = await calls()
        for _ in range(200):
            await connection.get(path)
    return (await calls() - before) / 200


async def stampede(base_url: str, headers: dict[str, str], addresses: Addresses) -> float:
    """Return the milliseconds until 200 simultaneous requests for an answer that is not cached yet are all answered."""
    path = f"/api/v1/traces?from={addresses.to - 20 * DAY_MS}&to={addresses.to - 1}&sort_by=cost"

    async def one() -> None:
        async with LoadConnection(base_url, headers) as connection:
            # Beyond the limit of requests at work at the same time the answer is 429, which is quick, too.
            await connection.get(path)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(200)))
    return (time.perf_counter() - begun) * 1000


def main(arguments: Any) -> None:
    """Start private services and the program, measure, print."""
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedServices(folder / "data", postgres_settings={"shared_buffers": "512MB"}) as urls:
            end, _ = asyncio.run(prepare(urls, arguments.spans))
            environment = {
                "DATABASE_URL": urls.database_url,
                "DATABASE_OWNER_URL": urls.owner_url,
                "DATABASE_WORKER_URL": urls.worker_url,
                "REDIS_URL": urls.redis_url,
                "JWT_SECRET": urls.jwt_secret,
                "OBSERVATORY_PORT": "0",
            }
            with Program(folder, ["serve", "--workers", "1"], environment) as program:
                base_url = program.wait_until_serving()
                asyncio.run(measure(urls, base_url, program.worker_pids()[0], end, arguments.seconds))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of measuring for each row and number of clients")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
