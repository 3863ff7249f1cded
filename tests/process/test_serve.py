"""The server as a process: it drains, it replaces what dies, it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from server.settings import Settings
from tests.conftest import ProjectMaker
from tests.process.conftest import Starter
from tests.process.program import Program, descendants, wait_until_gone

Bearer = Callable[..., dict[str, str]]


class HalfRequest:
    """A POST /v1/traces whose body has begun and not ended: a request in flight for as long as a test likes."""

    def __init__(self, server: Program, headers: dict[str, str]) -> None:
        host, port = server.base_url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        lines = [
            "POST /v1/traces HTTP/1.1",
            f"Host: {host}",
            "Content-Type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
            "Content-Length: 21",
        ]
        self._socket.sendall(("\r\n".join(lines) + '\r\n\r\n{"resourceSpans"').encode())
        time.sleep(0.3)

    def __enter__(self) -> HalfRequest:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def finish(self) -> bytes:
        """Send the rest; return the whole answer, or nothing if the connection is gone."""
        answer = b""
        with suppress(ConnectionError):
            self._socket.sendall(b": []}")
            while part := self._socket.recv(65536):
                answer += part
        return answer


def wait_until_refused(server: Program, seconds: float = 10.0) -> None:
    """Fail if new connections are still accepted after that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            server.get("/live")
        except httpx.TransportError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_sigterm_lets_a_running_request_finish_and_refuses_new_ones(
    start: Starter, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("shop")
    server = start("--workers", "2")
    with HalfRequest(server, bearer("developer", ["shop"])) as request:
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server)
        answer = request.finish()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert server.process.wait(10) == 0


async def test_before_it_refuses_connections_it_says_not_ready(start: Starter) -> None:
    server = start(OBSERVATORY_DRAIN_DELAY="1.5")
    assert server.get("/ready").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    answer = server.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["draining"] == "yes"
    assert answer.headers["connection"] == "close"
    assert server.get("/live").status_code == 200
    assert server.process.wait(10) == 0


async def test_a_request_longer_than_the_drain_is_cut_off(
    start: Starter, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("shop")
    server = start(OBSERVATORY_DRAIN_TIMEOUT="1")
    with HalfRequest(server, bearer("developer", ["shop"])) as request:
        started = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - started < 5
        assert request.finish() == b""


async def test_a_second_signal_ends_it_at_once(start: Starter, project: ProjectMaker, bearer: Bearer) -> None:
    await project("shop")
    server = start()
    below = descendants(server.process.pid)
    with HalfRequest(server, bearer("developer", ["shop"])):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        started = time.monotonic()
        assert server.stop(signal.SIGINT) == 1
        assert time.monotonic() - started < 2
    wait_until_gone(below)


async def test_a_killed_server_process_is_replaced_while_the_others_serve(start: Starter) -> None:
    server = start("--workers", "2")
    server.wait_for("server process serves", times=2)
    victim, survivor = server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    wait_until_gone({victim})
    server.wait_for("server process ended, another follows")
    statuses = {server.get("/live").status_code for _ in range(20)}
    assert statuses == {200}
    deadline = time.monotonic() + 2
    while len(set(server.worker_pids()) - {victim}) < 2:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.02)
    assert survivor in server.worker_pids()


async def test_metrics_are_those_of_all_server_processes(start: Starter) -> None:
    server = start("--workers", "2")
    for _ in range(30):
        server.get("/live")
    counted = [
        float(line.rsplit(" ", 1)[1])
        for line in server.get("/metrics").text.splitlines()
        if line.startswith("http_requests_total") and 'route="/live"' in line
    ]
    assert sum(counted) >= 30


async def test_a_frozen_server_process_is_replaced_and_a_slow_one_is_not(start: Starter) -> None:
    server = start("--workers", "2")
    server.wait_for("server process serves", times=2)
    frozen, other = server.worker_pids()
    os.kill(other, signal.SIGSTOP)
    time.sleep(2)
    os.kill(other, signal.SIGCONT)
    os.kill(frozen, signal.SIGSTOP)
    server.wait_for("server process does not answer", seconds=20)
    server.wait_for("server process serves", times=3)
    assert other in server.worker_pids()
    assert frozen not in server.worker_pids()
    for _ in range(20):
        assert server.get("/live").status_code == 200


async def test_metrics_on_the_admin_port_are_those_of_all_server_processes(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start("--workers", "2", OBSERVATORY_ADMIN_PORT=str(port))
    assert server.get("/metrics").status_code == 404
    # A process counts a request just after its answer, and any process may answer on the admin port.
    deadline = time.monotonic() + 10
    while True:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        assert page.status_code == 200
        if "http_requests_total" in page.text:
            break
        assert time.monotonic() < deadline, page.text


async def test_killing_the_supervisor_leaves_no_process_behind(start: Starter) -> None:
    server = start("--workers", "2")
    below = descendants(server.process.pid)
    assert below
    server.process.kill()
    server.process.wait()
    wait_until_gone(below)


async def test_private_services_go_with_a_killed_supervisor(private_folder: Path) -> None:
    settings = {"OBSERVATORY_DATA_DIR": str(private_folder / "data"), "OBSERVATORY_PORT": "0"}
    with Program(private_folder, ["serve"], settings) as server:
        server.wait_until_serving()
        assert server.get("/ready").json()["database"] == "ok"
        below = descendants(server.process.pid)
        server.process.kill()
        server.process.wait()
        wait_until_gone(below)
    with Program(private_folder, ["serve"], settings) as server:
        server.wait_until_serving()
        assert server.get("/ready").json()["status"] == "ok"
        below = descendants(server.process.pid)
        assert server.stop(signal.SIGINT) == 0
        wait_until_gone(below)


async def test_it_starts_without_postgresql_and_redis_and_says_not_ready(start: Starter, private_folder: Path) -> None:
    """A store that is away never keeps the server from starting."""
    nowhere = f"postgresql://observatory@/none?host={private_folder}"
    server = start(
        DATABASE_URL=nowhere,
        DATABASE_OWNER_URL=nowhere,
        DATABASE_WORKER_URL=nowhere,
        REDIS_URL=f"unix://{private_folder}/none.sock",
    )
    assert server.get("/live").status_code == 200
    answer = server.get("/ready")
    assert answer.status_code == 503
    assert (answer.json()["database"], answer.json()["redis"]) == ("unreachable", "unreachable")


async def test_it_becomes_ready_when_postgresql_appears(
    settings: Settings, tmp_path: Path, serve_settings: dict[str, str], private_folder: Path
) -> None:
    """Ready within five seconds of the database's return, without a restart."""
    directory = private_folder / "sockets"
    given = {
        name: value.replace(value.partition("host=")[2].partition("&")[0], str(directory))
        if "DATABASE" in name
        else value
        for name, value in serve_settings.items()
    }
    with Program(tmp_path, ["serve"], given) as server:
        server.wait_until_serving()
        assert server.get("/ready").status_code == 503
        socket_dir = httpx.QueryParams(settings.database_url.partition("?")[2])["host"]
        directory.symlink_to(socket_dir)
        deadline = time.monotonic() + 5
        while server.get("/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_two_servers_do_not_share_a_port_by_accident(
    start: Starter, serve_settings: dict[str, str], tmp_path: Path
) -> None:
    port = start("--workers", "2").base_url.rpartition(":")[2]
    with Program(tmp_path, ["serve", "--workers", "2", "--port", port], serve_settings) as second:
        try:
            assert second.process.wait(20) == 1
        except subprocess.TimeoutExpired:
            pytest.fail("the second server took the port as well")
        assert "in use" in second.output
