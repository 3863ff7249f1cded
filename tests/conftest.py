"""Real services for the tests: one private PostgreSQL and Valkey a run, one database a test.

The cluster is started once (by the controller when xdist is used), the schema is migrated once into a
template database, and each test clones that template: tests share nothing and may run in parallel.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sanic import Sanic

from server.access.access_token import issue_token
from server.access.principal import Role
from server.app import build_services, close_services, create_app, open_services
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.http.services import Services
from server.process.garbage_collection import paused_collection, spare_long_lived_objects
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.statements import statement
from tests.citus import citus_cluster
from tests.citus.citus_cluster import CitusCluster, is_on_citus
from tests.databases import Databases
from tests.quick_applications import compile_routers_once, read_certificates_once, read_paths_once, touch_up_once

TEMPLATE = "observatory_template"
JWT_SECRET = "a-secret-only-for-tests-0123456789abcdef"
# Nothing that a test stores has to survive the machine; durability has tests with settings of their own. A database
# that lives for a second needs no vacuum.
FAST_SETTINGS = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200",
    "autovacuum": "off",
}  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """Addresses of the services of this test run."""

    urls: EmbeddedUrls

    def url(self, database: str, kind: str = "database_url") -> str:
        """Return the URL of ``database`` for the login that ``kind`` names."""
        base: str = getattr(self.urls, kind)
        head, _, options = base.partition("?")
        return f"{head.rpartition('/')[0]}/{database}?{options}"


def memory_folder() -> str | None:
    """Return a folder in memory with room for the run, where cloning a database takes 15 ms instead of 500."""
    shared_memory = Path("/dev/shm")
    if os.access(shared_memory, os.W_OK) and shutil.disk_usage(shared_memory).free > 4 << 30:
        return str(shared_memory)
    return None


def other_postgres() -> Path | None:
    """Return the program to test with instead of the wheel's: ``make test-postgresql`` (PG_BIN=its folder)."""
    folder = os.environ.get("PG_BIN")
    return Path(folder).resolve() / "postgres" if folder else None


class RunningCluster:
    """Starts the services at the first need and stops them with the run."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._services: EmbeddedServices | CitusCluster | None = None
        self._cluster: Cluster | None = None

    def get(self) -> Cluster:
        if self._cluster is None:
            self._folder = Path(tempfile.mkdtemp(prefix="observatory-test-", dir=memory_folder()))
            self._folder.chmod(0o755)
            if is_on_citus():
                self._services = CitusCluster(self._folder, FAST_SETTINGS)
            else:
                self._services = EmbeddedServices(
                    self._folder / "data", postgres_settings=FAST_SETTINGS, postgres_program=other_postgres()
                )
            self._cluster = Cluster(self._services.start())
        return self._cluster

    def stop(self) -> None:
        if self._services is not None:
            self._services.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


_running = RunningCluster()


class ShareClusterWithWorkers:
    """Hooks that only exist while xdist is in use."""

    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["cluster"] = json.dumps(vars_of(_running.get().urls))


def vars_of(urls: EmbeddedUrls) -> dict[str, Any]:
    """Return the addresses as plain values, to hand them to another process."""
    return {name: getattr(urls, name) for name in EmbeddedUrls.__dataclass_fields__}


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ShareClusterWithWorkers())


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers more than there are processors: tests of processes spend a part of their time waiting.

    Measured on two processors, as the part of both that a whole run used: 166 % with one more, 174 % with two more, the
    latter beside other work that took its share.
    """
    return len(os.sched_getaffinity(0)) + 2


LONG_FOLDERS = ("process", "demo", "contract", "queries", "fairness", "packaging", "schema", "embedded", "plugin")
"""Folders with tests of many seconds."""


