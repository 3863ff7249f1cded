"""The ledger on a cluster: nodes, backends and server processes end; the books agree (LEDGER_KILLS, LEDGER_SEED)."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import pytest

from server.distribution_settings import CITUS
from server.embedded import EmbeddedUrls
from server.schema.migrate import migrate
from tests.citus.citus_cluster import (
    COORDINATOR,
    NODES,
    WORKERS,
    CitusCluster,
    make_database,
    of_database,
    on_database,
    on_node,
    socket_of,
)
from tests.citus.conftest import HOST
from tests.process.ledger import Ledger, client, command_of, compare, eventually, progress, token_of
from tests.process.program import Program, children

KILLS = int(os.environ.get("LEDGER_KILLS", "8"))
SEED = int(os.environ.get("LEDGER_SEED", secrets.randbelow(1 << 30)))
KINDS = ("node", "server", "backend", "coordinator")
DATABASE = "books"
PROJECTS_A_NODE = 2
RECOVERED_SECONDS = 60


@pytest.mark.timeout(120 + KILLS * 60)
async def test_the_books_of_a_cluster_agree_after_kills_of_everything(private_folder: Path) -> None:
    print(f"LEDGER_SEED={SEED}")
    chance = random.Random(SEED)
    # Without its own I/O processes, which it waits five seconds for, PostgreSQL recovers at once.
    cluster = CitusCluster(private_folder, {"io_method": "sync", "citus.node_connection_timeout": "2s"})
    urls = await asyncio.to_thread(cluster.start)
    try:
        await make_database(of_database(urls.owner_url, "postgres"), DATABASE)
        urls = on_database(urls, DATABASE)
        homes = await make_projects(urls)
        with Program(private_folder, ["serve", "--workers", "2"], environment_of(urls)) as program:
            base_url = await asyncio.to_thread(program.wait_until_serving)
            books = Books(cluster, private_folder, program, base_url, urls, homes, chance)
            with said_if_it_fails(program):
                async with books.clients():
                    for kind in itertools.islice(itertools.cycle(KINDS), KILLS):
                        await progress(books.ledger, 10)
                        await asyncio.sleep(chance.uniform(0, 1))
                        await books.end(kind)
                    for projects in homes.values():
                        await progress(books.ledger, 10, projects)
            await eventually(lambda: nothing_is_half_done(urls))
            await eventually(lambda: compare(urls.owner_url, books.ledger))
    finally:
        await asyncio.to_thread(cluster.stop)
    ledger = books.ledger
    print(f"{len(ledger.acknowledged)} of {len(ledger.sent)} batches acknowledged; ended {dict(books.ended)}")
    print(f"answers {dict(ledger.answers)}")


@contextmanager
def said_if_it_fails(program: Program) -> Iterator[None]:
    """Print what the server has said of failures of its own, if something fails here."""
    try:
        yield
    except BaseException:
        usual = ("database_unavailable", "status=", "background work failed")
        print("\n".join(line for line in program.output.splitlines() if not any(word in line for word in usual)))
        raise


async def make_projects(urls: EmbeddedUrls) -> dict[str, list[str]]:
    """Create some projects on each worker and return them by its name."""
    await migrate(urls.owner_url, distribution=CITUS)
    owner = await asyncpg.connect(urls.owner_url)
    sockets = {socket_of(on_node(urls.owner_url, name)): name for name in WORKERS}
    homes: dict[str, list[str]] = {name: [] for name in WORKERS}
    for number in range(40):
        project = f"project-{number}"
        home = homes[sockets[await owner.fetchval(HOST, project)]]
        if len(home) < PROJECTS_A_NODE:
            await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", project)
            home.append(project)
    await owner.close()
    assert {len(home) for home in homes.values()} == {PROJECTS_A_NODE}
    return homes


def environment_of(urls: EmbeddedUrls) -> Mapping[str, str]:
    return {
        "DATABASE_URL": urls.database_url,
        "DATABASE_OWNER_URL": urls.owner_url,
        "DATABASE_WORKER_URL": urls.worker_url,
        "DATABASE_DISTRIBUTION": CITUS,
        "REDIS_URL": urls.redis_url,
        "JWT_SECRET": urls.jwt_secret,
        "OBSERVATORY_PORT": "0",
        "LOG_FORMAT": "text",
    }


async def nothing_is_half_done(urls: EmbeddedUrls) -> None:
    """Wait until the coordinator has ended the transactions that a kill left prepared on a node."""
    async with asyncio.timeout(RECOVERED_SECONDS):
        for name in NODES:
            node = await asyncpg.connect(on_node(urls.owner_url, name))
            try:
                while await node.fetchval("SELECT count(*) FROM pg_prepared_xacts"):
                    await asyncio.sleep(0.2)
            finally:
                await node.close()


@dataclass
class Books:
    """Clients of every project, and the ways to end what they use."""

    cluster: CitusCluster
    folder: Path
    program: Program
    base_url: str
    urls: EmbeddedUrls
    homes: Mapping[str, Sequence[str]]
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    ended: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[None]:
        """Keep two clients of each project sending."""
        stop = asyncio.Event()
        projects = [project for home in self.homes.values() for project in home]
        sending = [
            asyncio.create_task(
                client(
                    self.base_url, token_of(self.urls, project), project, self.ledger, stop,
                    random.Random(self.chance.random()),
                )
            )
            for project in projects * 2
        ]  # fmt: skip
        yield
        stop.set()
        await asyncio.gather(*sending)

    async def end(self, kind: str) -> None:
        """End a process of the server, a backend of a node, the coordinator or a worker; the last two start again."""
        self.ended[kind] += 1
        match kind:
            case "server":
                _kill(self.chance.choice(self.program.worker_pids()), signal.SIGKILL)
            case "backend":
                node = self._postmaster(self.chance.choice(NODES))
                backends = [pid for pid in children(node) if "postgres: observatory_" in command_of(pid)]
                if backends:
                    _kill(self.chance.choice(backends), signal.SIGKILL)
            case "coordinator":
                await self._stop(COORDINATOR)
                await self._start(COORDINATOR)
            case _:
                away, here = self.chance.sample(WORKERS, 2)
                await self._stop(away)
                await self._others_go_on(away, here)
                await self._start(away)

    async def _others_go_on(self, away: str, here: str) -> None:
        """Check that readers and writers of ``here`` notice nothing and those of ``away`` are told whose node it is."""
        await progress(self.ledger, 20, self.homes[here])
        for limit in range(20, 25):
            for project in self.homes[here]:
                assert (await self._read(limit, project))[0] == 200
            for asked in (self.homes[away][:1], self.homes[away], [self.homes[here][0], self.homes[away][0]]):
                status, detail = await self._read(limit, *asked)
                named = [project for project in asked if project in self.homes[away]]
                assert (status, [project for project in asked if project in detail]) == (503, named), detail

    async def _read(self, limit: int, *projects: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token_of(self.urls, *projects)}"}
        # A limit of its own each time: an answer that is cached would be right, and say nothing of the node.
        path = f"/api/v1/traces?project_id={','.join(projects)}&limit={limit + 10 * self.ended.total()}"
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=30) as http:
            answer = await http.get(path)
        return answer.status_code, answer.json().get("detail", "")

    def _postmaster(self, name: str) -> int:
        return int((self.folder / name / "postgres" / "postmaster.pid").read_text().split("\n")[0])

    async def _stop(self, name: str) -> None:
        """Stop a node as if its machine were switched off: nothing is written any more."""
        _kill(self._postmaster(name), signal.SIGQUIT)
        async with asyncio.timeout(30):
            while not self.cluster.nodes[name].exited():
                await asyncio.sleep(0.05)

    async def _start(self, name: str) -> None:
        await asyncio.to_thread(self.cluster.nodes[name].stop)
        await asyncio.to_thread(self.cluster.nodes[name].start)


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
