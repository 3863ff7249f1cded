"""Streams: many of them, taken and left, never read, and spoken to."""

from __future__ import annotations

import asyncio
import os
import struct

import httpx

from tests.hostile.hostile import Hostile
from tests.ingest.otlp_payloads import PROTOBUF, export_request

UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def openings(hostile: Hostile) -> list[bytes]:
    """Return heads that open a stream, or nearly."""
    return [
        hostile.head("GET", "/api/v1/traces/live"),
        hostile.head("GET", "/api/v1/traces/live?contains=zz", "Last-Event-ID: " + "9" * 3000),
        hostile.head("GET", "/api/v1/traces/live?user_id=" + "x" * 3000),
        hostile.head("GET", "/api/v1/traces/ws", *UPGRADE),
        hostile.head("GET", "/api/v1/traces/ws?search=word1", *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate"),
        hostile.head("GET", "/api/v1/traces/ws", *UPGRADE[:2]),
        hostile.head("GET", "/api/v1/traces/ws", *UPGRADE, "Origin: http://elsewhere.example"),
        hostile.head("HEAD", "/api/v1/traces/live"),
    ]


async def storm(hostile: Hostile) -> None:
    """Open streams and leave them at once, as fast as possible."""

    async def one() -> None:
        while True:
            head = hostile.dice.choice(openings(hostile))
            await hostile.speak(head, receive=hostile.dice.random() * 0.05, reset=hostile.dice.random() < 0.7)

    async with asyncio.TaskGroup() as group:
        for _ in range(24):
            group.create_task(one())


async def never_read(hostile: Hostile) -> None:
    """Open streams that nobody reads, while spans of some size come in."""
    body = export_request(20, attributes={"gen_ai.prompt": "x" * 20_000}).SerializeToString()

    async def hold() -> None:
        while True:
            head = hostile.dice.choice(openings(hostile)[:5])
            connection = await _connection(hostile, head)
            try:
                await asyncio.sleep(60)
            finally:
                connection.close()

    async def send(client: httpx.AsyncClient) -> None:
        await hostile.ask(client, "POST", "/v1/traces", content=body, headers={"Content-Type": PROTOBUF})

    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(hold())
        group.create_task(hostile.again_and_again(send, parallel=2))


async def _connection(hostile: Hostile, sent: bytes) -> asyncio.StreamWriter:
    import socket

    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await asyncio.get_running_loop().sock_connect(connection, (hostile.host, hostile.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(sent)
    return writer


def frame(code: int, content: bytes, *, first: int = 0x80, masked: bool = True, length: int | None = None) -> bytes:
    """Return a frame of a WebSocket; ``length`` is the length that it declares."""
    said = len(content) if length is None else length
    mask = 0x80 if masked else 0
    if said < 126:
        head = bytes([first | code, mask | said])
    elif said < 65536:
        head = bytes([first | code, mask | 126]) + struct.pack("!H", said)
    else:
        head = bytes([first | code, mask | 127]) + struct.pack("!Q", said)
    return head + (bytes(4) if masked else b"") + content


async def frames(hostile: Hostile) -> None:
    """Send messages where none are wanted: too large, in endless pieces, malformed, pings without end."""
    said = [
        frame(9, b"x" * 100) * 5_000,
        frame(10, b"") * 20_000,
        frame(1, b"x" * 100_000),
        frame(1, b"", length=1 << 62),
        frame(2, b"x"),
        frame(1, b"a", first=0) + frame(0, b"a", first=0) * 20_000,
        frame(1, b"\xff\xfe"),
        frame(1, b"x", masked=False),
        frame(3, b"x"),
        frame(1, b"x", first=0xF0),
        frame(9, b"x" * 200),
        frame(8, b"\x00"),
        frame(8, struct.pack("!H", 65535)),
        frame(8, b"") * 5_000,
        os.urandom(5_000),
    ]

    async def one() -> None:
        while True:
            sent = hostile.head("GET", "/api/v1/traces/ws", *UPGRADE) + hostile.dice.choice(said)
            await hostile.speak(sent, receive=0.3 * hostile.dice.random(), reset=hostile.dice.random() < 0.5)

    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(one())
