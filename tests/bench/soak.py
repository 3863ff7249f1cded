"""Memory under mixed load: ``make soak`` (ARGS="--minutes 120 --workers 2").

A server of its own takes spans, answers lists, searches, single traces, metrics, panels, facets and bad requests at a
steady pace, from callers, models, sessions and connections that change all the time. The resident memory
of its processes is noted every ten seconds. After a warm-up, in which caches and pools fill, it has to stay within
--within MB: the median of the last tenth of the time against that of the first tenth. The exit code is 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import Payloads
from tests.bench.server_process import serve_environment
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program

PROJECTS = ("alpha", "beta", "gamma")
SAMPLE_SECONDS = 10.0
REQUESTS_A_CONNECTION = 200


def resident_megabytes(pid: int) -> float:
    """Return the memory of a process in megabytes, without pages shared with files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not tell RssAnon")


class Load:
    """Callers that ask and send until they are told to stop."""

    def __init__(self, base_url: str, urls: EmbeddedUrls, seed: int) -> None:
        self._base_url = base_url
        self._settings = Settings(jwt_secret=urls.jwt_secret)
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._payloads = Payloads(seed, words=60)
        self.answers: Counter[str] = Counter()

    def headers(self, content_type: str) -> dict[str, str]:
        """Return headers with a new token each time: callers come and go."""
        roles = (Role.DEVELOPER,) if content_type == PROTOBUF else (Role.ADMIN, Role.DEVELOPER, Role.VIEWER)
        role = self._chance.choice(roles)
        token = issue_token(self._settings, role=role, projects=[self._chance.choice(PROJECTS)])
        return {"Authorization": f"Bearer {token}", "Content-Type": content_type}

    def question(self) -> str:
        """Return the address of one read, most of them new ones."""
        number, chance = next(self._numbers), self._chance
        hours = chance.choice((1, 6, 24, 24 * 7, 24 * 30))
        kinds: tuple[Callable[[], str], ...] = (
            lambda: f"/api/v1/traces?from=now-{hours}h&limit={chance.randrange(1, 100)}",
            lambda: f"/api/v1/traces?from=now-{hours}h&search=word{number}",
            lambda: f"/api/v1/traces?from=now-{hours}h&user_id=user-{number % 5000}&view=traces",
            lambda: f"/api/v1/traces/{number:032x}",
            lambda: f"/api/v1/sessions/session-{number % 9000}",
            lambda: f"/api/v1/metrics?metric=calls,cost,duration&from=now-{hours}h&interval=auto&group_by=model",
            lambda: f"/api/v1/metrics?metric=cost&from=now-{hours}h&group_by=user&limit={chance.randrange(1, 40)}",
            lambda: f"/api/v1/facets/model?from=now-{hours}h",
            lambda: f"/api/v1/traces?from=nonsense-{number}",
            lambda: f"/nowhere/{number}",
            lambda: "/metrics",
        )
        return chance.choice(kinds)()

    def panel(self) -> bytes:
        """Return one question of a dashboard."""
        end = datetime.now(UTC)
        start = datetime.fromtimestamp(end.timestamp() - self._chance.choice((3600, 86400, 604800)), UTC)
        metric = self._chance.choice(("calls", "cost", "duration", "errors"))
        target = {"refId": "A", "target": "timeseries", "payload": {"metric": metric, "group_by": "model"}}
        window = {"from": start.isoformat(), "to": end.isoformat()}
        return orjson.dumps({"range": window, "intervalMs": 60_000, "maxDataPoints": 300, "targets": [target]})

    async def _each(self, a_second: float, stop: asyncio.Event, content_type: str, act: Any) -> None:
        """Call ``act`` on one connection at this pace; replace the connection and its caller now and then."""
        while not stop.is_set():
            async with LoadConnection(self._base_url, self.headers(content_type)) as connection:
                for _ in range(REQUESTS_A_CONNECTION):
                    if stop.is_set():
                        return
                    due = time.monotonic() + 1 / a_second
                    try:
                        self.answers[await act(connection)] += 1
                    except (OSError, EOFError):
                        self.answers["connection lost"] += 1
                        break
                    await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def run(self, stop: asyncio.Event, pace: float) -> None:
        """Run everything at once, until ``stop``."""

        async def read(connection: LoadConnection) -> str:
            return f"read {(await connection.get(self.question()))[0]}"

        async def send(connection: LoadConnection) -> str:
            return f"send {await connection.post('/v1/traces', self._payloads.batch())}"

        async def show(connection: LoadConnection) -> str:
            return f"panel {await connection.post('/grafana/query', self.panel())}"

        await asyncio.gather(
            *(self._each(6 * pace, stop, "application/json", read) for _ in range(4)),
            *(self._each(1 * pace, stop, PROTOBUF, send) for _ in range(2)),
            self._each(4 * pace, stop, "application/json", show),
        )


async def soak(urls: EmbeddedUrls, folder: Path, arguments: argparse.Namespace) -> bool:
    """Run the load; return whether memory stayed within bounds."""
    await migrate(urls.owner_url)
    owner = await asyncpg.connect(urls.owner_url)
    for project in PROJECTS:
        await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", project)
    await owner.close()
    with Program(folder, ["serve", "--workers", str(arguments.workers)], serve_environment(urls)) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving)
        load, stop = Load(base_url, urls, arguments.seed), asyncio.Event()
        running = asyncio.create_task(load.run(stop, arguments.pace))
        samples = await watch(program, load, arguments)
        stop.set()
        await running
    return judge(samples, arguments)


async def watch(program: Program, load: Load, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Return the minutes since the start and MB of the largest process, every ten seconds."""
    begun, samples = time.monotonic(), []
    while (minutes := (time.monotonic() - begun) / 60) < arguments.minutes:
        held = max(map(resident_megabytes, program.worker_pids()))
        samples.append((minutes, held))
        if len(samples) % 6 == 1:
            answers = ", ".join(f"{count} {name}" for name, count in sorted(load.answers.items()))
            print(f"  {minutes:6.1f} min  {held:7.1f} MB  {answers}", flush=True)
        await asyncio.sleep(SAMPLE_SECONDS)
    return samples


def judge(samples: list[tuple[float, float]], arguments: argparse.Namespace) -> bool:
    """Print and judge what was seen after the warm-up."""
    warm = [held for minutes, held in samples if minutes >= arguments.warm_up]
    if len(warm) < 10:
        print("too short: nothing was seen after the warm-up")
        return False
    tenth = max(1, len(warm) // 10)
    first, last = statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])
    slope = statistics.linear_regression([item * SAMPLE_SECONDS / 60 for item in range(len(warm))], warm).slope
    print(f"after the warm-up: {first:.1f} MB, at the end {last:.1f} MB, slope {slope:+.3f} MB a minute")
    return bool(last - first <= arguments.within)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm-up", type=float, default=15, help="minutes before memory has to be flat")
    parser.add_argument("--within", type=float, default=10, help="MB that it may grow after that")
    parser.add_argument("--pace", type=float, default=1, help="1: some 28 reads, 2 batches of 100 spans a second")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> int:
    """Start private services, put load on them, judge."""
    with tempfile.TemporaryDirectory(prefix="observatory-soak-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedServices(folder / "data") as urls:
            return 0 if asyncio.run(soak(urls, folder, arguments)) else 1


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
