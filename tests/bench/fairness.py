"""The effect on a tenant of a neighbour that does its worst: ``make bench-fairness`` (ARGS="--base ../main").

A server of its own serves a tenant at a steady pace: lists, single traces, metrics, batches of spans, and /live beside
them. First the tenant is alone, then a neighbour does its worst in each of twelve ways (:mod:`tests.bench.attacks`), in
turn with the tenant alone again. The bar: p99 of reads at most twice its own alone, the median of ingest at most 1.3
times its own alone, no request fails, /live answers within 100 ms. The exit code is 1 where it is missed.

The neighbour's own process needs processors, too, and so does whatever else the machine does. So two more figures are
beside the bar, which stays as it is: the same multiples beside a process that uses as much of the processors as the
neighbour did but asks for nothing, and the part of its time that the server with its PostgreSQL was ready to run and
waited for a processor.

A single round is noise: ``--rounds N`` repeats each way. p99 and the median of ingest are then of the requests of all
rounds together, alone and beside; /live is the median of each round's longest.

With ``--base`` the server of another checkout is measured, too, on services of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.settings import Settings
from tests.bench.attacks import ATTACKS, attack, burn
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import Payloads
from tests.bench.load import PROJECT as NEIGHBOUR
from tests.bench.load import load
from tests.bench.server_process import serve_environment
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program, run

TENANT: Final = "tenant"
READS_A_SECOND: Final = 20
BATCHES_A_SECOND: Final = 3
LIVES_A_SECOND: Final = 20
P99_BAR: Final = 2.0
INGEST_BAR: Final = 1.3
LIVE_BAR_SECONDS: Final = 0.1
HERE: Final = Path(__file__).resolve().parents[2]


@dataclass
class Felt:
    """Seconds that requests took, and how many failed."""

    reads: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    lives: list[float] = field(default_factory=list)
    """The longest of each round."""
    failures: list[str] = field(default_factory=list)

    def and_then(self, other: Felt) -> Felt:
        """Return both together."""
        return Felt(
            self.reads + other.reads,
            self.batches + other.batches,
            self.lives + other.lives,
            self.failures + other.failures,
        )

    @property
    def p99(self) -> float:
        """Of reads, in seconds."""
        return statistics.quantiles(self.reads, n=100)[98]

    @property
    def ingest(self) -> float:
        """The median of ingest, in seconds."""
        return statistics.median(self.batches)

    @property
    def live(self) -> float:
        """The longest of /live, in seconds; of several rounds, the median of these."""
        return statistics.median(self.lives)


class Tenant:
    """Asks and sends at a steady pace, late or not."""

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._numbers = itertools.count()
        self._batches = Payloads(7, words=40)

    def _question(self) -> str:
        number = next(self._numbers)
        questions = (
            f"/api/v1/traces?from=now-1h&limit={20 + number % 30}",
            f"/api/v1/traces?from=now-1h&search=word{number}",
            f"/api/v1/metrics?metric=calls,cost&from=now-{1 + number % 5}h&group_by=model",
            f"/api/v1/facets/model?from=now-{1 + number % 5}h",
        )
        return questions[number % len(questions)]

    async def feel(self, seconds: float) -> Felt:
        """Ask for ``seconds`` and return what it was like."""
        felt, end = Felt(), time.monotonic() + seconds
        lives: list[float] = []

        async def read(connection: LoadConnection) -> int:
            return (await connection.get(self._question()))[0]

        async def live(connection: LoadConnection) -> int:
            return (await connection.get("/live"))[0]

        async def send(connection: LoadConnection) -> int:
            return await connection.post("/v1/traces", self._batches.batch())

        async def steadily(a_second: float, took: list[float], act: Callable[[LoadConnection], Awaitable[int]]) -> None:
            headers = {**self._headers, "Content-Type": PROTOBUF}
            due = time.monotonic()
            while due < end:
                async with LoadConnection(self._base_url, headers) as connection:
                    while due < end:
                        await asyncio.sleep(max(0.0, due - time.monotonic()))
                        due = max(due + 1 / a_second, time.monotonic() - 1 / a_second)
                        begun = time.monotonic()
                        try:
                            status = await act(connection)
                        except (OSError, EOFError) as error:
                            felt.failures.append(type(error).__name__)
                            break
                        took.append(time.monotonic() - begun)
                        if status != 200:
                            felt.failures.append(str(status))

        await asyncio.gather(
            steadily(READS_A_SECOND / 2, felt.reads, read),
            steadily(READS_A_SECOND / 2, felt.reads, read),
            steadily(BATCHES_A_SECOND, felt.batches, send),
            steadily(LIVES_A_SECOND, lives, live),
        )
        felt.lives.append(max(lives))
        return felt


@dataclass(frozen=True)
class Compared:
    """The tenant's figures beside a neighbour, and alone just before and after."""

    way: str
    alone: Felt
    beside: Felt
    beside_burner: Felt
    cores: list[float]
    """What the neighbour's process used, by round."""
    withheld: list[float]
    """The part of its time that the server waited for a processor, by round."""

    def and_then(self, other: Compared) -> Compared:
        """Return the rounds of both together."""
        return Compared(
            self.way,
            self.alone.and_then(other.alone),
            self.beside.and_then(other.beside),
            self.beside_burner.and_then(other.beside_burner),
            self.cores + other.cores,
            self.withheld + other.withheld,
        )


