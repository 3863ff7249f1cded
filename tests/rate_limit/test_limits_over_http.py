"""Group R of the abuse cases: limits as callers meet them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from redis.asyncio import Redis
from sanic import Blueprint, HTTPResponse, Request

import server.app
from server.access.rate_policy import LARGEST_COST
from server.embedded.binaries import VALKEY, find_program
from server.errors import InvalidToken
from server.http.envelope import success
from server.http.guard import access_policy, reauthenticate, requires
from server.storage.redis_line import RedisLine
from server.storage.redis_store import RedisUnavailable
from tests.conftest import AppFactory, AppServer, ProjectMaker

ROUTE = "/api/v1/projects"
Headers = Callable[..., dict[str, str]]


@pytest.fixture
async def alpha(project: ProjectMaker) -> str:
    return await project("alpha")


async def limited_key(http: httpx.AsyncClient, bearer: Headers, per_minute: int = 1) -> dict[str, str]:
    """Return headers with a key that has a small limit of its own (its burst is 100)."""
    body = {
        "label": "x",
        "kind": "service",
        "role": "admin",
        "projects": ["alpha"],
        "rate_limit_per_minute": per_minute,
    }
    made = await http.post("/api/v1/keys", headers=bearer("admin", ["alpha"]), json=body)
    assert made.status_code == 201, made.text
    return {"X-API-Key": made.json()["data"]["key"]}


def used(answer: httpx.Response, capacity: int) -> int:
    return capacity - int(answer.headers["x-ratelimit-remaining"])


async def test_every_authenticated_answer_has_the_headers(
    client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    headers = bearer("viewer", [alpha])
    for answer, status in (
        (await client.get(ROUTE, headers=headers), 200),
        (await client.get("/api/v1/keys", headers=headers), 403),
        (await client.get("/api/v1/audit?x=1", headers=bearer("admin", [alpha])), 400),
        (await client.get("/api/v1/keys/unknown", headers=bearer("admin", [alpha])), 404),
        (await client.post("/api/v1/keys", headers=bearer("admin", [alpha]), content=b"{"), 400),
        (await client.head(ROUTE, headers=headers), 200),
    ):
        assert answer.status_code == status
        assert int(answer.headers["x-ratelimit-limit"]) in (1000, 100_000)
        assert int(answer.headers["x-ratelimit-remaining"]) >= 0
        assert int(answer.headers["x-ratelimit-reset"]) >= int(time.time())
        assert answer.headers["ratelimit"].startswith('"default";r=')
        assert answer.headers["ratelimit-policy"].startswith('"default";q=')
        assert "x-ratelimit-policy" not in answer.headers
    assert "x-ratelimit-limit" not in (await client.get("/live")).headers


async def test_refusal_has_a_retry_after_that_is_true(client: httpx.AsyncClient, alpha: str, bearer: Headers) -> None:
    headers = await limited_key(client, bearer, per_minute=60)
    started = time.monotonic()
    passed = 0
    while (last := await client.get(ROUTE, headers=headers)).status_code == 200:
        passed += 1
    assert 100 <= passed <= 100 + (time.monotonic() - started) + 1, "the burst, and what refilled meanwhile"
    assert last.json()["code"] == "rate_limited"
    assert last.headers["x-ratelimit-remaining"] == "0"
    assert int(last.headers["retry-after"]) == 1
    await asyncio.sleep(int(last.headers["retry-after"]))
    assert (await client.get(ROUTE, headers=headers)).status_code == 200


async def test_ten_parallel_clients_of_two_servers_never_get_more_than_burst_plus_rate(
    start_app: AppFactory, alpha: str, bearer: Headers
) -> None:
    del alpha
    servers = [await start_app(), await start_app()]
    async with httpx.AsyncClient(base_url=servers[0].base_url) as http:
        key = await limited_key(http, bearer, per_minute=60)
    started = time.monotonic()

    async def client(number: int) -> list[int]:
        async with httpx.AsyncClient(base_url=servers[number % 2].base_url, timeout=60) as http:
            return [(await http.get(ROUTE, headers=key)).status_code for _ in range(15)]

    statuses = [status for seen in await asyncio.gather(*map(client, range(10))) for status in seen]
    assert set(statuses) == {200, 429}
    assert 100 <= statuses.count(200) <= 100 + (time.monotonic() - started) + 1


async def test_only_a_configured_proxy_is_believed(start_app: AppFactory, alpha: str) -> None:
    del alpha
    spoofed: list[dict[str, str]] = [
        {name: f"10.0.0.{number}"}
        for number, name in enumerate(("X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP") * 8)
    ] + [{"Forwarded": "for=10.1.1.1"}, {"X-Forwarded-For": ",,,"}, {"X-Forwarded-For": ", ".join(["1.1.1.1"] * 500)}]
    server = await start_app(rate_limit_failed_auth=5)
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        statuses = [
            (await http.get(ROUTE, headers={"Authorization": "Bearer x.y.z", **extra})).status_code for extra in spoofed
        ]
    assert statuses.count(401) <= 6, "one bucket, whatever the headers say"
    proxied = await start_app(rate_limit_failed_auth=5, proxies_count=1)
    async with httpx.AsyncClient(base_url=proxied.base_url) as http:

        def ask(forwarded: str) -> Any:
            return http.get(ROUTE, headers={"Authorization": "Bearer x.y.z", "X-Forwarded-For": forwarded})

        # The last entry is the one that our proxy added; those before it are the client's own words.
        same = [(await ask(f"10.9.9.{number}, 192.0.2.1")).status_code for number in range(10)]
        other = await ask("192.0.2.2")
    assert same.count(401) <= 6
    assert other.status_code == 401


async def test_one_budget_per_subject_and_route_template(
    app_server: AppServer, client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    redis = app_server.services.redis.redis
    assert isinstance(redis, Redis)
    path = "/api/v1/keys/"
    for name in ("one", "two", "three?x=1", "%74wo", "four?a&b", "../keys/five"):
        await client.get(path + name, headers=bearer("developer", [alpha], subject="ann"))
    assert len(await redis.keys("obs:limit:*")) == 1
    await client.get(path + "one", headers=bearer("developer", [alpha], subject="bob"))
    assert len(await redis.keys("obs:limit:*")) == 2
    for variant in ("/api//v1/keys/one", "/API/v1/keys/one", "/api/v1/keys/one/", "/api/v1/./keys/one"):
        assert (await client.get(variant, headers=bearer("developer", [alpha]))).status_code == 404, variant


async def test_expensive_routes_cost_more_and_none_costs_more_than_the_smallest_burst(
    app_server: AppServer, client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    made = await client.post("/api/v1/keys", headers=bearer("admin", [alpha]), json={"label": "x", "kind": "dashboard"})
    assert used(made, 120_000) == 10
    for route in app_server.app.router.routes:
        policy = access_policy(route.handler)
        assert policy is None or 1 <= policy.cost <= LARGEST_COST, route.path
    with pytest.raises(ValueError, match="cost"):
        requires("metrics:read", cost=LARGEST_COST + 1)
    with pytest.raises(ValueError, match="scope"):
        requires("metrics:raed")


class SlowRoutes:
    """Routes that only these tests have: one that waits for a signal, one that asks the cache."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.entered = 0
        self.bodies_read = 0
        self.blueprint = Blueprint("slow_for_tests")

        @self.blueprint.get("/test/wait")
        @requires("metrics:read")
        async def wait(request: Request) -> HTTPResponse:
            self.entered += 1
            await self.release.wait()
            return success(request, None)

        @self.blueprint.post("/test/body")
        @requires("metrics:read")
        async def body(request: Request) -> HTTPResponse:
            self.bodies_read += 1
            return success(request, len(request.body))

        @self.blueprint.get("/test/lookup")
        @requires("metrics:read", with_lookup=True)
        async def lookup(request: Request) -> HTTPResponse:
            try:
                values = await request.ctx.trip.read(["remembered"])
            except RedisUnavailable:
                values = []
            return success(request, [value.decode() if value else None for value in values])

        @self.blueprint.websocket("/test/socket")  # type: ignore[untyped-decorator]
        @requires("metrics:read", long_lived=True)
        async def socket(request: Request, ws: Any) -> None:
            for _ in range(2):
                await ws.recv()
                try:
                    await ws.send((await reauthenticate(request)).subject)
                except InvalidToken:
                    await ws.send("out")

        @self.blueprint.get("/test/fails")
        @requires("metrics:read", with_lookup=True)
        async def fails(request: Request) -> HTTPResponse:
            raise RuntimeError("a defect")


