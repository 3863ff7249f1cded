"""/api/v1/traces/ws: the live tail over a WebSocket."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import AppFactory, AppServer
from tests.live.conftest import store_live
from tests.span_factory import make_span


def open_socket(server: AppServer, headers: dict[str, str], query: str = "", **options: Any) -> connect:
    """Open a WebSocket client of ``server``."""
    url = f"{server.base_url.replace('http', 'ws')}/api/v1/traces/ws{query}"
    return connect(url, additional_headers=headers, proxy=None, **options)


async def next_event(socket: ClientConnection, *names: str) -> dict[str, Any]:
    """Return the next event with one of these names."""
    async with asyncio.timeout(10):
        while True:
            event: dict[str, Any] = json.loads(await socket.recv(decode=True))
            if event["event"] in names:
                return event


async def closing_code(socket: ClientConnection) -> int | None:
    """Return the code with which the server ends the connection."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            async for _ in socket:
                pass
    return socket.close_code


async def test_each_message_is_an_event_and_an_id_leads_back(app_server: AppServer, alpha: dict[str, str]) -> None:
    first, second, third = (make_span() for _ in range(3))
    async with open_socket(app_server, alpha, "?model=gpt-4o&fields=core") as socket:
        assert "id" in await next_event(socket, "heartbeat")
        await store_live(app_server.services, "alpha", first, make_span(model="o3"), second)
        event = await next_event(socket, "span")
        assert event["data"]["span_id"] == first.span_id
        assert (await next_event(socket, "span"))["data"]["span_id"] == second.span_id
    async with open_socket(app_server, alpha | {"Last-Event-ID": event["id"]}, "?model=gpt-4o") as socket:
        assert (await next_event(socket, "span"))["data"]["span_id"] == second.span_id
        await store_live(app_server.services, "alpha", third)
        assert (await next_event(socket, "span"))["data"]["span_id"] == third.span_id


async def test_what_is_wrong_with_a_request_is_answered_before_the_handshake(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], bearer: Any
) -> None:
    for headers, query, status in (
        ({}, "", 401),
        (alpha, "?limit=3", 400),
        (alpha, "?project_id=beta", 403),
        (bearer("developer", ["alpha"], scopes=["metrics:read"]), "", 403),
        (alpha | {"Origin": "https://elsewhere.example"}, "", 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(app_server, headers, query):
                pass
        assert refused.value.response.status_code == status
        assert b'"code"' in (refused.value.response.body or b"")
    assert (await client.get("/api/v1/traces/ws", headers=alpha)).status_code == 426
    assert app_server.services.live.streams == []


async def test_a_page_of_a_named_origin_may_connect(start_app: AppFactory, alpha: dict[str, str]) -> None:
    server = await start_app(cors_origins=("https://app.example",))
    for origin in ("https://app.example", server.base_url):
        async with open_socket(server, alpha | {"Origin": origin}) as socket:
            await next_event(socket, "heartbeat")


@pytest.mark.parametrize(("message", "code"), [("{}", 1008), (b"\x00", 1003), ("x" * 10_000, 1009)])
async def test_a_client_that_talks_is_cut_off(
    app_server: AppServer, alpha: dict[str, str], message: str | bytes, code: int
) -> None:
    async with open_socket(app_server, alpha) as socket:
        await next_event(socket, "heartbeat")
        await socket.send(message)
        assert await closing_code(socket) == code
    async with asyncio.timeout(5):
        while app_server.services.live.streams:
            await asyncio.sleep(0.01)


async def test_the_end_of_a_credential_and_of_the_server_have_codes_of_their_own(
    app_server: AppServer, alpha: dict[str, str], bearer: Any
) -> None:
    async with (
        open_socket(app_server, bearer("viewer", ["alpha"], ttl=2)) as expiring,
        open_socket(app_server, alpha) as going_on,
    ):
        goodbye = await next_event(expiring, "goodbye")
        assert goodbye["data"] == {"reason": "invalid_token", "retry_ms": None}
        assert await closing_code(expiring) == 4401
        await store_live(app_server.services, "alpha", make_span())
        await next_event(going_on, "span")
        await app_server.services.live.drain()
        assert (await next_event(going_on, "goodbye"))["data"]["reason"] == "draining"
        assert await closing_code(going_on) == 1001
