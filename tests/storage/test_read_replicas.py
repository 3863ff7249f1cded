"""Reads from a real streaming replica: what was answered is seen, staleness is told, a lost replica is left out."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from server.embedded import EmbeddedServices, EmbeddedUrls
from server.http.services import Services
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.read_replicas import SpreadReads
from tests.conftest import JWT_SECRET, AppFactory, AppServer, make_partitions, memory_folder
from tests.span_factory import make_span, store
from tests.storage.replica import StreamingReplica

SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "32MB"}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[EmbeddedUrls, StreamingReplica]]:
    """The primary's addresses, and its replica."""
    folder = Path(tempfile.mkdtemp(prefix="obs-replica-", dir=memory_folder()))
    folder.chmod(0o755)
    primary = EmbeddedServices(folder / "primary", postgres_settings=SETTINGS)
    urls = primary.start()
    try:
        asyncio.run(migrate(urls.owner_url))
        asyncio.run(make_partitions(urls.owner_url))
        primary.stop()
        (folder / "replica").mkdir()
        replica = StreamingReplica(primary, urls, folder / "replica")
        urls = primary.start()
        try:
            replica.start()
            yield urls, replica
        finally:
            replica.stop()
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def owner_url(pair: tuple[EmbeddedUrls, StreamingReplica]) -> str:
    return pair[0].owner_url


@pytest.fixture
def settings(pair: tuple[EmbeddedUrls, StreamingReplica], redis_url: str) -> Settings:
    urls, replica = pair
    return Settings(
        database_url=urls.database_url,
        database_owner_url=urls.owner_url,
        database_worker_url=urls.worker_url,
        database_read_urls=(replica.url(urls.database_url),),
        redis_url=redis_url,
        # A busy machine must look neither like a lost Redis nor like a full pool.
        redis_timeout=10.0,
        acquire_timeout=20.0,
        statement_timeout=30.0,
        cache_enabled=False,
        jwt_secret=JWT_SECRET,
        port=0,
    )


@pytest.fixture
async def on_replica(pair: tuple[EmbeddedUrls, StreamingReplica]) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the replica's superuser."""
    connection = await asyncpg.connect(pair[1].url(pair[0].owner_url))
    yield connection
    await connection.execute("SELECT pg_wal_replay_resume()")
    await connection.close()


async def until_used(services: Services) -> None:
    """Wait until the replica takes reads."""
    reads = services.reads
    assert isinstance(reads, SpreadReads)
    async with asyncio.timeout(60):
        while not any(replica.is_here for replica in reads._replicas):
            await asyncio.sleep(0.01)


@pytest.fixture
async def server(start_app: AppFactory) -> AppServer:
    started = await start_app()
    await until_used(started.services)
    return started


_limits = itertools.count(100)


async def listed(
    server: AppServer, headers: dict[str, str], project: str, *, limit: int = 100
) -> tuple[set[str], dict[str, Any]]:
    """Return the traces of ``project`` as ``server`` lists them, and ``meta``."""
    async with httpx.AsyncClient(base_url=server.base_url, headers=headers, timeout=60) as http:
        answer = await http.get("/api/v1/traces", params={"project_id": project, "limit": limit})
    assert answer.status_code == 200, answer.text
    return {row["trace_id"] for row in answer.json()["data"]}, answer.json()["meta"]


async def test_a_replica_takes_reads_and_shows_what_another_process_has_just_stored(
    server: AppServer, start_app: AppFactory, project: Any, bearer: Any
) -> None:
    other = await start_app(database_read_urls=())
    name = await project("readers")
    headers = bearer("developer", [name])
    stored = set()
    for _ in range(12):
        span = make_span()
        await store(other.services, name, span)
        stored.add(span.trace_id)
        found, meta = await listed(server, headers, name)
        assert found == stored
        assert meta["stale_seconds"] == 0
    async with asyncio.timeout(60):
        while meta["read_from"] != "replica":  # a slow machine may lag behind while there are commits
            found, meta = await listed(server, headers, name)
            assert found == stored
    _, meta = await listed(other, headers, name)
    assert "read_from" not in meta


