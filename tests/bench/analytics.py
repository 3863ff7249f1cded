"""Dashboard questions at two sizes: ``make bench-analytics`` (ARGS="--spans 1000000,10000000 --rounds 30").

    python -m tests.bench.analytics --spans 100000 --rounds 5
    python -m tests.bench.analytics --keep /var/tmp/bench --load-only     # minutes, once
    python -m tests.bench.analytics --keep /var/tmp/bench                 # measures what is there

For every question: p50 and p99 end to end through the metric engine, rows read, and the ratio of the largest size to
the smallest; beside it the same question over raw rows (once) and on DuckDB over a Parquet copy (pip install -r
tests/bench/requirements.txt; left out with --no-duckdb). Then what keeping rollups costs ingest
(tests/bench/analytics_ingest.py).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from server.app import close_services, open_services
from server.embedded import EmbeddedUrls
from server.http.services import Services
from server.process.garbage_collection import spare_long_lived_objects
from server.queries.filters.filter_tree import parse_filter
from server.queries.metrics.metric_formula import needs_of
from server.queries.metrics.metric_interval import parse_interval
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.queries.metrics.raw_sql import Binds, Target, raw_statement
from server.queries.metrics.source_plan import timeline_of
from server.storage.row_scope import RowScope
from tests.bench.analytics_cluster import LOADING, MEASURED, Cluster, database_of, services_of
from tests.bench.analytics_data import DAYS, PROJECT, make_pending
from tests.bench.analytics_ingest import measure_ingest

Told = tuple[float, float, str]
"""p50 and p99 in milliseconds, and how it was read."""

SCOPE = RowScope((PROJECT,))
SOME = {
    "and": [
        {"field": "environment", "operator": "eq", "value": "production"},
        {"field": "service_name", "operator": "in", "value": ["service-1", "service-2", "service-3"]},
    ]
}
MONTH, DAY, HOUR = timedelta(days=DAYS), timedelta(days=1), timedelta(hours=1)

# Name → range, measures, further arguments of the question.
QUESTIONS: dict[str, tuple[timedelta, str, dict[str, Any]]] = {
    "30 d, hour × model, p95": (MONTH, "duration_p95", {"group_by": ("model",), "interval": "1h"}),
    "30 d, hour × model, p95 and cost": (MONTH, "duration_p95 cost", {"group_by": ("model",), "interval": "1h"}),
    "30 d, hour × model × service, p95, 2 filters": (MONTH, "duration_p95",
        {"group_by": ("model", "service"), "interval": "1h", "filter": SOME}),
    "30 d, day × model, cost and calls": (MONTH, "cost calls", {"group_by": ("model",), "interval": "1d"}),
    "30 d, day × model, p95, Asia/Kolkata": (MONTH, "duration_p95",
        {"group_by": ("model",), "interval": "1d", "time_zone": "Asia/Kolkata"}),
    "30 d, p50 p95 p99 by model": (MONTH, "duration_p50 duration_p95 duration_p99",
        {"group_by": ("model",)}),
    "30 d, top 10 users by cost": (MONTH, "cost calls", {"group_by": ("user",)}),
    "30 d, distinct users": (MONTH, "users", {}),
    "30 d, distinct sessions": (MONTH, "sessions", {}),
    "24 h, 5 min × service, calls and p95": (DAY, "calls duration_p95", {"group_by": ("service",), "interval": "5m"}),
    "24 h, totals with the day before": (DAY, "calls cost error_rate duration_p95", {"compare": "previous_period"}),
    "1 h, minute, calls and error rate": (HOUR, "calls error_rate", {"interval": "1m"}),
}  # fmt: skip

_CALLS = "FROM spans WHERE is_generation"
DUCKDB = {
    "30 d, hour × model, p95":
        f"SELECT time_bucket(INTERVAL 1 HOUR, ts), model, quantile_disc(duration_ms, 0.95) {_CALLS} GROUP BY 1, 2",
    "30 d, day × model, cost and calls":
        f"SELECT time_bucket(INTERVAL 1 DAY, ts), model, sum(total_cost_usd), count(*) {_CALLS} GROUP BY 1, 2",
    "30 d, p50 p95 p99 by model":
        f"SELECT model, quantile_disc(duration_ms, [0.5, 0.95, 0.99]) {_CALLS} GROUP BY 1",
    "30 d, top 10 users by cost":
        f"SELECT user_id, sum(total_cost_usd) AS c, count(*) {_CALLS} GROUP BY 1 ORDER BY c DESC LIMIT 10",
    "30 d, distinct users": "SELECT count(DISTINCT user_id) FROM spans",
    "30 d, distinct sessions": "SELECT count(DISTINCT session_id) FROM spans",
}  # fmt: skip


def question_of(name: str, end: datetime) -> MetricQuestion:
    """Return the question called ``name``, of the range that ends at ``end``."""
    length, measures, more = QUESTIONS[name]
    more = dict(more)
    if "interval" in more:
        more["interval"] = parse_interval(more["interval"])
    if "filter" in more:
        more["filter"] = parse_filter(more["filter"])
    return MetricQuestion(
        measures=tuple(map(parse_measure, measures.split())), start=end - length, end=end, **more
    )  # fmt: skip


async def timed(action: Callable[[], Awaitable[Any]], rounds: int) -> tuple[list[float], Any]:
    """Return the milliseconds of each round, sorted, and the last result; one round before is not counted."""
    result = await action()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = await action()
        found.append((time.perf_counter() - started) * 1000)
    return sorted(found), result


async def ask_all(services: Services, end: datetime, rounds: int, suffix: str = "") -> dict[str, Told]:
    """Return p50, p99 and the way each question was read."""
    results = {}
    for name in QUESTIONS:
        question = question_of(name, end)
        times, answer = await timed(lambda: query_metrics(services.reads, SCOPE, question, now=end), rounds)  # noqa: B023
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        told = f"{answer.meta.source}, {answer.meta.rows_read:,} rows"
        results[name + suffix] = (statistics.median(times), p99, told)
        print(f"  {name + suffix}: p50 {statistics.median(times):.1f} ms, p99 {p99:.1f} ms ({told})", flush=True)
    return results


async def active_combinations(owner: asyncpg.Connection) -> int:
    """Return the rows of rollup_1h an hour: combinations of dimensions that had a span."""
    return int(await owner.fetchval("SELECT count(*) / count(DISTINCT bucket) FROM rollup_1h"))


async def ask_raw(owner: asyncpg.Connection, end: datetime, seconds: int) -> dict[str, float]:
    """Ask the same questions of raw rows alone, with exact percentiles, one round each; infinite when given up."""
    results = {}
    await owner.execute(f"SET statement_timeout = '{seconds}s'")
    for name in QUESTIONS:
        question = question_of(name, end)
        timeline = timeline_of(question, question.start, question.end)
        needs = needs_of(question.measures, question.measures[0].definition.family)
        target = Target(SCOPE, question.dimensions, question.filter)
        binds = Binds()
        sql = raw_statement(
            target, needs, [(question.start, question.end)], timeline.boundaries, None, binds, exact=True
        )
        started = time.perf_counter()
        try:
            await owner.fetch(sql, *binds.values)
            results[name] = (time.perf_counter() - started) * 1000
        except asyncpg.QueryCanceledError:
            results[name] = math.inf
        print(f"  raw: {name}: {results[name]:.0f} ms", flush=True)
    return results


def ask_duckdb(path: Path) -> dict[str, float]:
    """Ask the yardstick, a column store over the same rows; return medians of three rounds."""
    import duckdb

    database = duckdb.connect()
    database.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet('{path}')")
    results = {}
    for name, sql in DUCKDB.items():
        found = []
        for _ in range(3):
            started = time.perf_counter()
            database.execute(sql).fetchall()
            found.append((time.perf_counter() - started) * 1000)
        results[name] = statistics.median(found)
        print(f"  duckdb: {name}: {results[name]:.0f} ms", flush=True)
    return results


async def measure(cluster: Cluster, urls: EmbeddedUrls, sizes: Sequence[int], options: argparse.Namespace) -> None:
    """Measure all questions at all sizes, then the yardsticks; print the report."""
    found: dict[int, dict[str, Told]] = {}
    raw: dict[str, float] = {}
    yardstick: dict[str, float] = {}
    for size in sizes:
        services = services_of(urls, size)
        await open_services(services)
        spare_long_lived_objects()  # as a worker of the server does
        owner = await asyncpg.connect(database_of(urls.owner_url, size))
        print(
            f"{size:,} spans, {await active_combinations(owner)} combinations an hour; load {load_average()}",
            flush=True,
        )
        found[size] = await ask_all(services, cluster.end, options.rounds)
        await make_pending(owner, 4000, cluster.end)
        try:
            found[size] |= await ask_all(services, cluster.end, options.rounds, " + 4,000 deltas")
        finally:
            # Everything else is folded: these are all there are, and the next run begins without them.
            await owner.execute("TRUNCATE rollup_delta")
        if size == sizes[-1]:
            if not options.no_raw:
                raw = await ask_raw(owner, cluster.end, options.raw_seconds)
            if not options.no_duckdb:
                yardstick = ask_duckdb(cluster.parquet_of(size))
        await close_services(services)
        await owner.close()
    report(sizes, found, raw, yardstick)


def load_average() -> str:
    """Return the load average of the last minute, which a reader of the numbers wants to know."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def report(sizes: Sequence[int], found: dict[int, Any], raw: dict[str, float], yardstick: dict[str, float]) -> None:
    """Print the table of the closing note."""
    print(
        "\n| Question | "
        + " | ".join(f"{size:,}: p50 / p99 ms" for size in sizes)
        + " | ratio | read | raw ms | DuckDB ms |"
    )
    print("|---" * (len(sizes) + 5) + "|")
    for name in found[sizes[-1]]:
        cells = [f"{found[size][name][0]:.1f} / {found[size][name][1]:.1f}" for size in sizes]
        ratio = found[sizes[-1]][name][0] / found[sizes[0]][name][0]
        beside = [f"{source[name]:.0f}" if name in source else "–" for source in (raw, yardstick)]
        print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} | {found[sizes[-1]][name][2]} | {' | '.join(beside)} |")


