"""A server of the version before and one of ours at work together, while the schema changes under both."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.bench.http_load import LoadConnection
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.ledger import SPANS, Ledger, compare
from tests.process.program import Program, run
from tests.schema.record_version import PREVIOUS

pytestmark = pytest.mark.skipif("TEST_UPGRADE" not in os.environ, reason="make test-upgrade")

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "datasource", "dashboards", "plugin", "setup.cfg")
PROJECTS = ("north", "south")
TOGETHER = 10
"""Batches that are stored in each phase."""
FRESH_SECONDS = 2.0
"""An answer from the cache, of either version, has at least what was acknowledged so long before."""


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before, out of the history: the commit that wrote down its schema."""
    name = PREVIOUS.relative_to(ROOT)

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=True).stdout

    try:
        commit = git("log", "-1", "--format=%H", "--", str(name)).decode().strip()
        if git("show", f"{commit}:{name}").decode() != PREVIOUS.read_text(encoding="utf-8"):
            raise FileNotFoundError
        packed = git("archive", commit, *PACKAGES)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the history that has the version before is not here: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    numbers = {int(file.name[:4]) for file in (folder / "server/schema").glob("0*.sql")}
    assert numbers >= set(json.loads(PREVIOUS.read_text(encoding="utf-8"))["migrations"])
    return folder


@pytest.fixture
def database_template() -> str:
    """An empty database: the version before makes its schema itself."""
    return "template0"


@dataclass
class Balancer:
    """A load balancer: it asks ``/ready``, and sends requests in turn to the servers that say yes."""

    servers: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    turn: Iterator[int] = field(default_factory=itertools.count)

    async def look(self) -> None:
        while True:
            for server in list(self.servers):
                try:
                    async with asyncio.timeout(5), LoadConnection(server, {}) as connection:
                        is_ready = (await connection.get("/ready"))[0] == 200
                except (OSError, EOFError):
                    is_ready = False
                if is_ready != (server in self.ready):
                    (self.ready.append if is_ready else self.ready.remove)(server)
            await asyncio.sleep(0.05)

    async def until(self, *servers: str) -> None:
        """Wait until just these are ready."""
        async with asyncio.timeout(60):
            while set(self.ready) != set(servers):
                await asyncio.sleep(0.02)

    def next(self) -> str:
        return self.ready[next(self.turn) % len(self.ready)]


class Traffic:
    """Senders and askers that count every answer other than 200.

    Servers of the version before give up after a second in which a migration holds a table (:attr:`is_moving`), which
    takes a fifth of that on a machine with nothing else to do. They answer 503 then, and senders repeat.
    """

    def __init__(self, balancer: Balancer, headers: dict[str, dict[str, str]]) -> None:
        self._balancer = balancer
        self._headers = headers
        self.ledger = Ledger()
        self.failures: list[str] = []
        self.answers = 0
        self.is_moving = False
        self._acknowledged: list[tuple[str, float]] = []

    async def send(self, project: str, chance: random.Random) -> None:
        """Store batches; each third is sent again to whoever comes next, as after a lost answer."""
        while True:
            request = export_request(SPANS)
            trace_id = request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
            self.ledger.sent[trace_id] = project
            for _ in range(1 if chance.random() < 2 / 3 else 2):
                await self._ask(project, "/v1/traces", request.SerializeToString())
            self.ledger.acknowledged.add(trace_id)
            self._acknowledged.append((project, time.monotonic()))

    async def ask(self, project: str) -> None:
        """Ask for lists and for sums, which hold at least what was acknowledged before, and at most what was sent."""
        while True:
            await self._ask(project, f"/api/v1/traces?project_id={project}&limit=20")
            seen = time.monotonic() - FRESH_SECONDS
            least = SPANS * sum(name == project and at < seen for name, at in self._acknowledged)
            question = f"project_id={project}&metric=calls&from=now-1h&to=now%2B1h&interval=1h"
            body = await self._ask(project, f"/api/v1/metrics?{question}")
            most = SPANS * list(self.ledger.sent.values()).count(project)
            calls = sum(row["value"] or 0 for row in json.loads(body)["data"]) if body else least
            if not least <= calls <= most:
                self.failures.append(f"{calls} calls, of {least} to {most}")

    async def _ask(self, project: str, path: str, body: bytes | None = None) -> bytes:
        server, answer = self._balancer.next(), b""
        try:
            async with asyncio.timeout(30), LoadConnection(server, self._headers[project]) as connection:
                if body is None:
                    status, answer = await connection.get(path)
                else:
                    status = await connection.post(path, body)
        except (OSError, EOFError) as error:
            self.failures.append(f"{path}: {error!r}")
        else:
            self.answers += 1
            if status == 503 and self.is_moving:
                return await self._ask(project, path, body)
            if status != 200:
                self.failures.append(f"{path}: {status} {answer[:300]!r}")
                answer = b""
        await asyncio.sleep(0.05)
        return answer

    async def progress(self, batches: int = TOGETHER) -> None:
        """Wait until so many more batches are acknowledged."""
        wanted = len(self.ledger.acknowledged) + batches
        async with asyncio.timeout(90):
            while len(self.ledger.acknowledged) < wanted:
                assert self.failures == []
                await asyncio.sleep(0.01)


