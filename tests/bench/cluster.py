"""A Citus cluster beside one PostgreSQL: ``make bench-cluster`` (CITUS_BIN as for make test-citus; ARGS="--rounds 5").

Both run on this machine at the same time, with the same settings, content stored inline, and are asked the same in
turns. The ratios count:

    ingest   CPU seconds for a span, of the server and of all processes of the database, from OTLP/HTTP to COMMIT; what
             each node took of it, the text index settled before
    lists    p50 of the newest 50 spans of a project, over HTTP and without it
    metrics  p50 of 30 days by model, in days and in hours with a percentile
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop

from server.access.access_token import issue_token
from server.access.principal import Role
from server.app import build_services, close_services, open_services
from server.distribution_settings import CITUS, NONE
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.http.services import Services
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.metric_interval import parse_interval
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.rollups.fold import fold_pending
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.row_scope import RowScope
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import SPANS, Payloads
from tests.citus.citus_cluster import COORDINATOR, NODES, CitusCluster, make_database, of_database, on_database
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program, children
from tests.span_factory import make_span, store

DATABASE: Final = "bench"
PROJECTS: Final = ("north", "south", "east", "west")
DAYS: Final = 30
BATCH: Final = 500
CLIENTS: Final = 8
SETTINGS: Final = {"shared_buffers": "256MB", "autovacuum": "off"}
# Tests look for lost transactions every two seconds, which costs 3 % of a span.
CITUS_SETTINGS: Final = {"citus.recover_2pc_interval": "60s"}
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Side:
    """One of the two databases, and what was measured there."""

    name: str
    urls: EmbeddedUrls
    distribution: str
    postmasters: Callable[[], dict[str, int]]
    """By node."""
    services: Services = field(init=False)
    found: dict[str, list[float]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Of a server on it."""
        return Settings(
            database_url=self.urls.database_url,
            database_owner_url=self.urls.owner_url,
            database_worker_url=self.urls.worker_url,
            database_distribution=self.distribution,
            content_layout="inline",
            redis_url=self.urls.redis_url,
            jwt_secret=self.urls.jwt_secret,
        )

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables of a program."""
        return {
            "DATABASE_URL": self.urls.database_url,
            "DATABASE_OWNER_URL": self.urls.owner_url,
            "DATABASE_WORKER_URL": self.urls.worker_url,
            "DATABASE_DISTRIBUTION": self.distribution,
            "OBSERVATORY_CONTENT_LAYOUT": "inline",
            "OBSERVATORY_INGEST_SPANS_PER_MINUTE": "0",
            "OBSERVATORY_PORT": "0",
            "REDIS_URL": self.urls.redis_url,
            "JWT_SECRET": self.urls.jwt_secret,
        }

    def note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)

    async def prepare(self, spans: int) -> None:
        """Create tables, projects, and spans of 30 days in the first project, folded."""
        await migrate(self.urls.owner_url, distribution=self.distribution)
        owner = await asyncpg.connect(self.urls.owner_url)
        for name in PROJECTS:
            await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", name)
        self.services = build_services(self.settings)
        await open_services(self.services)
        now, step = datetime.now(UTC), timedelta(days=DAYS) / spans
        for first in range(0, spans, BATCH):
            await store(self.services, PROJECTS[0], [_span(now, step, n) for n in range(first, first + BATCH)])
        while await fold_pending(self.services.worker):
            pass
        if self.distribution == CITUS:
            await owner.execute("SELECT run_command_on_workers('VACUUM ANALYZE')")
        await owner.execute("VACUUM ANALYZE")
        await owner.close()


def _span(now: datetime, step: timedelta, number: int) -> Any:
    return make_span(
        ts=now - step * number - timedelta(minutes=1),
        trace_id=f"{number // 3:032x}",
        model=f"model-{number % 8}",
        service_name=f"service-{number % 3}",
        environment=f"environment-{number % 5}",
        user_id=f"user-{number % 200}",
        duration_ms=100.0 + number * 37 % 4000,
        input_text=f"question {number}",
        output_text=f"answer {number}",
        total_tokens=300,
        prompt_tokens=200,
        completion_tokens=100,
    )


def cpu_seconds(roots: Sequence[int]) -> float:
    """Return CPU seconds so far of these processes, their children, and those children that have ended."""
    total = 0.0
    for root in roots:
        waiting = [root]
        while waiting:
            pid = waiting.pop()
            try:
                values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                waiting += children(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(map(int, values[11:15])) / TICKS
    return total


async def ingest(side: Side, program: Program, bodies: Sequence[bytes]) -> None:
    """Store ``bodies``, spread over the projects; note the CPU seconds of a span."""
    headers = [
        {
            "Authorization": f"Bearer {issue_token(side.settings, role=Role.DEVELOPER, projects=[name])}",
            "Content-Type": PROTOBUF,
        }
        for name in PROJECTS
    ]
    waiting = list(bodies)

    async def send(number: int) -> None:
        async with LoadConnection(program.base_url, headers[number % len(PROJECTS)]) as connection:
            while waiting:
                status = await connection.post("/v1/traces", waiting.pop())
                if status != 200:
                    raise RuntimeError(f"the server answered {status}")

    owner = await asyncpg.connect(side.urls.owner_url)
    await owner.execute("SELECT settle_text_index()")  # else one side pays for what the round before left
    await owner.close()
    roots = {"server": program.process.pid, **side.postmasters()}
    before = {name: cpu_seconds([root]) for name, root in roots.items()}
    started = time.perf_counter()
    await asyncio.gather(*(send(number) for number in range(CLIENTS)))
    await asyncio.sleep(3)  # its share of folding
    spans = len(bodies) * SPANS
    taken = {name: (cpu_seconds([root]) - before[name]) / spans * 1000 for name, root in roots.items()}
    side.note("ingest, CPU ms a span", sum(taken.values()))
    side.note("of it the database", sum(taken.values()) - taken["server"])
    side.note(
        "of it nodes with spans", sum(part for name, part in taken.items() if name not in ("server", COORDINATOR))
    )
    side.note("spans/s", spans / (time.perf_counter() - started - 3))


async def read(side: Side, number: int) -> None:
    """Ask everything once; note the milliseconds."""
    end = datetime.now(UTC) - timedelta(milliseconds=number)
    month = timedelta(days=DAYS)
    scope = RowScope(PROJECTS[:1])

    def metric(measures: str, interval: str) -> Callable[[], Awaitable[Any]]:
        question = MetricQuestion(
            measures=tuple(map(parse_measure, measures.split())), start=end - month, end=end, group_by=("model",),
            interval=parse_interval(interval),
        )  # fmt: skip
        return lambda: query_metrics(side.services.reads, scope, question)

    window = TimeRange(end - timedelta(days=1), end)
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "list of 50 in process, p50 ms": lambda: list_spans(side.services.reads, scope, ListQuestion(window=window)),
        "30 days by model, days, p50 ms": metric("cost calls", "1d"),
        "30 days by model, hours and p95, p50 ms": metric("duration_p95", "1h"),
    }
    for name, ask in asked.items():
        started = time.perf_counter()
        await ask()
        if number >= 5:
            side.note(name, (time.perf_counter() - started) * 1000)


async def list_over_http(side: Side, program: Program, questions: int) -> None:
    """Ask for the newest spans, each time of another end, by one client."""
    end = int(time.time() * 1000)
    token = issue_token(side.settings, role=Role.DEVELOPER, projects=PROJECTS[:1])
    async with LoadConnection(program.base_url, {"Authorization": f"Bearer {token}"}) as connection:
        for number in range(questions + 5):
            path = f"/api/v1/traces?from={end - number - 86_400_000}&to={end - number}&limit=50"
            started = time.perf_counter()
            status, body = await connection.get(path)
            if status != 200:
                raise RuntimeError(f"the server answered {status}: {body[:300]!r}")
            if number >= 5:
                side.note("list of 50 over HTTP, p50 ms", (time.perf_counter() - started) * 1000)


async def compare(sides: Sequence[Side], folder: Path, options: argparse.Namespace) -> None:
    """Measure both in turns and print the table."""
    for side in sides:
        await side.prepare(options.spans)
    for number in range(options.questions + 5):
        for side in sides:
            await read(side, number)
    for side in sides:
        await close_services(side.services)
    payloads = Payloads(1, options.words)
    programs = [Program(folder, ["serve", "--workers", "1"], side.environment()) for side in sides]
    try:
        for side, program in zip(sides, programs, strict=True):
            await asyncio.to_thread(program.wait_until_serving)
            await list_over_http(side, program, options.questions)
        for number in range(options.rounds + 1):
            for side, program in zip(sides, programs, strict=True):
                await ingest(side, program, [payloads.batch() for _ in range(options.batches)])
                if not number:
                    side.found = {name: told for name, told in side.found.items() if name.endswith("p50 ms")}
    finally:
        for program in programs:
            program.stop()
    print(f"\n| What | {' | '.join(side.name for side in sides)} | ratio |\n|---|---|---|---|")
    for name in sides[0].found:
        plain, cluster = (statistics.median(side.found[name]) for side in sides)
        print(f"| {name} | {plain:,.2f} | {cluster:,.2f} | {cluster / plain:.2f} |")


def main() -> None:
    """Start both, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=12_000, help="of 30 days, for lists and metrics")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="requests of 100 spans a round")
    parser.add_argument("--words", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = CitusCluster(folder / "nodes", SETTINGS, CITUS_SETTINGS)
        (folder / "nodes").mkdir(mode=0o755)
        with EmbeddedServices(folder / "plain", postgres_settings=SETTINGS) as urls:
            try:
                nodes = cluster.start()
                asyncio.run(make_database(of_database(nodes.owner_url, "postgres"), DATABASE))

                def pid(place: Path) -> int:
                    return int((place / "postgres" / "postmaster.pid").read_text().split("\n")[0])

                sides = [
                    Side("PostgreSQL", urls, NONE, lambda: {"one": pid(folder / "plain")}),
                    Side(
                        "Citus", on_database(nodes, DATABASE), CITUS,
                        lambda: {node: pid(folder / "nodes" / node) for node in NODES},
                    ),
                ]  # fmt: skip
                uvloop.run(compare(sides, folder, options))
            finally:
                cluster.stop()


if __name__ == "__main__":
    main()
