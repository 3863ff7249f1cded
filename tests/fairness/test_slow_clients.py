"""Clients that are slow, or refused, keep nothing from anybody."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic

import httpx
import pytest

from server.http.wire import deadlines, protocol
from server.ingest import body_work
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.ingest.otlp_payloads import JSON, PROTOBUF, export_request

Bearer = Callable[..., dict[str, str]]


Connect = Callable[[AppServer], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections, which end with the test."""
    writers: list[asyncio.StreamWriter] = []

    async def make(server: AppServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = server.base_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        return reader, writer

    yield make
    for writer in writers:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def ingest_head(headers: dict[str, str], size: int) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = ["POST /v1/traces HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", f"Content-Length: {size}", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a fraction of a second."""
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(deadlines, "BODY_GRACE_SECONDS", 0.3)
    monkeypatch.setattr(deadlines, "ANSWER_GRACE_SECONDS", 0.3)
    monkeypatch.setattr(deadlines, "LEAST_ANSWER_RATE", 1 << 30)


async def dripped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> tuple[bytes, float]:
    """Send a byte every few moments; return the answer, and after how long the connection was closed."""
    started = monotonic()
    answer = b""
    while monotonic() - started < seconds:
        try:
            writer.write(b"a")
            piece = await asyncio.wait_for(reader.read(65536), 0.05)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        if not piece:
            break
        answer += piece
    return answer, monotonic() - started


@pytest.mark.usefixtures("hurried")
async def test_a_head_that_drips_is_answered_408_and_closed(start_app: AppFactory, connect: Connect) -> None:
    server = await start_app()
    server.app.config.REQUEST_TIMEOUT = 0.3
    reader, writer = await connect(server)
    writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\nA: ")
    answer, seconds = await dripped(reader, writer, 5)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
    assert seconds < 4


@pytest.mark.usefixtures("hurried")
async def test_a_body_that_drips_is_answered_408_and_closed(
    start_app: AppFactory, connect: Connect, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app()
    reader, writer = await connect(server)
    writer.write(ingest_head(bearer("developer", ["alpha"]), 8_000_000))
    answer, seconds = await dripped(reader, writer, 8)
    assert answer.startswith(b"HTTP/1.1 408")
    assert seconds < 7
    assert server.services.bodies.held == 0


@pytest.mark.usefixtures("hurried")
async def test_a_body_that_is_announced_and_never_sent_ends(
    start_app: AppFactory, connect: Connect, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app()
    reader, writer = await connect(server)
    writer.write(ingest_head(bearer("developer", ["alpha"]), 8_000_000))
    answer = await asyncio.wait_for(reader.read(), 8)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


async def test_a_request_refused_before_its_body_came_is_closed(app_server: AppServer, connect: Connect) -> None:
    reader, writer = await connect(app_server)
    writer.write(ingest_head({"Authorization": "Bearer a.b.c"}, 1_000_000))
    answer, seconds = await dripped(reader, writer, 8)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer.lower()
    assert seconds < deadlines.LINGER_SECONDS + 3


async def test_a_refused_request_whose_body_has_come_keeps_its_connection(
    app_server: AppServer, connect: Connect
) -> None:
    reader, writer = await connect(app_server)
    for _ in range(2):
        writer.write(ingest_head({"Authorization": "Bearer a.b.c"}, 100) + b"x" * 100)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"connection: keep-alive" in head.lower()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)


async def test_announced_bodies_of_one_tenant_do_not_take_the_memory_of_another(
    app_server: AppServer, connect: Connect, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    await project("beta")
    drips = [await connect(app_server) for _ in range(20)]
    for _, writer in drips:
        writer.write(ingest_head(bearer("developer", ["alpha"]), 8 << 20) + b"x")
    async with asyncio.timeout(5):
        while app_server.services.bodies.held < 20 * 256 * 1024:
            await asyncio.sleep(0.01)
    assert app_server.services.bodies.held < 21 * 256 * 1024  # what may come next, not what was announced
    headers = {**bearer("developer", ["beta"]), "content-type": PROTOBUF}
    async with httpx.AsyncClient(base_url=app_server.base_url) as http:
        for _ in range(5):
            body = export_request(1).SerializeToString()
            assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == 200


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_does_not_take_its_answer_is_cut_off(
    start_app: AppFactory, connect: Connect, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app()
    token = bearer("viewer", ["alpha"])["Authorization"]
    reader, writer = await connect(server)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode() * 400)
    async with asyncio.timeout(10):
        while not server.services.answers.held:
            await asyncio.sleep(0.01)
        while server.services.answers.held:
            await asyncio.sleep(0.05)
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    received = 0
    try:
        while piece := await asyncio.wait_for(reader.read(1 << 20), 5):
            received += len(piece)
    except ConnectionError:
        pass
    assert received < 200 * len(await document_of(server))


async def document_of(server: AppServer) -> bytes:
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        return (await http.get("/openapi.json")).content


async def test_who_sends_bodies_that_are_refused_has_less_of_a_decoder(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Bearer, project: ProjectMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The decoder of a body of 10,000 groups rests, held by its sender; others' bodies are decoded meanwhile."""
    monkeypatch.setattr(body_work, "_REST", 1e9)
    monkeypatch.setattr(body_work, "_LONGEST_REST_SECONDS", 3600.0)
    for name in ("alpha", "beta"):
        await project(name)
    work = app_server.services.ingestion._work
    body = gzip.compress(b'{"resourceSpans":[' + b"{}," * 30_000 + b"{}]}", 9)

    def sent_to(name: str, content: bytes, kind: str) -> Awaitable[httpx.Response]:
        headers = {**bearer("developer", [name]), "Content-Type": kind, "Content-Encoding": "gzip"}
        return client.post("/v1/traces", content=content, headers=headers)

    refused = asyncio.ensure_future(sent_to("alpha", body, JSON))
    async with asyncio.timeout(60):
        while not (work._decoders.held and work._threads._idle_semaphore._value):
            await asyncio.sleep(0.01)
    big = gzip.compress(export_request(attributes={"x": "y" * 100_000}).SerializeToString())
    assert (await sent_to("beta", big, PROTOBUF)).status_code == 200
    assert work._decoders.held == 1, "it rests"
    assert not refused.done()
    refused.cancel()
    await asyncio.gather(refused, return_exceptions=True)
    async with asyncio.timeout(60):
        while work._decoders.held:
            await asyncio.sleep(0.01)