async def test_a_replica_that_lags_is_passed_over(
    server: AppServer, project: Any, bearer: Any, on_replica: asyncpg.Connection
) -> None:
    name = await project("laggards")
    await on_replica.execute("SELECT pg_wal_replay_pause()")
    span = make_span()
    await store(server.services, name, span)
    found, meta = await listed(server, bearer("developer", [name]), name)
    assert found == {span.trace_id}
    assert meta["read_from"] == "primary"


async def test_staleness_is_bounded_told_not_cached_and_never_hides_own_writes(
    start_app: AppFactory, project: Any, bearer: Any, on_replica: asyncpg.Connection
) -> None:
    other, server = await start_app(), await start_app(database_read_staleness=300.0, cache_enabled=True)
    await until_used(server.services)
    name, headers = await project("patient"), bearer("developer", ["patient"])
    await store(other.services, name, make_span())
    async with asyncio.timeout(60):
        while len((await listed(server, headers, name))[0]) != 1:
            await asyncio.sleep(0.05)
    await on_replica.execute("SELECT pg_wal_replay_pause()")
    await store(other.services, name, make_span())
    await other.services.freshness.edited(name, datetime.now(UTC) - timedelta(minutes=20), datetime.now(UTC))
    await other.services.freshness.close()
    async with asyncio.timeout(60):
        while True:  # the watch of a slow machine may leave the replica out for a moment
            limit = next(_limits)
            found, meta = await listed(server, headers, name, limit=limit)
            assert len(found) == (1 if meta["read_from"] == "replica" else 2)
            if meta["read_from"] == "replica":
                break
    assert 0 < meta["stale_seconds"] <= 300
    assert (await listed(server, headers, name, limit=limit))[1]["cached"] is False, "a stale answer is not for others"
    await store(server.services, name, make_span())
    found, meta = await listed(server, headers, name)
    assert (len(found), meta["read_from"], meta["stale_seconds"]) == (3, "primary", 0)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_a_lost_replica_costs_no_answer_and_is_used_again(
    server: AppServer, pair: tuple[EmbeddedUrls, StreamingReplica], project: Any, bearer: Any, fault: str
) -> None:
    _, replica = pair
    name = await project(f"lost-{fault}")
    headers = bearer("developer", [name])
    await listed(server, headers, name)
    if fault == "killed":
        replica.kill()
    else:
        replica.signal(signal.SIGSTOP)
    try:
        for _ in range(5):
            span = make_span()
            await store(server.services, name, span)
            found, meta = await listed(server, headers, name)
            assert span.trace_id in found
            assert meta["read_from"] == "primary"
        reads = server.services.reads
        assert isinstance(reads, SpreadReads)
        async with asyncio.timeout(60):
            while any(item.is_here for item in reads._replicas):
                await asyncio.sleep(0.01)
    finally:
        if fault == "killed":
            replica.start()
        else:
            replica.signal(signal.SIGCONT)
    await until_used(server.services)
    assert (await listed(server, headers, name))[1]["stale_seconds"] == 0


async def test_what_is_no_replica_of_the_primary_is_left_out(
    start_app: AppFactory, cluster: Any, template_database: str, pair: tuple[EmbeddedUrls, StreamingReplica]
) -> None:
    """Another cluster's database, the primary itself, and an address where nobody is."""
    urls = (cluster.url(template_database), pair[0].database_url, "postgresql://nobody@127.0.0.1:1/none")
    started = await start_app(database_read_urls=urls)
    reads = started.services.reads
    assert isinstance(reads, SpreadReads)
    for replica in reads._replicas:
        async with asyncio.timeout(60):
            for _ in range(2):
                await replica.looked()
        assert not replica.is_here
