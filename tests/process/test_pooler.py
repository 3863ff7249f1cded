"""A pooler between the server and PostgreSQL: one that keeps sessions works, any other is refused with the reason."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import asyncpg
import pytest

from server.storage.session_check import NoSessions, check_sessions
from tests.conftest import Cluster

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIG = """
[databases]
* = host={sockets} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
ignore_startup_parameters = {ignored}
"""
Starter = Callable[..., str]


@pytest.fixture
def pgbouncer(cluster: Cluster, template_database: str, private_folder: Path) -> Iterator[Starter]:
    """Start a PgBouncer before the run's PostgreSQL: ``pgbouncer(mode, ignored)`` returns the address through it."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    sockets = Path(unquote(cluster.urls.owner_url.partition("host=")[2].partition("&")[0]))
    account = pwd.getpwuid(sockets.stat().st_uid)
    running: list[subprocess.Popen[bytes]] = []

    def start(mode: str, ignored: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        config, users = private_folder / "pgbouncer.ini", private_folder / "users.txt"
        users.write_text('"observatory_app" ""\n')
        config.write_text(CONFIG.format(sockets=sockets, port=port, users=users, mode=mode, ignored=ignored))
        change = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        running.append(subprocess.Popen([str(PGBOUNCER), str(config)], stderr=subprocess.DEVNULL, **change))  # type: ignore[call-overload]
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return f"postgresql://observatory_app@127.0.0.1:{port}/{template_database}"

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.kill()
        process.wait()


ALL = "role, statement_timeout, lock_timeout, idle_in_transaction_session_timeout, jit"


@pytest.mark.parametrize(
    ("mode", "ignored", "reason"),
    [
        ("transaction", "", "refuses what the server sets"),
        ("session", "", "refuses what the server sets"),
        ("transaction", ALL, "drops what the server sets"),
        ("session", ALL, "drops what the server sets"),
    ],
)
async def test_a_pooler_that_loses_settings_is_refused(
    pgbouncer: Starter, mode: str, ignored: str, reason: str
) -> None:
    with pytest.raises(NoSessions, match=reason):
        await check_sessions(pgbouncer(mode, ignored), "observatory_api", variable="DATABASE_URL")


@pytest.mark.parametrize(("mode", "is_refused"), [("transaction", True), ("session", False)])
async def test_connections_lent_by_transaction_are_refused_and_sessions_are_not(
    pgbouncer: Starter, owner: asyncpg.Connection, mode: str, is_refused: bool
) -> None:
    """With a login that has the settings by itself, so that nothing is lost on the way."""
    url = pgbouncer(mode, ALL).replace("/observatory_template", f"/{await owner.fetchval('SELECT current_database()')}")
    database = await owner.fetchval("SELECT current_database()")
    for setting in ("role = 'observatory_api'", "statement_timeout = '5s'"):
        await owner.execute(f"ALTER ROLE observatory_app IN DATABASE {database} SET {setting}")
    if is_refused:
        with pytest.raises(NoSessions, match="lends connections by transaction"):
            await check_sessions(url, "observatory_api", variable="DATABASE_URL")
    else:
        await check_sessions(url, "observatory_api", variable="DATABASE_URL")


async def test_direct_sessions_and_a_database_that_is_away_are_no_reason_to_refuse(database_url: str) -> None:
    await check_sessions(database_url, "observatory_api", variable="DATABASE_URL")
    await check_sessions("postgresql://nobody@127.0.0.1:1/none", "observatory_api", variable="DATABASE_URL")
