"""Streams through real proxies: nginx as it comes and as docs/how-to/behind-a-proxy.md has it, and nginx, HAProxy and
Caddy by their samples. Skipped without the programs.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from server.errors import DatabaseUnavailable
from server.export import pages
from server.queries.lists.list_reader import list_spans
from tests.conftest import AppServer
from tests.export.test_export_stream import EXPORT
from tests.live.conftest import store_live, tail
from tests.live.test_live_socket import next_event, open_socket
from tests.mcp.test_mcp import agent, call
from tests.span_factory import make_span, store

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "behind-a-proxy.md"
SAMPLES = PAGE.parent / "samples"
BARE = "server { listen %(port)d; location / { proxy_pass http://127.0.0.1:%(upstream)d; } }"
CONFIGURATION = """
daemon off; master_process off; pid %(folder)s/pid; error_log %(folder)s/error.log;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy; fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi; scgi_temp_path %(folder)s/scgi;
    %(server)s
}
"""


def documented() -> str:
    """Return the block of the page, without TLS and for the ports of the test."""
    found = re.search(r"## nginx\s+```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    text = re.sub(r"\n +(http2|ssl\w*) [^;]+;", "", found[1]).replace("listen 443 ssl;", "listen %(port)d;")
    return text.replace("127.0.0.1:8080", "127.0.0.1:%(upstream)d")


def sample(name: str) -> str:
    """Return a sample for the ports of the test; both machines behind it are the one server that there is."""
    text = (SAMPLES / name).read_text(encoding="utf-8").replace("%", "%%").replace("8443", "%(port)d")
    return re.sub(r"127\.0\.0\.1:808[12]", "127.0.0.1:%(upstream)d", text)


def caddyfile() -> str:
    """Return Caddy's sample without TLS, and without the address at which Caddy takes orders."""
    text = sample("Caddyfile").replace("observatory.example.org", "http://127.0.0.1:%(port)d")
    # It counts what each machine has to do, so that one machine cannot be there twice.
    return "{\n\tadmin off\n}\n" + text.replace(
        "127.0.0.1:%(upstream)d 127.0.0.1:%(upstream)d", "127.0.0.1:%(upstream)d"
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """A program, its configuration, and its arguments; both have ``%(folder)s`` and the ports in them."""

    program: str
    configuration: Callable[[], str]
    arguments: tuple[str, ...]


NGINX = ("-p", "%(folder)s", "-c", "%(folder)s/conf")
KINDS = {
    "bare nginx": Kind("nginx", lambda: CONFIGURATION.replace("%(server)s", BARE), NGINX),
    "nginx of the page": Kind("nginx", lambda: CONFIGURATION.replace("%(server)s", documented()), NGINX),
    "nginx of the sample": Kind("nginx", lambda: CONFIGURATION.replace("%(server)s", sample("nginx.conf")), NGINX),
    # For 20,000 connections it wants more files than a test may open.
    "haproxy": Kind(
        "haproxy",
        lambda: sample("haproxy.cfg").replace("maxconn 20000", "maxconn 500"),
        ("-db", "-f", "%(folder)s/conf"),
    ),
    "caddy": Kind("caddy", caddyfile, ("run", "--adapter", "caddyfile", "--config", "%(folder)s/conf")),
}


class Proxy:
    """A running proxy."""

    def __init__(self, kind: Kind, program: str, folder: Path, upstream: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        values = {"folder": folder, "port": self.port, "upstream": upstream}
        (folder / "conf").write_text(kind.configuration() % values)
        self.base_url = f"http://127.0.0.1:{self.port}"
        homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        self.process = subprocess.Popen(
            [program, *(word % values for word in kind.arguments)],
            env={**os.environ, **homes}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    return
                except OSError:
                    assert self.process.poll() is None
                    await asyncio.sleep(0.02)

    def temporary_files(self) -> list[str]:
        """Return the files that nginx keeps answers in."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        return [name for name in map(os.readlink, folder.iterdir()) if "/proxy/" in name]


@pytest.fixture(params=KINDS)
async def proxy(request: pytest.FixtureRequest, app_server: AppServer, tmp_path: Path) -> AsyncIterator[Proxy]:
    kind = KINDS[request.param]
    program = shutil.which(kind.program, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"{kind.program} is not installed")
    running = Proxy(kind, program, tmp_path, int(app_server.base_url.rpartition(":")[2]))
    await running.ready()
    yield running
    running.process.kill()  # Caddy would wait for the streams that are open
    running.process.wait(30)


async def test_a_slow_client_makes_a_proxy_keep_nothing_on_disk_and_gets_everything(
    proxy: Proxy, app_server: AppServer, project: Any, bearer: Any
) -> None:
    await project("alpha")
    headers = bearer("developer", ["alpha"])
    await store(app_server.services, "alpha", [make_span(input_text=f"{n}" * 200_000) for n in range(60)])
    address = urlsplit(proxy.base_url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((address.hostname, address.port))
    head = f"GET {EXPORT}?fields=all HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
    with raw:
        await asyncio.to_thread(raw.sendall, head.encode())
        began = await asyncio.to_thread(raw.recv, 1)
        await asyncio.sleep(0.3)  # a proxy that buffers has a file by now
        assert proxy.temporary_files() == []

        def rest() -> bytes:
            return b"".join(iter(lambda: raw.recv(1 << 20), b""))

        body = began + await asyncio.to_thread(rest)
    # HAProxy sends chunks to everybody.
    assert body.removesuffix(b"\r\n0\r\n\r\n").rstrip().endswith(b"}}")
    assert b'"export_trailer":{"rows":60' in body


async def test_a_cut_export_looks_cut_behind_it(
    proxy: Proxy,
    request: pytest.FixtureRequest,
    app_server: AppServer,
    project: Any,
    bearer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await project("alpha")
    await store(app_server.services, "alpha", [make_span() for _ in range(120)])
    calls = 0

    async def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DatabaseUnavailable()
        return await list_spans(*args)

    monkeypatch.setattr(pages, "RETRY_SECONDS", ())
    monkeypatch.setattr(pages, "list_spans", failing)
    async with (
        httpx.AsyncClient(base_url=proxy.base_url, headers=bearer("developer", ["alpha"])) as http,
        http.stream("GET", EXPORT) as answer,
    ):
        assert answer.status_code == 200
        assert "x-export-id" in answer.headers
        if "caddy" in request.node.callspec.id:
            # Caddy up to 2.6 ends what was cut as if it were whole: only the trailer tells.
            with suppress(httpx.TransportError):
                assert b"export_trailer" not in await answer.aread()
            return
        with pytest.raises(httpx.TransportError):
            await answer.aread()


async def test_events_come_at_once_through_it(proxy: Proxy, app_server: AppServer, project: Any, bearer: Any) -> None:
    await project("alpha")
    span = make_span()
    async with (
        httpx.AsyncClient(base_url=proxy.base_url, timeout=20) as http,
        tail(http, bearer("developer", ["alpha"])) as found,
    ):
        await store_live(app_server.services, "alpha", span)
        await found.until(lambda it: it.spans == [span.span_id], seconds=30)


async def test_a_websocket_passes_where_the_upgrade_is_passed_on(
    proxy: Proxy, request: pytest.FixtureRequest, app_server: AppServer, project: Any, bearer: Any
) -> None:
    await project("alpha")
    headers = bearer("developer", ["alpha"])
    if "bare" in request.node.callspec.id:
        async with httpx.AsyncClient(base_url=proxy.base_url, headers=headers) as http:
            answer = await http.get("/api/v1/traces/ws", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        assert answer.status_code == 426
        assert "proxy" in answer.json()["detail"]
        return
    behind = AppServer(app_server.app, proxy.base_url)
    async with open_socket(behind, headers) as connection:
        await next_event(connection, "heartbeat")
        span = make_span()
        await store_live(app_server.services, "alpha", span)
        assert (await next_event(connection, "span"))["data"]["span_id"] == span.span_id


async def test_agents_get_their_answers_through_it(
    proxy: Proxy, app_server: AppServer, project: Any, bearer: Any
) -> None:
    await project("alpha")
    await store(app_server.services, "alpha", [make_span() for _ in range(3)])
    async with agent(AppServer(app_server.app, proxy.base_url), bearer("developer", ["alpha"])) as client:
        assert '"value":3' in await call(client, "query_metrics", metric="calls")
