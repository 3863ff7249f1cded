"""Questions whose callers go away: they are nobody's failure, and whoever leaves many waits before the next."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from server.http import http_app
from tests.conftest import AppFactory, AppServer, ProjectMaker

PATH = "/api/v1/traces?from=now-1h&user_id=u"
RESET = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")


@asynccontextmanager
async def all_questions_wait(owner: asyncpg.Connection) -> AsyncIterator[None]:
    """Keep everybody from reading spans."""
    async with owner.transaction():
        await owner.execute("LOCK TABLE llm_traces IN ACCESS EXCLUSIVE MODE")
        yield


async def ask_and_go(server: AppServer, headers: dict[str, str], number: int) -> None:
    """Ask, and reset the connection while the question is at work."""
    parts = urlsplit(server.base_url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    head = f"GET {PATH}{number} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
    connection.sendall(head.encode())
    await asyncio.sleep(0.5)
    connection.close()


async def counted(http: httpx.AsyncClient, status: int) -> float:
    """Return the number of lists that were answered with ``status``."""
    start = f'http_requests_total{{method="GET",route="/api/v1/traces",status="{status}"}} '
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


async def test_who_goes_away_is_counted_as_that_and_is_no_failure(
    start_app: AppFactory,
    project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
    owner: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await project("rude")
    server = await start_app()
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        before, failed = await counted(http, 499), await counted(http, 500)
        with caplog.at_level(logging.WARNING):
            async with all_questions_wait(owner):
                await asyncio.gather(*(ask_and_go(server, bearer("viewer", ["rude"]), n) for n in range(3)))
            await asyncio.sleep(0.3)  # what they left at the database ends, too
        assert await counted(http, 499) == before + 3
        assert await counted(http, 500) == failed
    assert [record.getMessage() for record in caplog.records] == []


async def test_who_goes_away_again_and_again_waits_before_the_next_question(
    start_app: AppFactory,
    project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_app, "ABANDONED", (2, 1, 8.0))
    await project("rude")
    await project("polite")
    server = await start_app()
    async with all_questions_wait(owner):
        await asyncio.gather(*(ask_and_go(server, bearer("viewer", ["rude"]), n) for n in range(8)))

    async def took(name: str) -> float:
        async with httpx.AsyncClient(base_url=server.base_url, headers=bearer("viewer", [name]), timeout=30) as http:
            began = monotonic()
            assert (await http.get(PATH)).status_code == 200
            return monotonic() - began

    waits = asyncio.create_task(took("rude"))
    await asyncio.sleep(0.05)
    polite = await took("polite")
    rude = await waits
    assert rude > 2, "four seconds after it left the last one"
    assert polite < rude, "nobody else waits"
