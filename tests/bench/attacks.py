"""Twelve ways in which one tenant does its worst, for :mod:`tests.bench.fairness`.

Each runs in a process of its own, so that its work does not delay whoever measures, until it is ended.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import httpx
import orjson

from tests.bench.ingest import Payloads
from tests.ingest.otlp_payloads import JSON, PROTOBUF

PARALLEL: Final = 12
_ANNOUNCED_BYTES: Final = 8 << 20
_BURN_SECONDS: Final = 0.01
_ALL_TIME: Final = "from=now-30d"


class Attacker:
    """A tenant with a credential of its own."""

    def __init__(self, base_url: str, token: str) -> None:
        parts = urlsplit(base_url)
        self.base_url, self.host, self.port = base_url, parts.hostname or "127.0.0.1", parts.port or 80
        self.headers = {"Authorization": f"Bearer {token}"}

    async def again_and_again(self, ask: Callable[[httpx.AsyncClient], Awaitable[object]], parallel: int) -> None:
        """Repeat ``ask`` on as many connections, whatever becomes of it."""
        limits = httpx.Limits(max_connections=None)

        async def one() -> None:
            async with httpx.AsyncClient(
                base_url=self.base_url, headers=self.headers, timeout=60, limits=limits
            ) as client:
                while True:
                    with suppress(httpx.HTTPError):
                        await ask(client)

        await asyncio.gather(*(one() for _ in range(parallel)))

    async def sockets(self, head: bytes, drip: bytes, count: int) -> None:
        """Keep ``count`` connections open that send ``head`` and then ``drip`` once a second."""

        async def one() -> None:
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(self.host, self.port)
                    try:
                        writer.write(head)
                        while not writer.is_closing():
                            await asyncio.sleep(1)
                            writer.write(drip)
                            await writer.drain()
                    finally:
                        writer.close()
                await asyncio.sleep(0.1)

        await asyncio.gather(*(one() for _ in range(count)))

    def head(self, method: str, path: str, length: int | None = None) -> bytes:
        """Return the head of a request, up to its end if it has a ``length``."""
        credential = self.headers["Authorization"]
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Authorization: {credential}"]
        if length is None:
            return ("\r\n".join(lines) + "\r\nX-Long: ").encode()
        lines += [f"Content-Type: {JSON}", f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def searches(attacker: Attacker) -> None:
    """Search for words that no index helps with, each time another one."""
    numbers = itertools.count()
    await attacker.again_and_again(
        lambda client: client.get(f"/api/v1/traces?{_ALL_TIME}&contains=zz{next(numbers)}"), PARALLEL
    )


async def metrics(attacker: Attacker) -> None:
    """Ask for metrics by user, as fine and as wide as they are answered."""
    numbers = itertools.count()
    path = f"/api/v1/metrics?metric=cost&{_ALL_TIME}&interval=1h&max_points=11000&group_by=user&fill=zero&limit="
    await attacker.again_and_again(lambda client: client.get(f"{path}{10 + next(numbers) % 30}"), PARALLEL)


async def panels(attacker: Attacker) -> None:
    """Open dashboards of twenty targets by user."""
    numbers = itertools.count()

    def body() -> bytes:
        payload = {"metric": "cost", "group_by": "user", "limit": 10 + next(numbers) % 30}
        targets = [{"refId": f"A{place}", "target": "timeseries", "payload": payload} for place in range(20)]
        window = {"from": "now-30d", "to": "now"}
        return orjson.dumps({"range": {**window, "raw": window}, "maxDataPoints": 2000, "targets": targets})

    headers = {"Content-Type": JSON}
    await attacker.again_and_again(
        lambda client: client.post("/grafana/query", content=body(), headers=headers), PARALLEL // 2
    )


async def exports(attacker: Attacker) -> None:
    """Start exports of everything, and read them slowly."""

    async def ask(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", f"/api/v1/export/traces?{_ALL_TIME}&format=ndjson") as answer:
            async for _ in answer.aiter_bytes(1 << 16):
                await asyncio.sleep(0.2)

    await attacker.again_and_again(ask, PARALLEL)


async def heads(attacker: Attacker) -> None:
    """Send heads that never end."""
    await attacker.sockets(attacker.head("GET", "/api/v1/traces"), b"a", 200)


async def slow_bodies(attacker: Attacker) -> None:
    """Announce bodies, and hardly send them."""
    await attacker.sockets(attacker.head("POST", "/v1/traces", _ANNOUNCED_BYTES), b"[", 60)


async def _compressed(attacker: Attacker, body: bytes, parallel: int) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    await attacker.again_and_again(lambda client: client.post("/v1/traces", content=body, headers=headers), parallel)


async def members(attacker: Attacker) -> None:
    """Send a body of gzip members that hold nothing."""
    await _compressed(attacker, gzip.compress(b"") * 300_000, 4)


async def groups(attacker: Attacker) -> None:
    """Send two kilobytes that become hundreds of thousands of empty groups."""
    await _compressed(attacker, gzip.compress(b'{"resourceSpans":[' + b"{}," * 660_000 + b"{}]}"), PARALLEL)


async def bodies(attacker: Attacker) -> None:
    """Send spans as fast as they are accepted, in bodies as large as are accepted."""
    batch = Payloads(1, words=400)
    sent = [batch.batch() for _ in range(8)]

    async def ask(client: httpx.AsyncClient) -> None:
        await client.post("/v1/traces", content=secrets.choice(sent), headers={"Content-Type": PROTOBUF})

    await attacker.again_and_again(ask, PARALLEL)


async def credentials(attacker: Attacker) -> None:
    """Present wrong credentials, each time another one."""

    async def ask(client: httpx.AsyncClient) -> None:
        token = f"{secrets.token_urlsafe(30)}.{secrets.token_urlsafe(90)}.{secrets.token_urlsafe(32)}"
        await client.get("/api/v1/traces", headers={"Authorization": f"Bearer {token}"})

    await attacker.again_and_again(ask, PARALLEL)


async def aborts(attacker: Attacker) -> None:
    """Ask questions, and go away before the answer."""
    numbers = itertools.count()

    async def ask(client: httpx.AsyncClient) -> None:
        path = f"/api/v1/traces?{_ALL_TIME}&search=w{next(numbers)}"
        with suppress(TimeoutError):
            await asyncio.wait_for(client.get(path), 0.02)

    await attacker.again_and_again(ask, PARALLEL)


async def lists(attacker: Attacker) -> None:
    """Long lists, as often as the rate limit lets them through and beyond."""
    numbers = itertools.count()
    path = f"/api/v1/traces?{_ALL_TIME}&limit=1000&user_id=user-"
    await attacker.again_and_again(lambda client: client.get(f"{path}{next(numbers) % 5000}"), PARALLEL)


ATTACKS: Final[dict[str, Callable[[Attacker], Awaitable[None]]]] = {
    attack.__name__: attack
    for attack in (
        searches, metrics, panels, exports, heads, slow_bodies, members, groups, bodies, credentials, aborts, lists,
    )
}  # fmt: skip


def burn(cores: float) -> None:
    """Use as much of the processors as an attacker did, without asking anybody for anything, until it is ended."""
    while True:
        began, work_ends = time.monotonic(), time.process_time() + cores * _BURN_SECONDS
        while time.process_time() < work_ends:
            pass
        time.sleep(max(0.0, began + _BURN_SECONDS - time.monotonic()))


def attack(name: str, base_url: str, token: str) -> None:
    """Do so until the process is ended."""
    asyncio.run(ATTACKS[name](Attacker(base_url, token)))  # type: ignore[arg-type]
