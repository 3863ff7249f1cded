"""A path to Redis that doubles, drops, swaps, changes, delays, replays and cuts replies."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Callable[["FaultyPath", list[bytes]], list[bytes] | None]
"""Turns the replies that came into those that are passed on; None: cut the connection in the middle of them."""


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of one whole reply (RESP 2)."""
    line = await reader.readuntil(b"\r\n")
    kind, size = line[:1], line[1:-2]
    if kind == b"$" and size != b"-1":
        return line + await reader.readexactly(int(size) + 2)
    if kind == b"*" and size != b"-1":
        return line + b"".join([await read_reply(reader) for _ in range(int(size))])
    return line


class FaultyPath:
    """A proxy in front of a Redis. Without a fault it passes on everything as it is."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.fault: Fault | None = None
        self.faults = 0
        self.earlier: deque[list[bytes]] = deque(maxlen=20)
        """Batches that came before, over any connection."""
        self._served: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def before(self, url: str) -> AsyncIterator[str]:
        """Run in front of the Redis at ``url``; yield the address to use instead."""
        parts = urlsplit(url)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._served.add(task)
            with suppress(asyncio.CancelledError):  # the end of the test
                await _serve_one(reader, writer)

        async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far: asyncio.StreamWriter | None = None
            try:
                if parts.scheme == "unix":
                    near, far = await asyncio.open_unix_connection(parts.path)
                else:
                    near, far = await asyncio.open_connection(parts.hostname, parts.port)
                ways = [asyncio.ensure_future(self._pass_on(near, writer)), asyncio.ensure_future(_copy(reader, far))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                for side in filter(None, (writer, far)):
                    side.close()
                    with suppress(OSError):
                        await side.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        database = options.get("db") or Path(parts.path).name if parts.scheme == "unix" else parts.path.lstrip("/")
        password = f":{parts.password}@" if parts.password else ""
        try:
            yield f"redis://{password and unquote(password)}127.0.0.1:{port}/{database or 0}"
        finally:
            server.close()
            for task in self._served:
                task.cancel()
            await asyncio.gather(*self._served, return_exceptions=True)
            await server.wait_closed()

    async def _pass_on(self, near: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: list[bytes] = []
        while True:
            try:
                # Replies that arrive together are one batch, so that they can be swapped.
                held.append(await asyncio.wait_for(read_reply(near), 0.002 if held else None))
                continue
            except TimeoutError:
                pass
            except (asyncio.IncompleteReadError, OSError):
                return
            replies, held = held, []
            passed: list[bytes] | None = replies
            if self.fault is not None and self.dice.random() < 0.3:
                passed = self.fault(self, replies)
                self.faults += 1
            self.earlier.append(replies)
            if passed is None:
                whole = b"".join(replies)
                writer.write(whole[: self.dice.randrange(1, len(whole))])
                return
            writer.write(b"".join(passed))
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def double(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Repeat one of them."""
    place = path.dice.randrange(len(replies))
    return [*replies[: place + 1], *replies[place:]]


def drop(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Leave one out."""
    place = path.dice.randrange(len(replies))
    return [*replies[:place], *replies[place + 1 :]]


def add(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Put one too many in."""
    place = path.dice.randrange(len(replies) + 1)
    return [*replies[:place], path.dice.choice([b"+OK\r\n", b"$-1\r\n", b"*2\r\n$-1\r\n$-1\r\n"]), *replies[place:]]


def swap(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Exchange two."""
    if len(replies) < 3:
        return replies
    mixed = list(replies)
    one, two = path.dice.sample(range(len(replies)), 2)
    mixed[one], mixed[two] = mixed[two], mixed[one]
    return mixed


def change(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Change one byte."""
    whole = bytearray(b"".join(replies))
    whole[path.dice.randrange(len(whole))] = path.dice.randrange(256)
    return [bytes(whole)]


def cut(path: FaultyPath, replies: list[bytes]) -> None:
    """End the connection in the middle of them."""


def double_all(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Repeat the whole batch, which is a good answer to a question of the same form."""
    return [*replies, *replies]


def replay(path: FaultyPath, replies: list[bytes]) -> list[bytes]:
    """Put an earlier batch of as many replies in the place of this one, as a path does that mixes up connections."""
    return path.dice.choice([batch for batch in path.earlier if len(batch) == len(replies)] or [replies])


FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (double, double_all, drop, add, swap, replay, change, cut)
}