@pytest.fixture
async def slow(start_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SlowRoutes, AppServer]]:
    """A server with :class:`SlowRoutes`, at most three requests of one principal at a time."""
    routes = SlowRoutes()
    monkeypatch.setattr(server.app, "BLUEPRINTS", (*server.app.BLUEPRINTS, routes.blueprint))
    yield routes, await start_app(rate_limit_concurrency=3)
    routes.release.set()


async def test_concurrency_is_limited_and_slots_of_vanished_clients_come_back(
    slow: tuple[SlowRoutes, AppServer], alpha: str, bearer: Headers
) -> None:
    routes, server = slow
    headers, other = bearer("viewer", [alpha], subject="ann"), bearer("viewer", [alpha], subject="bob")
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        for _ in range(10):  # clients that go away before the answer
            before = routes.entered
            waiting = [asyncio.create_task(http.get("/test/wait", headers=headers)) for _ in range(3)]
            while routes.entered < before + 3:
                await asyncio.sleep(0.005)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            while server.services.access.concurrency._at_work:
                await asyncio.sleep(0.005)
        held = [asyncio.create_task(http.get("/test/wait", headers=headers)) for _ in range(3)]
        while routes.entered < 33:
            await asyncio.sleep(0.005)
        refused = await http.get("/test/wait", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_concurrent")
        assert refused.headers["retry-after"] == "1"
        assert "x-ratelimit-limit" in refused.headers
        assert (await http.get(ROUTE, headers=other)).status_code == 200
        routes.release.set()
        assert {(await task).status_code for task in held} == {200}


async def test_refusal_comes_before_the_body_is_read(
    slow: tuple[SlowRoutes, AppServer], alpha: str, bearer: Headers
) -> None:
    routes, server = slow
    port = int(server.base_url.rpartition(":")[2])

    async def first_line(authorization: str) -> str:
        """Return the status line for a request that announces a body and never sends it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /test/body HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n{authorization}\r\n\r\n"
        writer.write(head.encode())
        line = await asyncio.wait_for(reader.readline(), timeout=3)
        writer.close()
        return line.decode()

    assert " 401 " in await first_line("Authorization: Bearer x.y.z")
    assert " 403 " in await first_line(
        f"Authorization: {bearer('viewer', [alpha], scopes=['traces:read'])['Authorization']}"
    )
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        key = await limited_key(http, bearer)
        for _ in range(100):
            assert (await http.post("/test/body", headers=key, content=b"x")).status_code == 200
    assert " 429 " in await first_line(f"X-API-Key: {key['X-API-Key']}")
    assert routes.bodies_read == 100


async def test_limit_and_cache_lookup_share_one_round_trip(
    slow: tuple[SlowRoutes, AppServer], alpha: str, bearer: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = slow
    redis = server.services.redis.redis
    assert isinstance(redis, Redis)
    await redis.set("remembered", "answer")
    await server.services.access.state.task.stop()  # it asks Redis, too
    trips: list[str] = []
    calls = RedisLine.calls

    def counted(line: RedisLine, *args: Any) -> Any:
        trips.append("calls")
        return calls(line, *args)

    monkeypatch.setattr(RedisLine, "calls", counted)
    monkeypatch.setattr(RedisLine, "post", lambda *_: trips.append("post"))
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        headers = bearer("viewer", [alpha])
        await http.get("/test/lookup", headers=headers)
        trips.clear()
        answer = await http.get("/test/lookup", headers=headers)
        assert answer.json()["data"] == ["answer"]
        assert used(answer, 1200) == 2
        assert trips == ["calls"]
        failed = await http.get("/test/fails", headers=headers)
        assert failed.status_code == 500
        assert used(failed, 1200) == 1, "a handler that never asked the cache is limited all the same"


@pytest.fixture
def private_valkey(private_folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Valkey of this test's own, that it may freeze."""
    socket = private_folder / "valkey.sock"
    process = subprocess.Popen(
        [
            str(find_program(VALKEY)),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--dir",
            str(private_folder),
        ],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not socket.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"unix://{socket}", process
    os.kill(process.pid, signal.SIGCONT)
    process.terminate()
    process.wait(10)


async def test_frozen_redis_costs_a_request_no_more_than_its_time_out_and_heals(
    start_app: AppFactory, alpha: str, bearer: Headers, private_valkey: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, process = private_valkey
    server = await start_app(redis_url=url, redis_timeout=0.2)
    headers = bearer("viewer", [alpha])
    async with httpx.AsyncClient(base_url=server.base_url) as http:

        async def timed() -> tuple[float, httpx.Response]:
            started = time.monotonic()
            answer = await http.get(ROUTE, headers=headers)
            return time.monotonic() - started, answer

        assert "x-ratelimit-policy" not in (await timed())[1].headers
        os.kill(process.pid, signal.SIGSTOP)
        frozen = [await timed() for _ in range(12)]
        assert {answer.status_code for _, answer in frozen} == {200}
        assert {answer.headers["x-ratelimit-policy"] for _, answer in frozen} == {"degraded"}
        waits = sorted(wait for wait, _ in frozen)
        assert waits[-1] < 0.5, waits  # 0.2 s for Redis; the rest is a machine with other work
        assert sum(waits[:9]) < 0.5, "most requests do not wait at all"
        os.kill(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 5
        while "x-ratelimit-policy" in (await timed())[1].headers:
            assert time.monotonic() < deadline, "Redis is back and nobody asks it"
            await asyncio.sleep(0.1)


async def test_socket_is_admitted_before_its_handshake_and_asked_again_later(
    slow: tuple[SlowRoutes, AppServer], alpha: str, bearer: Headers
) -> None:
    _, server = slow
    address = server.base_url.replace("http", "ws") + "/test/socket"
    for headers, status in (({}, 401), ({"Authorization": "Bearer x.y.z"}, 401),
                            (bearer("viewer", [alpha], scopes=["traces:read"]), 403)):  # fmt: skip
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(address, additional_headers=headers)
        assert caught.value.response.status_code == status
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        key = await limited_key(http, bearer)
        async with websockets.connect(address, additional_headers=key) as ws:
            await ws.send("?")
            assert await ws.recv() == "cli"
            keys = (await http.get("/api/v1/keys", headers=bearer("admin", ["*"]))).json()["data"]
            await http.delete(f"/api/v1/keys/{keys[0]['key_id']}", headers=bearer("admin", ["*"]))
            await ws.send("?")
            assert await ws.recv() == "out"