def run(options: argparse.Namespace, folder: Path) -> None:
    """Load what is missing, then measure with the settings of a real server."""
    sizes = [int(size) for size in options.spans.split(",")]
    cluster = Cluster.at(folder)
    missing = set(sizes) - (set(cluster.loaded) & set(cluster.rolled_up))
    if missing or not (options.no_duckdb or cluster.parquet_of(sizes[-1]).exists()):
        embedded, urls = cluster.start(LOADING)
        try:
            for size in sizes:
                asyncio.run(cluster.fill(urls, size, with_parquet=size == sizes[-1] and not options.no_duckdb))
        finally:
            embedded.stop()
        os.sync()
    if options.load_only:
        return
    embedded, urls = cluster.start(MEASURED)
    try:
        uvloop.run(measure(cluster, urls, sizes, options))
        if options.ingest_rounds:
            uvloop.run(measure_ingest(urls, options.ingest_rounds))
    finally:
        embedded.stop()
        gc.unfreeze()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", default="1000000,10000000", help="sizes, smallest first")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--ingest-rounds", type=int, default=5)
    parser.add_argument("--raw-seconds", type=int, default=120, help="a question on raw rows is given up after this")
    parser.add_argument("--no-raw", action="store_true")
    parser.add_argument("--no-duckdb", action="store_true")
    parser.add_argument("--keep", type=Path, help="load into this folder once and leave it there (10 M spans: 12 GB)")
    parser.add_argument("--load-only", action="store_true")
    options = parser.parse_args()
    if options.keep is not None:
        run(options, options.keep)
        return
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as folder:
        run(options, Path(folder))


if __name__ == "__main__":
    main()
