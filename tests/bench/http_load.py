"""A small HTTP/1.1 client for load: one keep-alive connection, no more work than needed to get an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from urllib.parse import urlsplit

from tests.ingest.otlp_payloads import PROTOBUF


class LoadConnection:
    """One connection to ``base_url``; requests go one after the other."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> LoadConnection:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of a GET. Raises OSError or EOFError when the connection is lost."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n{self._head}\r\n".encode())

    async def post(self, path: str, body: bytes) -> int:
        """Return the status of a POST. Raises OSError or EOFError when the connection is lost."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        return (await self._exchange(head.encode() + body))[0]

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        length, in_chunks = 0, False
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            in_chunks |= name.lower() == b"transfer-encoding"
        body = await self._chunks() if in_chunks else await self._reader.readexactly(length) if length else b""
        return int(head.split(b" ", 2)[1]), body

    async def _chunks(self) -> bytes:
        """Return a body whose length is told piece by piece."""
        pieces = []
        while length := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            pieces.append((await self._reader.readexactly(length + 2))[:-2])
        await self._reader.readuntil(b"\r\n")
        return b"".join(pieces)


async def send_batches(base_url: str, headers: dict[str, str], bodies: Sequence[bytes], senders: int) -> float:
    """Send OTLP requests over ``senders`` connections; return the seconds until all are answered.

    Raises RuntimeError if one is refused.
    """
    waiting = iter(bodies)
    begun = time.monotonic()

    async def send() -> None:
        async with LoadConnection(base_url, headers | {"Content-Type": PROTOBUF}) as connection:
            for body in waiting:
                if await connection.post("/v1/traces", body) != 200:
                    raise RuntimeError("a batch was refused")

    await asyncio.gather(*(send() for _ in range(senders)))
    return time.monotonic() - begun