def _scheduled(pids: Iterable[int]) -> tuple[float, float]:
    """Return the seconds that these processes ran, and those that they waited for a processor."""
    ran = waited = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                thread_ran, thread_waited, _ = map(int, file.read_text().split())
                ran, waited = ran + thread_ran, waited + thread_waited
    return ran / 1e9, waited / 1e9


def _served_by(worker: int) -> list[int]:
    """Return the processes of the server and of the PostgreSQL on this benchmark's data."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    wanted = {os.getpid()}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found += wanted
    return [worker, *(pid for pid in found if _is_postgres(pid))]


def _is_postgres(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("postgres")
    return False


async def measure(base_url: str, urls: EmbeddedUrls, worker: int, arguments: argparse.Namespace) -> list[Compared]:
    """Let the neighbour do its worst in each way, in turn with none."""
    settings = Settings(jwt_secret=urls.jwt_secret)
    tenant = Tenant(base_url, issue_token(settings, role=Role.DEVELOPER, projects=[TENANT], ttl=7200))
    neighbour = issue_token(settings, role=Role.DEVELOPER, projects=[NEIGHBOUR], ttl=7200)
    await tenant.feel(arguments.seconds / 2)  # plans, pools and caches
    compared: dict[str, Compared] = {}
    before = await tenant.feel(arguments.seconds / 2)
    for _ in range(arguments.rounds):
        for name in arguments.ways or ATTACKS:
            found = await measure_way(name, tenant, (base_url, neighbour), worker, arguments.seconds)
            after = found.alone
            found = replace(found, alone=before.and_then(after))
            compared[name] = compared[name].and_then(found) if name in compared else found
            before = after
    return list(compared.values())


async def measure_way(name: str, tenant: Tenant, neighbour: tuple[str, str], worker: int, seconds: float) -> Compared:
    """Let the neighbour, who is given by address and credential, do its worst in one way, then be gone."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=attack, args=(name, *neighbour), daemon=True)
    process.start()
    try:
        await asyncio.sleep(1.5)  # it starts
        watched = _served_by(worker)
        used, (ran, waited), began = _scheduled([process.pid or 0])[0], _scheduled(watched), time.monotonic()
        beside = await tenant.feel(seconds)
        cores = (_scheduled([process.pid or 0])[0] - used) / (time.monotonic() - began)
        ran, waited = (now - then for now, then in zip(_scheduled(watched), (ran, waited), strict=True))
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
    await asyncio.sleep(0.5)  # what it left behind is abandoned
    after = await tenant.feel(seconds / 2)
    burner = spawn.Process(target=burn, args=(cores,), daemon=True)
    burner.start()
    try:
        await asyncio.sleep(1)
        beside_burner = await tenant.feel(seconds / 2)
    finally:
        burner.kill()
        await asyncio.to_thread(burner.join)
    return Compared(name, after, beside, beside_burner, [cores], [waited / max(ran + waited, 1e-9)])


