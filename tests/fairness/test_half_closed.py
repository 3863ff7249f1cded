"""Clients that close their sending half get their answer; clients that have gone away are still noticed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from server.http.wire.protocol import protocol_of
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.fairness.test_abandoned import all_questions_wait, counted
from tests.ingest.otlp_payloads import PROTOBUF, export_request

Bearer = Callable[..., dict[str, str]]
LIST = "/api/v1/traces?from=now-1h&limit="
RESET = struct.pack("ii", 1, 0)


def head(method: str, path: str, headers: dict[str, str], version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answers(server: AppServer, sent: bytes, *, pause: float = 0.0) -> bytes:
    """Send, close the sending half after ``pause`` seconds, and return all that comes until the server closes."""
    parts = urlsplit(server.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(sent)
        await asyncio.sleep(pause)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.fixture
async def server(start_app: AppFactory, project: ProjectMaker) -> AppServer:
    await project("half")
    return await start_app()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("pause", [0.0, 0.2])
async def test_a_quick_answer_reaches_who_sends_no_more(server: AppServer, version: str, pause: float) -> None:
    got = await answers(server, head("GET", "/live", {}, version), pause=pause)
    assert got.startswith(b"HTTP/1.1 200 OK"), got
    assert got.count(b"HTTP/1.1 ") == 1


async def test_each_of_several_questions_is_answered(server: AppServer, bearer: Bearer) -> None:
    headers = bearer("viewer", ["half"])
    got = await answers(server, b"".join(head("GET", f"{LIST}{number}", headers) for number in (1, 2, 3)))
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.rpartition(b"HTTP/1.1 200 OK")[2].count(b"connection: close") == 1


async def test_a_body_of_which_all_has_come_is_stored(server: AppServer, bearer: Bearer) -> None:
    body = export_request(2).SerializeToString()
    headers = {**bearer("developer", ["half"]), "Content-Type": PROTOBUF, "Content-Length": str(len(body))}
    got = await answers(server, head("POST", "/v1/traces", headers) + body)
    assert b"HTTP/1.1 200 OK" in got


@pytest.mark.parametrize("cut", ["head", "body"])
async def test_who_ends_too_early_is_closed_at_once(server: AppServer, bearer: Bearer, cut: str) -> None:
    headers = {**bearer("developer", ["half"]), "Content-Type": PROTOBUF, "Content-Length": "1000"}
    whole = head("POST", "/v1/traces", headers)
    began = monotonic()
    got = await answers(server, whole[:-3] if cut == "head" else whole + b"abc", pause=0.1)
    assert got == b""
    assert monotonic() - began < 2


async def test_a_slow_answer_waits_behind_an_interim_one(
    server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    async with all_questions_wait(owner):
        asked = asyncio.create_task(answers(server, head("GET", f"{LIST}7", bearer("viewer", ["half"]))))
        await asyncio.sleep(1)
        assert not asked.done()
    got = await asked
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_an_export_comes_whole(server: AppServer, bearer: Bearer) -> None:
    async with httpx.AsyncClient(base_url=server.base_url, headers=bearer("developer", ["half"])) as http:
        body = export_request(300).SerializeToString()
        assert (await http.post("/v1/traces", content=body, headers={"Content-Type": PROTOBUF})).status_code == 200
    path = "/api/v1/export/traces?from=now-30d&format=ndjson"
    got = await answers(server, head("GET", path, bearer("developer", ["half"])))
    assert got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_who_is_gone_is_noticed(server: AppServer, bearer: Bearer, owner: asyncpg.Connection, way: str) -> None:
    parts = urlsplit(server.base_url)
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        before = await counted(http, 499)
        async with all_questions_wait(owner):
            connection = socket.create_connection((parts.hostname or "", parts.port or 0))
            connection.sendall(head("GET", f"{LIST}9", bearer("viewer", ["half"])))
            await asyncio.sleep(0.5)
            if way == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            deadline = monotonic() + 1
            while await counted(http, 499) == before:
                assert monotonic() < deadline, "the question is still at work"
                await asyncio.sleep(0.02)


async def test_who_hangs_up_before_its_connection_has_begun_leaves_no_error(server: AppServer) -> None:
    """Four hundred such clients once left as many errors with tracebacks in the log."""
    protocol = protocol_of(server.app, set())()
    protocol.recv_buffer = bytearray()  # there is a connection, and its task has not run yet
    assert not protocol.eof_received()
