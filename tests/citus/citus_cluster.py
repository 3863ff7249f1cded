"""A private Citus cluster of one coordinator and two workers, and a Valkey.

The nodes are three of the program's own private PostgreSQLs, from the programs in ``CITUS_BIN``: a PostgreSQL 18 with
the extension citus installed. They reach each other through unix sockets, so no port is opened.

Tests share nothing: each has databases of the same name on all nodes, clones of a template there. Citus keeps its
knowledge of tables and nodes in tables of its own, so it is cloned with them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

from server.distribution_settings import CITUS, NONE
from server.embedded.account import Account, choose_account
from server.embedded.binaries import VALKEY, find_program
from server.embedded.data_dir import DataDir, EmbeddedUrls
from server.embedded.postgres import SUPERUSER, EmbeddedPostgres
from server.embedded.valkey import EmbeddedValkey

COORDINATOR = "c"
WORKERS = ("w1", "w2")
NODES = (COORDINATOR, *WORKERS)
PROGRAMS = "CITUS_BIN"
SWITCH = "TEST_DISTRIBUTION"
"""In the environment of a test run: ``citus`` runs its tests on such a cluster."""
SHARDS = 2
"""One for each worker: each test clones the files of all of them."""

SETTINGS = {
    "shared_preload_libraries": "citus",
    "max_connections": "300",
    "max_prepared_transactions": "200",
    "max_worker_processes": "40",
    "max_locks_per_transaction": "512",
    "shared_buffers": "64MB",
    "citus.shard_count": str(SHARDS),
    "citus.enable_statistics_collection": "off",
    # The nodes of a test run are found by a unix socket, where there is nothing to encrypt.
    "citus.node_conninfo": "sslmode=disable",
    "citus.max_adaptive_executor_pool_size": "4",
    "citus.recover_2pc_interval": "2s",
    "citus.defer_shard_delete_interval": "-1",
    "citus.background_task_queue_interval": "-1",
    # Databases live for seconds; those tests that need statistics take them.
    "autovacuum": "off",
}


def distribution() -> str:
    """Return the distribution that the tests of this run are on."""
    return os.environ.get(SWITCH, NONE)


def is_on_citus() -> bool:
    """Return whether the tests of this run are on a cluster."""
    return distribution() == CITUS


class CitusCluster:
    """Nodes in a folder, for as long as this object lives."""

    def __init__(self, folder: Path, settings: Mapping[str, str], stronger: Mapping[str, str] | None = None) -> None:
        """``stronger``: settings that come before those of the tests, which come before ``settings``."""
        self._folder = folder
        self._settings = {**settings, **SETTINGS, **(stronger or {})}
        self._held: list[DataDir] = []
        self.nodes: dict[str, EmbeddedPostgres] = {}
        self._valkey: EmbeddedValkey | None = None

    def start(self) -> EmbeddedUrls:
        """Start everything; returns the addresses of the coordinator."""
        folder = Path(os.environ[PROGRAMS])
        account = choose_account(self._folder / "none", os.environ)
        account.open_way_to(folder, print)
        for name in NODES:
            self._start_node(name, folder / "postgres", account)
        self._valkey = EmbeddedValkey(find_program(VALKEY), self._held[0], account)
        self._valkey.start()
        coordinator = self.nodes[COORDINATOR]
        return EmbeddedUrls(
            database_url=coordinator.url("observatory_app"),
            owner_url=coordinator.url(SUPERUSER),
            worker_url=coordinator.url("observatory_background"),
            redis_url=self._valkey.url,
            jwt_secret=self._held[0].jwt_secret(),
        )

    def _start_node(self, name: str, program: Path, account: Account) -> None:
        data = DataDir(self._folder / name)
        data.lock()
        self._held.append(data)
        data.let_through(account)
        account.open_way_to(data.path, print)
        settings = {**self._settings, "citus.local_hostname": str(data.socket_dir(account))}
        self.nodes[name] = EmbeddedPostgres(program, data, account, settings=settings, announce=print)
        self.nodes[name].start()

    def stop(self) -> None:
        """Stop everything; harmless if nothing runs."""
        if self._valkey is not None:
            self._valkey.stop()
        for node in self.nodes.values():
            node.stop()
        for data in self._held:
            data.unlock()
        self.nodes.clear()
        self._held.clear()


def socket_of(url: str) -> str:
    """Return the folder of the socket that ``url`` leads to."""
    return parse_qs(urlsplit(url).query)["host"][0]


def on_node(url: str, name: str) -> str:
    """Return the URL of the same database on another node; ``url`` leads to the coordinator."""
    here = Path(socket_of(url))
    there = here.parent.parent / name / here.name
    return url.replace(quote(str(here), safe=""), quote(str(there), safe=""))


async def make_database(owner_url: str, name: str) -> None:
    """Make an empty cluster of databases called ``name``; ``owner_url`` leads to any database of the coordinator."""
    for node in NODES:
        await _execute(on_node(owner_url, node), f"CREATE DATABASE {name}")
        await _execute(of_database(on_node(owner_url, node), name), "CREATE EXTENSION citus")
    coordinator = await asyncpg.connect(of_database(owner_url, name))
    try:
        await coordinator.execute("SELECT citus_set_coordinator_host($1, 5432)", socket_of(owner_url))
        for node in WORKERS:
            await coordinator.execute("SELECT citus_add_node($1, 5432)", socket_of(on_node(owner_url, node)))
    finally:
        await coordinator.close()


async def close_database(owner_url: str, name: str) -> None:
    """Let nobody into ``name``, so that it can be cloned; Citus' own daemon is in every database."""
    for node in NODES:
        await _execute(
            on_node(owner_url, node),
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
        )


async def rename_database(owner_url: str, name: str, new_name: str) -> None:
    """Rename on every node, the coordinator last."""
    for node in reversed(NODES):
        await _execute(on_node(owner_url, node), f"ALTER DATABASE {name} RENAME TO {new_name}")


async def clone_database(owner_url: str, name: str, template: str) -> None:
    """Clone ``template`` on every node."""
    for node in NODES:
        await _execute(on_node(owner_url, node), f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


async def drop_database(owner_url: str, name: str) -> None:
    """Drop on every node, the coordinator first: its daemon would look for the others."""
    for node in NODES:
        for seconds in (0.2, 1.0, 5.0):
            try:
                await _execute(on_node(owner_url, node), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                break
            except asyncpg.ObjectInUseError:
                await asyncio.sleep(seconds)  # the daemon of Citus has come back meanwhile


async def shut_out(url: str, node: str) -> None:
    """Make ``node`` refuse all connections to the database of ``url``, and end those that there are."""
    name = urlsplit(url).path.removeprefix("/")
    await _execute(
        of_database(on_node(url, node), "postgres"),
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
    )


async def let_in(url: str, node: str) -> None:
    """Undo :func:`shut_out`."""
    name = urlsplit(url).path.removeprefix("/")
    await _execute(of_database(on_node(url, node), "postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def of_database(url: str, name: str) -> str:
    """Return ``url`` with another database."""
    head, _, options = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{options}"


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for text in statements:
            await connection.execute(text)
    finally:
        await connection.close()


def on_database(urls: EmbeddedUrls, name: str) -> EmbeddedUrls:
    """Return ``urls`` with another database."""
    return replace(
        urls, **{kind: of_database(getattr(urls, kind), name) for kind in ("database_url", "owner_url", "worker_url")}
    )
