"""Very many small pieces cost others nothing: chunks of a byte, requests one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from sanic.exceptions import BadRequest, PayloadTooLarge

from server.http.wire.chunked_body import LEAST_CHUNK, LONGEST_LINE, MOST_SMALL_CHUNKS, ChunkedBody
from tests.conftest import AppServer, ProjectMaker

Bearer = Callable[..., dict[str, str]]


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"\r\n%x%b\r\n%b" % (len(content), extension, content)


END = b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
def test_a_body_is_whole_however_its_bytes_come(step: int) -> None:
    contents = [b"a", b"\r\n", b"0\r\n\r\n", b"x" * 300, b"b"]
    sent = b"".join(map(chunk, contents)) + chunk(b"last", b";name=value") + END
    body, buffer, content = ChunkedBody(1000), bytearray(), bytearray()
    ended = []
    for at in range(0, len(sent), step):
        buffer += sent[at : at + step]
        ended.append(body.take(buffer, content))
    assert bytes(content) == b"".join(contents) + b"last"
    assert ended == [False] * (len(ended) - 1) + [True]
    assert not buffer


def test_what_follows_the_body_stays_for_the_next_request() -> None:
    buffer, content = bytearray(chunk(b"abc") + END + b"GET / HTTP/1.1"), bytearray()
    assert ChunkedBody(10).take(buffer, content)
    assert buffer == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    "sent",
    [
        chunk(b"a") + b"xx1\r\nb",
        b"\r\n0x5\r\nhello",
        b"\r\n 5\r\nhello",
        b"\r\n-1\r\n",
        b"\r\n" + b"f" * 17 + b"\r\n",
        b"\r\n0\r\nA: trailer\r\n\r\n",
        b"\r\n1;" + b"a" * LONGEST_LINE,
        chunk(b"a", b";name\nvalue"),
        chunk(b"a", b";name\rvalue"),
    ],
)
def test_what_is_no_chunk_is_refused(sent: bytes) -> None:
    with pytest.raises(BadRequest):
        ChunkedBody(100).take(bytearray(sent), bytearray())


def test_content_beyond_the_limit_is_refused_by_its_announcement() -> None:
    with pytest.raises(PayloadTooLarge):
        ChunkedBody(10).take(bytearray(chunk(b"12345678") + b"\r\n3\r\n"), bytearray())


def test_small_chunks_are_refused_in_great_number_only() -> None:
    small = chunk(b"a")
    assert not ChunkedBody(1e9).take(bytearray(small * MOST_SMALL_CHUNKS), bytearray())
    with pytest.raises(BadRequest):
        ChunkedBody(1e9).take(bytearray(small * 2 * MOST_SMALL_CHUNKS), bytearray())
    usual = chunk(b"a" * LEAST_CHUNK)
    assert not ChunkedBody(1e9).take(bytearray(usual * 10 * MOST_SMALL_CHUNKS), bytearray())


async def connected(server: AppServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_body_in_chunks_of_a_byte_is_refused_and_counted_as_its_bytes(
    app_server: AppServer, bearer: Bearer, project: ProjectMaker
) -> None:
    """Each chunk once held a place of its own in the memory of bodies: 2 MB in bytes took 400 MB and 18 seconds."""
    await project("alpha")
    reader, writer = await connected(app_server)
    token = bearer("developer", ["alpha"])["Authorization"]
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n")
    places = []
    bodies = app_server.services.bodies
    take = bodies.take

    async def counted(size: float) -> object:
        places.append(size)
        return await take(size)

    bodies.take = counted  # type: ignore[method-assign, assignment]
    with suppress(ConnectionError):
        for _ in range(20):
            writer.write(chunk(b" ") * 10_000)
            await writer.drain()
    answer = await asyncio.wait_for(reader.read(65536), 10)
    writer.transport.abort()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer.lower()
    assert len(places) < 5
    assert bodies.held == 0


async def test_requests_in_one_piece_leave_turns_to_others(app_server: AppServer) -> None:
    """Answers that wait for nothing were once given one after the other, as many as had come."""
    reader, writer = await connected(app_server)
    number, turns, running = 400, 0, True

    async def another() -> None:
        nonlocal turns
        while running:
            await asyncio.sleep(0)
            turns += 1

    writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n" * number)
    beside = asyncio.create_task(another())
    received = b""
    while received.count(b"HTTP/1.1 200") < number:
        received += await asyncio.wait_for(reader.read(1 << 20), 10)
    running = False
    await beside
    writer.transport.abort()
    assert turns > number / 2