async def test_no_request_fails_while_both_versions_serve_and_the_schema_moves_on(
    version_before: Path, tmp_path: Path, serve_settings: dict[str, str], owner: asyncpg.Connection, bearer: Any
) -> None:
    command = [sys.executable, "-m", "server.cli"]
    # A busy machine must not look like a full pool.
    newer = {**serve_settings, "LOG_FORMAT": "json", "OBSERVATORY_DRAIN_DELAY": "0.5", "DATABASE_ACQUIRE_TIMEOUT": "20"}
    older = {**newer, "PYTHONPATH": str(version_before)}
    with ExitStack() as running:

        def serve(settings: dict[str, str], *arguments: str, **how: Any) -> Program:
            return running.enter_context(Program(tmp_path, ["serve", "--workers", "1", *arguments], settings, **how))

        first = serve(older, "--migrate", command=command, cwd=version_before)
        balancer = Balancer([await asyncio.to_thread(first.wait_until_serving)])
        await owner.execute(
            "INSERT INTO projects (project_id, name) SELECT p, p FROM unnest($1::text[]) AS p", PROJECTS
        )
        headers = {name: {**bearer("developer", [name]), "Content-Type": PROTOBUF} for name in PROJECTS}
        traffic = Traffic(balancer, headers)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(balancer.look())]
            await balancer.until(first.base_url)
            for number, name in enumerate(PROJECTS):
                work.append(tasks.create_task(traffic.send(name, random.Random(number))))
                work.append(tasks.create_task(traffic.ask(name)))
            await traffic.progress()
            traffic.is_moving = True
            told = await asyncio.to_thread(run, "migrate", settings=newer)
            await asyncio.sleep(0.3)
            traffic.is_moving = False
            assert told.returncode == 0, told.stderr
            assert "0070_shared_content" in told.stdout, told.stdout
            await traffic.progress()
            second = serve(newer)
            balancer.servers.append(await asyncio.to_thread(second.wait_until_serving))
            await balancer.until(first.base_url, second.base_url)
            await traffic.progress()
            assert await asyncio.to_thread(first.stop) == 0
            await balancer.until(second.base_url)
            await traffic.progress()
            back = serve(older, command=command, cwd=version_before)
            balancer.servers.append(await asyncio.to_thread(back.wait_until_serving))
            await balancer.until(second.base_url, back.base_url)
            await traffic.progress()
            for task in work:
                task.cancel()
        # what is in the middle of its answer is acknowledged to nobody, and may be there or not
        await asyncio.sleep(0.5)
    assert traffic.failures == []
    assert traffic.answers > 8 * TOGETHER
    await compare(serve_settings["DATABASE_OWNER_URL"], traffic.ledger)