def _needs_database(item: pytest.Item) -> bool:
    return "cluster" in getattr(item, "fixturenames", ()) or "/citus/" in str(item.path)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Have the garbage collector leave alone what all tests import.

    Measured: a sixth of the processor time of tests, and a quarter of that of collecting them.
    """
    with paused_collection():
        result = yield
    spare_long_lived_objects()
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let long tests begin first: one that begins last keeps the run waiting while the other workers have nothing.

    On a cluster, tests that use no database are left out: they would only repeat what they say elsewhere. Those marked
    ``one_postgresql`` are skipped with their reason.
    """
    if is_on_citus():
        without = [item for item in items if not _needs_database(item)]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if _needs_database(item)]
        for item in items:
            if (mark := item.get_closest_marker("one_postgresql")) is not None:
                item.add_marker(pytest.mark.skip(reason=mark.args[0]))

    def place(item: pytest.Item) -> int:
        folder = item.nodeid.split("/")[1]
        return LONG_FOLDERS.index(folder) if folder in LONG_FOLDERS else len(LONG_FOLDERS)

    items.sort(key=place)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _running.stop()


compile_routers_once()
read_certificates_once()
read_paths_once()
touch_up_once()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The services of this run, started at the first use."""
    handed = getattr(request.config, "workerinput", {}).get("cluster")
    return Cluster(EmbeddedUrls(**json.loads(handed))) if handed else _running.get()


@pytest.fixture(scope="session")
def template_database(cluster: Cluster) -> str:
    """A migrated database that tests clone. Made once, whichever worker comes first."""
    import asyncio

    async def prepare() -> None:
        admin = await asyncpg.connect(cluster.url("postgres", "owner_url"))
        try:
            await admin.execute("SELECT pg_advisory_lock(4711)")
            if await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
                return
            anywhere, url = cluster.url("postgres", "owner_url"), cluster.url(f"{TEMPLATE}_new", "owner_url")
            if is_on_citus():
                await citus_cluster.make_database(anywhere, f"{TEMPLATE}_new")
            else:
                await admin.execute(f"CREATE DATABASE {TEMPLATE}_new")
            await migrate(url, distribution=citus_cluster.distribution())
            await make_partitions(url)
            if is_on_citus():
                await citus_cluster.close_database(anywhere, f"{TEMPLATE}_new")
                await citus_cluster.rename_database(anywhere, f"{TEMPLATE}_new", TEMPLATE)
            else:
                await admin.execute(f"ALTER DATABASE {TEMPLATE}_new RENAME TO {TEMPLATE}")
        finally:
            await admin.close()

    asyncio.run(prepare())
    return TEMPLATE


async def make_partitions(url: str) -> None:
    """Create the partitions of the weeks around today, which most tests need."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT ensure_trace_partition(now() + make_interval(weeks => week)) FROM generate_series(-5, 1) AS week"
        )
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def databases(cluster: Cluster) -> Iterator[Databases]:
    """The maker of the databases of tests."""
    made = Databases(cluster.url("postgres", "owner_url"))
    yield made
    made.close()


_numbers = itertools.count()


@pytest.fixture
def database_template(template_database: str) -> str:
    """The database that ``database_name`` clones; folders whose tests share a history override it."""
    return template_database


@pytest.fixture
async def database_name(cluster: Cluster, databases: Databases, database_template: str) -> AsyncIterator[str]:
    """A database of this test's own."""
    if is_on_citus():
        name = f"test_{os.getpid()}_{next(_numbers)}"
        anywhere = cluster.url("postgres", "owner_url")
        await citus_cluster.clone_database(anywhere, name, database_template)
        yield name
        await citus_cluster.drop_database(anywhere, name)
        return
    name = await databases.take(database_template)
    yield name
    databases.drop(name)


@pytest.fixture
def database_url(cluster: Cluster, database_name: str) -> str:
    """URL of the test's database as the server's login role."""
    return cluster.url(database_name)


