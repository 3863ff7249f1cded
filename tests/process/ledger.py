"""The ledger: clients write down what was acknowledged while processes are killed; then the books are compared.

These must hold, whatever is killed and when: an acknowledged batch is stored, each span once, in its own project; a
batch without an acknowledgement is there as a whole or not at all; sums, summaries and rollups are those of
the stored rows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.ingest.stored_state import recomputed_summaries, stored_summaries
from tests.process.program import Program, children

PROJECTS = ("north", "south")
SPANS = 10
TOKENS_A_SPAN = 1100
SERVE_SECONDS = 60


@dataclass
class Ledger:
    """The clients' record. A batch is one trace: its id stands for its ten spans."""

    sent: dict[str, str] = field(default_factory=dict)
    """Trace to project, of every batch that was ever on its way."""
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)


class Killer:
    """Ends a random process of the server or of its database."""

    def __init__(self, program: Program, services: EmbeddedServices, chance: random.Random) -> None:
        self._program = program
        self._services = services
        self._chance = chance
        self.done: Counter[str] = Counter()

    async def kill(self) -> None:
        """Kill a worker or a database backend by SIGKILL, or PostgreSQL as a whole, which is then started again.

        When a backend is killed PostgreSQL ends all others and recovers by itself.
        """
        postgres = self._postgres()
        kind = self._chance.choice(("worker", "backend", "backend", "postgres"))
        if kind == "worker":
            victims = self._program.worker_pids()
        elif kind == "backend":
            victims = [pid for pid in children(postgres) if "postgres: observatory_app" in command_of(pid)]
        else:
            victims = [postgres]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(victims), signal.SIGQUIT if kind == "postgres" else signal.SIGKILL)
                self.done[kind] += 1
        if kind == "postgres":
            await asyncio.to_thread(self._revive, postgres)

    def _postgres(self) -> int:
        text = (self._services.path / "postgres" / "postmaster.pid").read_text()
        return int(text.splitlines()[0])

    def _revive(self, ended: int) -> None:
        deadline = time.monotonic() + SERVE_SECONDS
        while command_of(ended) and time.monotonic() < deadline:
            self._services.revive()
            time.sleep(0.05)
        self._services.revive()


def command_of(pid: int) -> str:
    """Return the command line of a process; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def keep_books(folder: Path, *, kills: int, seed: int, pause: float) -> tuple[Ledger, Counter[str]]:
    """Run a server of its own, send, kill ``kills`` times, compare; return the ledger and the killed processes.

    Between two kills some batches are acknowledged, and then up to ``pause`` seconds pass.
    """
    chance = random.Random(seed)
    # Without its own I/O processes, which it waits five seconds for, PostgreSQL recovers at once.
    services = EmbeddedServices(folder / "data", postgres_settings={"io_method": "sync"})
    urls = await asyncio.to_thread(services.start)
    try:
        await migrate(urls.owner_url)
        owner = await asyncpg.connect(urls.owner_url)
        for name in PROJECTS:
            await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", name)
        await owner.close()
        environment = {
            "DATABASE_URL": urls.database_url,
            "DATABASE_OWNER_URL": urls.owner_url,
            "DATABASE_WORKER_URL": urls.worker_url,
            "REDIS_URL": urls.redis_url,
            "JWT_SECRET": urls.jwt_secret,
            "OBSERVATORY_PORT": "0",
            "LOG_FORMAT": "text",
        }
        with Program(folder, ["serve", "--workers", "2"], environment) as program:
            base_url = await asyncio.to_thread(program.wait_until_serving)
            ledger, killer, stop = Ledger(), Killer(program, services, chance), asyncio.Event()
            clients = [
                asyncio.create_task(
                    client(base_url, token_of(urls, name), name, ledger, stop, random.Random(seed + number))
                )
                for number, name in enumerate(PROJECTS * 3)
            ]
            while killer.done.total() < kills:
                await progress(ledger, 10)
                await asyncio.sleep(chance.uniform(0, pause))
                await killer.kill()
            await progress(ledger, 10)
            stop.set()
            await asyncio.gather(*clients)
            await eventually(lambda: compare(urls.owner_url, ledger))
    finally:
        await asyncio.to_thread(services.stop)
    return ledger, killer.done


def token_of(urls: EmbeddedUrls, *projects: str) -> str:
    """Return a credential that may read and write ``projects`` alone."""
    return issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.DEVELOPER, projects=projects)


async def progress(ledger: Ledger, batches: int, projects: Collection[str] | None = None) -> None:
    """Wait until so many more batches are acknowledged, of ``projects`` if given: they are back from the last kill."""

    def acknowledged() -> int:
        return sum(projects is None or ledger.sent[trace_id] in projects for trace_id in ledger.acknowledged)

    wanted = acknowledged() + batches
    async with asyncio.timeout(SERVE_SECONDS):
        while acknowledged() < wanted:
            await asyncio.sleep(0.05)


async def client(
    base_url: str, token: str, project: str, ledger: Ledger, stop: asyncio.Event, chance: random.Random
) -> None:
    """Send batches of ``project``, one after the other, until ``stop`` is set."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": PROTOBUF}
    while not stop.is_set():
        request = export_request(SPANS)
        trace_id = request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
        body = request.SerializeToString()
        ledger.sent[trace_id] = project
        # Most batches are repeated until they are acknowledged, some are given up, as exporters do.
        for _ in range(100 if chance.random() < 0.8 else 1):
            answer = await _post(base_url, headers, body)
            ledger.answers[answer] += 1
            if answer == "200":
                ledger.acknowledged.add(trace_id)
                break
            assert answer in ("429", "503", "504", "lost"), answer
            await asyncio.sleep(0.1)


async def _post(base_url: str, headers: dict[str, str], body: bytes) -> str:
    try:
        async with asyncio.timeout(20), LoadConnection(base_url, headers) as connection:
            return str(await connection.post("/v1/traces", body))
    except (OSError, EOFError):
        return "lost"


async def eventually(check: Callable[[], Awaitable[None]]) -> None:
    """Wait until ``check`` can reach the database again; its assertions count."""
    for _ in range(SERVE_SECONDS * 2):
        try:
            await check()
            return
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError):
            await asyncio.sleep(0.5)
    await check()


async def compare(owner_url: str, ledger: Ledger) -> None:
    """Compare the ledger with the tables, and the tables with each other."""
    owner = await asyncpg.connect(owner_url)
    try:
        async with owner.transaction(isolation="repeatable_read"):
            spans = await owner.fetch("SELECT * FROM llm_traces")
            summaries = await stored_summaries(owner)
            rollups = await owner.fetchrow(
                "SELECT sum(spans) AS spans, sum(total_tokens) AS tokens FROM"
                " (SELECT spans, total_tokens FROM rollup_delta UNION ALL SELECT spans, total_tokens FROM rollup_1d) r"
            )
        stored = Counter(span["trace_id"] for span in spans)
        assert ledger.acknowledged <= stored.keys(), "acknowledged and not stored"
        assert set(stored.values()) <= {SPANS}, "a batch in part, or a span twice"
        assert all(ledger.sent[span["trace_id"]] == span["project_id"] for span in spans), "in a foreign project"
        assert summaries == recomputed_summaries(spans)
        assert rollups is not None
        assert rollups["spans"] == len(spans)
        assert rollups["tokens"] == TOKENS_A_SPAN * len(spans)
    finally:
        await owner.close()
