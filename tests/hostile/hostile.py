"""The hostile tenant: what it asks, and what it sees of the server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tests.storage.faulty_path import FaultyPath

ALLOWED: Final = frozenset({503, 504})
"""Answers from 500 on that are documented: too busy, and too late."""
MOST_FAULTS: Final = 20
RESET: Final = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
"""SO_LINGER that ends a connection with RST."""


@dataclass
class Seen:
    """Answers by status, and those that should never have come."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def note(self, status: int, what: str, answer: str = "") -> None:
        """Count an answer to ``what``."""
        self.statuses[status] += 1
        if status >= 500 and status not in ALLOWED and len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{status} for {what[:300]}: {answer[:300]}")


class Hostile:
    """A tenant that may administer its own project, and means ill."""

    def __init__(self, base_url: str, credential: str, seed: int, path: FaultyPath, redis_url: str) -> None:
        """``path``: the server's way to the Redis at ``redis_url``."""
        parts = urlsplit(base_url)
        self.base_url, self.host, self.port = base_url, parts.hostname or "127.0.0.1", parts.port or 80
        self.headers = {"Authorization": credential}
        self.dice = random.Random(seed)
        self.seen = Seen()
        self.path, self.redis_url = path, redis_url

    async def ask(self, client: httpx.AsyncClient, method: str, path: str, **rest: Any) -> httpx.Response | None:
        """Send one request; None where no answer came."""
        try:
            answer = await client.request(method, path, **rest)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self.seen.statuses[type(error).__name__] += 1
            return None
        self.seen.note(answer.status_code, f"{method} {path} {rest}", answer.text)
        return answer

    async def again_and_again(
        self, act: Callable[[httpx.AsyncClient], Awaitable[object]], parallel: int = 8, wait: float = 30
    ) -> None:
        """Repeat ``act`` on as many connections, until the wave is over."""

        async def one() -> None:
            async with httpx.AsyncClient(
                base_url=self.base_url, headers=self.headers, timeout=wait, verify=False
            ) as client:
                while True:
                    await act(client)

        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(one())

    async def speak(self, sent: bytes, *, receive: float = 0, narrow: bool = False, reset: bool = True) -> bytes:
        """Open a connection, send bytes, listen for ``receive`` seconds, and end it; give what came back.

        ``narrow``: hardly anything is taken in by the system for whoever does not read.
        """
        connection = socket.socket()
        connection.setblocking(False)
        if narrow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        loop, received = asyncio.get_running_loop(), b""
        try:
            await loop.sock_connect(connection, (self.host, self.port))
            with suppress(TimeoutError):
                async with asyncio.timeout(receive or 5):
                    await loop.sock_sendall(connection, sent)
                    while receive and (data := await loop.sock_recv(connection, 1 << 16)):
                        received += data
        except OSError as error:
            self.seen.statuses[type(error).__name__] += 1
        finally:
            connection.close()
        if received.startswith(b"HTTP/1.1 "):
            self.seen.note(int(received[9:12]), repr(sent), repr(received))
        return received

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Return a whole head of a request with the tenant's credential."""
        first = (f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}")
        named = (f"{name}: {value}" for name, value in self.headers.items())
        return ("\r\n".join((*first, *named, *lines)) + "\r\n\r\n").encode()