@pytest.fixture
def owner_url(cluster: Cluster, database_name: str) -> str:
    """URL of the test's database as its owner (a superuser)."""
    return cluster.url(database_name, "owner_url")


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that sees everything: to look behind the server's back."""
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def redis_url(cluster: Cluster) -> str:
    """A Redis database for the test alone: emptied before, one of sixteen, chosen by worker."""
    from redis.asyncio import Redis

    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    base = cluster.urls.redis_url
    separator = "&" if "?" in base else "?"
    url = f"{base}{separator}db={int(worker) % 16}"
    redis = Redis.from_url(url)
    await redis.flushdb()
    await redis.aclose()
    return url


@pytest.fixture
def settings(database_url: str, cluster: Cluster, database_name: str, redis_url: str) -> Settings:
    """Settings of a server on this test's database."""
    return Settings(
        database_url=database_url,
        database_owner_url=cluster.url(database_name, "owner_url"),
        database_worker_url=cluster.url(database_name, "worker_url"),
        redis_url=redis_url,
        database_distribution=citus_cluster.distribution(),
        # A busy machine must not look like a lost Redis or PostgreSQL: tests of these set time-outs of their own.
        redis_timeout=2.0,
        acquire_timeout=15.0,
        statement_timeout=30.0,
        jwt_secret=JWT_SECRET,
        port=0,
    )


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """Opened services without an HTTP server."""
    built = build_services(settings)
    await open_services(built)
    yield built
    await close_services(built)


@dataclass
class AppServer:
    """The real application, listening in this process."""

    app: Sanic[Any, Any]
    base_url: str

    @property
    def services(self) -> Services:
        return self.app.ctx.services  # type: ignore[no-any-return]


AppFactory = Callable[..., Awaitable[AppServer]]


@pytest.fixture
async def start_app(settings: Settings) -> AsyncIterator[AppFactory]:
    """Starts servers on free ports: ``await start_app(setting=value, …)``; all are stopped after the test."""
    running: list[tuple[Sanic[Any, Any], Any]] = []
    Sanic.test_mode = True

    async def start(**changes: Any) -> AppServer:
        app = create_app(replace(settings, **changes), name=f"test_{secrets.token_hex(6)}")
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server: Any = await app.create_server(sock=listener, return_asyncio_server=True)
        await server.startup()
        await server.before_start()
        await server.after_start()
        await server.start_serving()
        running.append((app, server))
        return AppServer(app, f"http://127.0.0.1:{port}")

    yield start
    for app, server in reversed(running):
        await server.before_stop()
        await server.close()
        for connection in list(server.connections):
            connection.abort()
        await server.after_stop()
        Sanic.unregister_app(app)


@pytest.fixture
async def app_server(start_app: AppFactory) -> AppServer:
    """One server with the test's settings."""
    return await start_app()


@pytest.fixture
async def client(app_server: AppServer) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of ``app_server`` without credentials."""
    async with httpx.AsyncClient(base_url=app_server.base_url, timeout=30) as http:
        yield http


TokenMaker = Callable[..., str]


@pytest.fixture
def token(settings: Settings) -> TokenMaker:
    """Makes access tokens: ``token("viewer", ["alpha"], scopes=[…])``."""

    def make(
        role: str = "admin", projects: Sequence[str] = ("*",), scopes: Sequence[str] | None = None, **more: Any
    ) -> str:
        return issue_token(settings, role=Role(role), projects=projects, scopes=scopes, **more)

    return make


@pytest.fixture
def bearer(token: TokenMaker) -> Callable[..., dict[str, str]]:
    """Makes request headers with an access token; takes what ``token`` takes."""

    def make(*args: Any, **kwargs: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(*args, **kwargs)}"}

    return make


ProjectMaker = Callable[[str], Awaitable[str]]


@pytest.fixture
async def project(owner: asyncpg.Connection) -> ProjectMaker:
    """Creates projects: ``await project("alpha")``."""

    async def make(project_id: str) -> str:
        await owner.execute(statement("create_project"), project_id, project_id)
        return project_id

    return make


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder with a short path that other accounts can reach: for services of a test's own."""
    folder = Path(tempfile.mkdtemp(prefix="obs-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
