"""PromQL beside REST, and alerts beside ingest: ``make bench-promql`` (ARGS="--spans 10000000 --rounds 30").

Both sides ask one server over HTTP, in turn, each time with another limit, so that nothing comes from the cache. Beside
the time is the processor time that server and PostgreSQL took, which does not depend on what else runs. Only
some days of the spans are stored (--days); the rollups of those days, which is all that whole hours are read from, are
repeated for the other days of the month. So 10 million spans take the room of 2 million.

Then batches are sent for some seconds, in turn without and with 20 alert rules that are evaluated at the same moment,
every minute and every ten seconds: the expressions of the alert pack, as Grafana asks for them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import asyncpg

from dashboards.alert_pack import PACK
from server.access.access_token import issue_token
from server.access.principal import Role
from server.app import build_services
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.rollups.rebuild import rebuild_rollups
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.analytics_cluster import LOADING, MEASURED
from tests.bench.analytics_data import DAYS, PROJECT, load
from tests.bench.http_load import LoadConnection, send_batches
from tests.bench.ingest import SPANS, Payloads
from tests.bench.server_process import serve_environment
from tests.process.program import Program

HOUR: Final = 3600
REPEATED: Final = ("rollup_1h", "rollup_1d", "slice_1h")
EVALUATIONS: Final = 20
SENDERS: Final = 2
QUESTIONS: Final = {
    "hour × model, calls": ("calls", "sum by (model) (increase(llm_calls_total[1h]))"),
    "hour × model, cost": ("cost", "sum by (model) (increase(llm_cost_usd_total[1h]))"),
    "hour × model, p95": (
        "duration_p95", "histogram_quantile(0.95, sum by (le, model) (rate(llm_duration_seconds_bucket[1h])))",
    ),
    "hour × model, error rate": (
        "error_rate", "sum by (model) (rate(llm_errors_total[1h])) / sum by (model) (rate(llm_calls_total[1h]))",
    ),
}  # fmt: skip
"""Name → metric of REST, and the same in PromQL."""


async def fill(urls: EmbeddedUrls, spans: int, days: int, end: datetime) -> None:
    """Store the spans of the last ``days`` and their rollups, and repeat those for the month."""
    await migrate(urls.owner_url)
    await load(urls.owner_url, spans * days // DAYS, end, days=days)
    services = build_services(
        Settings(
            database_url=urls.database_url,
            database_worker_url=urls.worker_url,
            jwt_secret=urls.jwt_secret,
            statement_timeout=600.0,
        )
    )
    await services.worker.open()
    await rebuild_rollups(services.worker, [PROJECT], end - timedelta(days=days), end)
    await services.worker.close()
    owner = await asyncpg.connect(urls.owner_url)
    for table in REPEATED:
        columns = await owner.fetchval(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            table,
        )
        moved = ", ".join("bucket - $1::interval * n" if name == "bucket" else name for name in columns.split(", "))
        await owner.execute(
            f"INSERT INTO {table} ({columns}) SELECT {moved} FROM {table}, generate_series(1, {DAYS // days - 1}) AS n",
            timedelta(days=days),
        )
    await owner.execute("VACUUM ANALYZE")
    await owner.execute("CHECKPOINT")
    (hours,) = await owner.fetch("SELECT count(*) AS rows, count(DISTINCT bucket) AS hours FROM rollup_1h")
    calls = await owner.fetchval("SELECT sum(spans) FROM rollup_1d")
    print(
        f"{calls:,} spans in rollups, {hours['rows']:,} rows of {hours['hours']} hours; load {os.getloadavg()[0]:.1f}"
    )
    await owner.close()


class Processors:
    """Processor time of a server process and of its connections to PostgreSQL (/proc/PID/schedstat)."""

    def __init__(self, worker: int, owner: asyncpg.Connection) -> None:
        self._worker = worker
        self._owner = owner

    async def seconds(self) -> float:
        """Return the processor time used so far by the connections that exist."""
        rows = await self._owner.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return sum(_used(pid) for pid in (self._worker, *(row["pid"] for row in rows))) / 1e9


def _used(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except FileNotFoundError:
        return 0


async def beside_rest(
    base_url: str, headers: dict[str, str], end: datetime, rounds: int, processors: Processors
) -> None:
    """Print the milliseconds of each question on both sides."""
    start, last = int((end - timedelta(days=DAYS)).timestamp()), int(end.timestamp())
    limits = itertools.count(100)

    def rest(metric: str) -> str:
        asked = {"metric": metric, "group_by": "model", "interval": "1h", "from": start, "to": last}
        return "/api/v1/metrics?" + urlencode({**asked, "limit": next(limits)})

    def promql(query: str) -> str:
        asked = {"query": query, "start": start + HOUR, "end": last, "step": HOUR, "limit": next(limits)}
        return "/prometheus/api/v1/query_range?" + urlencode(asked)

    print("\n| 30 days | REST p50 ms | PromQL p50 ms | ratio, median of pairs | processor ms: REST, PromQL, ratio |")
    print("|---|---|---|---|---|")
    async with LoadConnection(base_url, headers) as connection:
        for name, (metric, query) in QUESTIONS.items():
            sides: list[tuple[Callable[[str], str], str]] = [(rest, metric), (promql, query)]
            took: list[list[float]] = [[], []]
            used: list[list[float]] = [[], []]
            for number in range(rounds + 2):
                for side in (0, 1) if number % 2 else (1, 0):
                    path, asked = sides[side]
                    address, before = path(asked), await processors.seconds()
                    begun = time.perf_counter()
                    status, body = await connection.get(address)
                    elapsed = time.perf_counter() - begun
                    if status != 200:
                        raise RuntimeError(f"{address}: {status} {body[:300]!r}")
                    if number >= 2:
                        took[side].append(elapsed * 1000)
                        used[side].append((await processors.seconds() - before) * 1000)
            one, other = (statistics.median(item) for item in took)
            own, others = (statistics.median(item) for item in used)
            pairs = statistics.median(b / a for a, b in zip(*took, strict=True))
            print(
                f"| {name} | {one:.1f} | {other:.1f} | {pairs:.2f} | {own:.1f}, {others:.1f}, {others / own:.2f} |",
                flush=True,
            )


def alert_queries() -> Sequence[str]:
    """Return the expressions of the pack, as many as are evaluated at once."""
    every = [alert.expression for _, _, alerts in PACK for alert in alerts]
    return list(itertools.islice(itertools.cycle(every), EVALUATIONS))


async def beside_ingest(
    base_url: str, headers: dict[str, str], batches: int, rounds: int, processors: Processors
) -> None:
    """Print the time of batches without alerts, with alerts every minute, and with alerts every ten seconds; and the
    processor time of both, each alone.
    """
    payloads = Payloads(1, words=60)
    evaluations: list[float] = []
    await _evaluate_once(base_url, headers, evaluations)
    before = await processors.seconds()
    for _ in range(rounds):
        await _evaluate_once(base_url, headers, evaluations)
    alerts = (await processors.seconds() - before) / rounds
    print(f"\n{EVALUATIONS} evaluations at once: {alerts:.2f} s of processor time, "
          f"p50 {statistics.median(evaluations) * 1000:.0f} ms")  # fmt: skip
    took: dict[float, list[float]] = {0: [], 60: [], 10: []}
    used: list[float] = []
    for number in range(rounds):
        order = list(took)
        for every in order[number % 3 :] + order[: number % 3]:
            bodies = [payloads.batch() for _ in range(batches)]
            evaluating = asyncio.create_task(_evaluate(base_url, headers, every, evaluations)) if every else None
            before = await processors.seconds()
            took[every].append(await send_batches(base_url, headers, bodies, SENDERS))
            if evaluating is None:
                used.append(await processors.seconds() - before)
            else:
                evaluating.cancel()
                await asyncio.gather(evaluating, return_exceptions=True)
    base, ingest = statistics.median(took[0]), statistics.median(used)
    print(f"{batches} batches of {SPANS} spans without alerts: {base:.1f} s ({batches * SPANS / base:.0f} spans/s), "
          f"{ingest:.1f} s of processor time")  # fmt: skip
    for every in (60, 10):
        pairs = [one / other for one, other in zip(took[every], took[0], strict=True)]
        share = alerts / every / (ingest / base)
        print(
            f"{EVALUATIONS} alerts every {every} s: {statistics.median(pairs):.3f} of that (median of pairs); "
            f"by processor time {share:.1%} of what ingest uses meanwhile"
        )


async def _evaluate(base_url: str, headers: dict[str, str], every: float, seconds: list[float]) -> None:
    while True:
        await asyncio.sleep(min(every / 2, 5))
        await _evaluate_once(base_url, headers, seconds)
        await asyncio.sleep(every - min(every / 2, 5))


async def _evaluate_once(base_url: str, headers: dict[str, str], seconds: list[float]) -> None:
    async def evaluate(query: str, moment: float) -> None:
        async with LoadConnection(base_url, headers) as connection:
            begun = time.monotonic()
            asked = urlencode({"query": query, "time": f"{moment:.3f}"})
            status, body = await connection.get(f"/prometheus/api/v1/query?{asked}")
            if status != 200:
                raise RuntimeError(f"{query}: {status} {body[:300]!r}")
            seconds.append(time.monotonic() - begun)

    moment = time.time()
    await asyncio.gather(*(evaluate(query, moment) for query in alert_queries()))


async def measure(urls: EmbeddedUrls, folder: Path, end: datetime, options: argparse.Namespace) -> None:
    """Run both parts."""
    token = issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.ADMIN, projects=[PROJECT])
    headers = {"Authorization": f"Bearer {token}"}
    environment = serve_environment(urls, OBSERVATORY_INGEST_SPANS_PER_MINUTE="0")
    with Program(folder, ["serve"], environment) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving, 300)
        (worker,) = program.worker_pids()
        owner = await asyncpg.connect(urls.owner_url)
        processors = Processors(worker, owner)
        if options.rounds:
            await beside_rest(base_url, headers, end, options.rounds, processors)
        if options.ingest_rounds:
            await beside_ingest(base_url, headers, options.batches, options.ingest_rounds, processors)
        await owner.close()


def main() -> None:
    """Start private services, load, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=10_000_000, help="spans of the month")
    parser.add_argument("--days", type=int, default=6, help="days whose spans are stored; divides 30")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--ingest-rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=600, help="requests of 100 spans a round")
    parser.add_argument("--keep", type=Path, help="load into this folder once, and leave it there")
    options = parser.parse_args()
    if options.keep is not None:
        run(options, options.keep)
        return
    with tempfile.TemporaryDirectory(prefix="observatory-promql-") as name:
        run(options, Path(name))


def run(options: argparse.Namespace, folder: Path) -> None:
    """Load what is not there yet, and measure."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    loaded = folder / "loaded-until"
    if not loaded.exists():
        end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        embedded = EmbeddedServices(folder / "data", postgres_settings=LOADING)
        try:
            asyncio.run(fill(embedded.start(), options.spans, options.days, end))
        finally:
            embedded.stop()
        os.sync()
        loaded.write_text(end.isoformat())
    embedded = EmbeddedServices(folder / "data", postgres_settings=MEASURED)
    try:
        asyncio.run(measure(embedded.start(), folder, datetime.fromisoformat(loaded.read_text()), options))
    finally:
        embedded.stop()


if __name__ == "__main__":
    main()