def report(title: str, compared: list[Compared]) -> bool:
    """Print the table; return whether the bar was met."""
    print(f"\n{title}; p99 and ingest as multiples of the tenant's own alone, just before and after")
    print(f"| the neighbour's way | p99 ({P99_BAR:g}×) | ingest ({INGEST_BAR:g}×) | failed (0) "
          f"| /live ({LIVE_BAR_SECONDS * 1000:g} ms) | alone: p99, ingest, failed, /live "
          "| beside a burner: cores, p99, ingest | withheld | |\n"
          "|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    met = True
    for item in compared:
        alone, felt = item.alone, item.beside
        p99, ingest, live = felt.p99 / alone.p99, felt.ingest / alone.ingest, felt.live
        is_met = p99 <= P99_BAR and ingest <= INGEST_BAR and not felt.failures and live <= LIVE_BAR_SECONDS
        failed = ", ".join(f"{felt.failures.count(kind)} × {kind}" for kind in sorted(set(felt.failures))) or "0"
        verdict = "met" if is_met else "missed"
        own = (f"{alone.p99 * 1000:.0f} ms, {alone.ingest * 1000:.0f} ms, {len(alone.failures)}, "
               f"{alone.live * 1000:.0f} ms")  # fmt: skip
        burner = item.beside_burner
        mere = f"{statistics.mean(item.cores):.2f}, {burner.p99 / alone.p99:.2f}, {burner.ingest / alone.ingest:.2f}"
        print(f"| {item.way} | {p99:.2f} | {ingest:.2f} | {failed} | {live * 1000:.0f} | {own} | {mere} "
              f"| {statistics.mean(item.withheld):.0%} | {verdict} |")  # fmt: skip
        met = met and is_met
    return met


async def prepare(urls: EmbeddedUrls, spans: int) -> None:
    """Make the projects; the neighbour's has spans of thirty days."""
    await load(urls.owner_url, spans)
    owner = await asyncpg.connect(urls.owner_url)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", TENANT)
    await owner.close()


def bench(checkout: Path, folder: Path, arguments: argparse.Namespace) -> bool:
    """Measure the server in ``checkout``; return whether it met the bar."""
    folder.mkdir(mode=0o755)
    with EmbeddedServices(folder / "data") as urls:
        environment = serve_environment(urls, PYTHONPATH=str(checkout))
        run("migrate", settings=environment).check_returncode()
        asyncio.run(prepare(urls, arguments.spans))
        # Server processes of older builds import what is in their current directory.
        with Program(folder, ["serve", "--workers", str(arguments.workers)], environment, cwd=checkout) as program:
            program.wait_for("serving on http", seconds=90)
            program.wait_until_serving()
            compared = asyncio.run(measure(program.base_url, urls, program.worker_pids()[0], arguments))
    return report(str(checkout.name), compared)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6, help="beside each neighbour")
    parser.add_argument("--rounds", type=int, default=1, help="of each way")
    parser.add_argument("--spans", type=int, default=30_000, help="of the neighbour")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--base", type=Path, help="another checkout, measured too")
    parser.add_argument("ways", nargs="*", help=f"some of {', '.join(ATTACKS)} (default: all)")
    arguments = parser.parse_args()
    if unknown := set(arguments.ways) - set(ATTACKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def main(arguments: argparse.Namespace) -> int:
    """Measure one checkout or two; only this one decides."""
    with tempfile.TemporaryDirectory(prefix="observatory-fairness-") as name:
        Path(name).chmod(0o755)
        if arguments.base is not None:
            bench(arguments.base.resolve(), Path(name) / "base", arguments)
        return 0 if bench(HERE, Path(name) / "own", arguments) else 1


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
