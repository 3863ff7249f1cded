"""Lists, search, walks and single traces: ``make bench-queries`` (ARGS="--spans 1000000 --seconds 5").

Private PostgreSQL and Valkey are filled with --spans spans (tests/bench/load.py), the program is started, and each
question is put to it by one client and by eight, beside the bare SQL of the same question on one connection. Each
request asks for another end of its time range, so that no answer is remembered, but for the row called
"cached", which is beside a bare Sanic route that returns the same bytes. Comparisons within one run count.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.queries.filters.search_text import search_query
from server.queries.lists.list_question import VIEWS
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.load import PROJECT, load
from tests.process.program import Program

COLUMNS = ", ".join(f"{item.expression()} AS {name}" for name, item in VIEWS["spans"].fields.items() if item.is_default)
BY_TIME = "ORDER BY t.ts DESC, t.trace_id DESC, t.span_id DESC LIMIT 51"
SPANS = f"SELECT {COLUMNS} FROM llm_traces t WHERE t.project_id = '{PROJECT}' AND t.ts >= $1 AND t.ts < $2"
SEARCH = f"{SPANS} AND t.search_vector @@ to_tsquery('simple', $3) {BY_TIME}"


@dataclass(frozen=True)
class Question:
    """One row of the report: what is asked of the API, and the same in SQL (``$1`` and ``$2``: the range)."""

    name: str
    days: int
    parameters: str
    sql: str
    argument: str | None = None


@dataclass(frozen=True)
class Words:
    """Words of the loaded texts: in about a third of the spans, and in a handful."""

    common: str
    rare: str


def questions(words: Words) -> list[Question]:
    """Return the questions to measure."""

    def search(name: str, text: str) -> Question:
        return Question(f"search, {name}", 30, f"search={quote(text)}", SEARCH, search_query(text).tsquery)

    return [
        Question("list of 50, newest", 1, "", f"{SPANS} {BY_TIME}"),
        Question("one model, 7 days", 7, "model=o1", f"{SPANS} AND t.model = 'o1' {BY_TIME}"),
        Question("errors, 30 days", 30, "status=error", f"{SPANS} AND t.status_code = 'ERROR' {BY_TIME}"),
        Question(
            "most expensive, 30 days",
            30,
            "sort_by=cost",
            f"{SPANS} AND t.total_cost_usd IS NOT NULL"
            " ORDER BY t.total_cost_usd DESC NULLS LAST, t.ts DESC, t.trace_id DESC, t.span_id DESC LIMIT 51",
        ),
        Question(
            "traces, newest",
            7,
            "view=traces",
            f"SELECT * FROM trace_summaries t WHERE t.project_id = '{PROJECT}' AND t.start_ts >= $1 AND t.start_ts < $2"
            " ORDER BY t.start_ts DESC, t.trace_id DESC LIMIT 51",
        ),
        search("common word", words.common),
        search("rare word", words.rare),
        search("no hit", "nosuchword"),
        search("two words, one excluded", f"{words.common} -{words.rare}"),
    ]


class Report:
    """Prints rows of a table as they are measured."""

    def __init__(self) -> None:
        print("\n| question | bare SQL p50 | 1 client p50 | over SQL | 8 clients p50 | p99 | requests/s |")
        print("|---|---|---|---|---|---|---|")

    def row(self, name: str, bare: float | None, alone: list[float], eight: list[float], rate: float) -> None:
        """Print one row; times are in seconds."""
        one = statistics.median(alone)
        shown = ["", ""] if bare is None else [f"{bare * 1000:.1f} ms", f"+{(one - bare) * 1000:.1f} ms"]
        p99 = sorted(eight)[int(len(eight) * 0.99)]
        print(
            f"| {name} | {shown[0]} | {one * 1000:.1f} ms | {shown[1]} |"
            f" {statistics.median(eight) * 1000:.1f} ms | {p99 * 1000:.1f} ms | {rate:,.0f} |"
        )


async def bare_sql(connection: asyncpg.Connection, question: Question, end: datetime, seconds: float) -> float:
    """Median seconds of the statement, in the transaction that row-level security asks for."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    for shift in itertools.count():
        to = end - timedelta(milliseconds=shift)
        arguments = [to - timedelta(days=question.days), to, *([question.argument] if question.argument else [])]
        started = time.perf_counter()
        await connection.execute(
            f"BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL app.projects = '{PROJECT}'"
        )
        await connection.fetch(question.sql, *arguments)
        await connection.execute("COMMIT")
        times.append(time.perf_counter() - started)
        if time.perf_counter() > deadline:
            return statistics.median(times)
    raise AssertionError("count() does not end")


async def put(
    base_url: str, headers: dict[str, str], path: Callable[[], str], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Return the seconds of each request of ``clients`` connections, and requests a second."""
    times: list[float] = []
    begun = time.perf_counter()

    async def client() -> None:
        async with LoadConnection(base_url, headers) as connection:
            while time.perf_counter() < begun + seconds:
                started = time.perf_counter()
                status, body = await connection.get(path())
                times.append(time.perf_counter() - started)
                if status != 200:
                    raise RuntimeError(f"the server answered {status}: {body[:300]!r}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, len(times) / (time.perf_counter() - begun)


async def measure(urls: EmbeddedUrls, base_url: str, end: datetime, words: Words, arguments: Any) -> None:
    """Measure all rows of the table."""
    settings = Settings(jwt_secret=urls.jwt_secret)
    headers = {"Authorization": f"Bearer {issue_token(settings, role=Role.ADMIN, projects=[PROJECT])}"}
    connection = await asyncpg.connect(urls.database_url, server_settings={"role": "observatory_api"})
    report, shifts = Report(), itertools.count()

    async def ask(name: str, bare: float | None, path: Callable[[], str]) -> float:
        await put(base_url, headers, path, 1, 0.3)
        alone, _ = await put(base_url, headers, path, 1, arguments.seconds)
        eight, rate = await put(base_url, headers, path, 8, arguments.seconds)
        report.row(name, bare, alone, eight, rate)
        return rate

    for question in questions(words):
        bare = await bare_sql(connection, question, end, arguments.seconds / 2)

        def path(asked: Question = question) -> str:
            to = int(end.timestamp() * 1000) - next(shifts)
            start = to - asked.days * 86_400_000
            return f"/api/v1/traces?from={start}&to={to}&{asked.parameters}".rstrip("&")

        await ask(question.name, bare, path)
    await connection.close()
    await measure_walk(base_url, headers, arguments)
    traces = itertools.cycle(range(0, arguments.spans // 3, 7))
    await ask("single trace, uncached", None, lambda: f"/api/v1/traces/{next(traces):032x}")
    to = int(end.timestamp() * 1000)
    cached = f"/api/v1/traces?from={to - 86_400_000}&to={to}&limit=50"
    async with LoadConnection(base_url, headers) as one:
        _, body = await one.get(cached)
    rate = await ask("list of 50, cached", None, lambda: cached)
    async with bare_route(body) as route:
        times, bare_rate = await put(route.url, headers, lambda: "/x", 8, arguments.seconds)
    print(f"| bare Sanic route, same bytes | | | | {statistics.median(times) * 1000:.1f} ms | | {bare_rate:,.0f} |")
    print(f"\ncached list / bare route: {rate / bare_rate:.2f}")


async def measure_walk(base_url: str, headers: dict[str, str], arguments: Any) -> None:
    """Page 1, 2 and 1,000 (or the last but one) of one list, each asked twenty times."""
    pages: dict[int, str] = {}
    first = path = "/api/v1/traces?limit=50&fields=core"
    deepest = min(1000, arguments.spans // 50 - 1)
    async with LoadConnection(base_url, headers) as connection:
        for number in range(1, deepest + 1):
            pages[number] = path
            _, body = await connection.get(path)
            cursor = body.rpartition(b'"next_cursor":"')[2].partition(b'"')[0].decode()
            path = f"{first}&cursor={cursor}"
    limits = itertools.cycle(range(40, 60))

    def again(number: int) -> Callable[[], str]:
        """Return the page with a limit of its own: another answer, so not a remembered one."""
        return lambda: pages[number].replace("limit=50", f"limit={next(limits)}")

    for number in (1, 2, deepest):
        times: list[float] = []
        ask = again(number)
        async with LoadConnection(base_url, headers) as connection:
            for _ in range(20):  # with the twenty-first the limits begin again, and so do answers
                started = time.perf_counter()
                await connection.get(ask())
                times.append(time.perf_counter() - started)
        print(f"| walk, page {number:,} | | {statistics.median(times) * 1000:.1f} ms | | | | |")


@dataclass(frozen=True)
class BareRoute:
    """A running bare Sanic route."""

    url: str
    pid: int


@asynccontextmanager
async def bare_route(body: bytes) -> AsyncIterator[BareRoute]:
    """Run a bare route that returns ``body``."""
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.NamedTemporaryFile() as file:
        port = free.getsockname()[1]
        free.close()
        file.write(body)
        file.flush()
        command = [sys.executable, "-m", "tests.bench.bare_route", file.name, str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                await asyncio.sleep(0.1)
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue
                writer.close()
                break
            yield BareRoute(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


async def prepare(urls: EmbeddedUrls, spans: int) -> tuple[datetime, Words]:
    """Fill the database; return the end of the spans' time and words to search for."""
    await migrate(urls.owner_url)
    end = await load(urls.owner_url, spans)
    owner = await asyncpg.connect(urls.owner_url)
    rows = await owner.fetch(
        "SELECT word, ndoc FROM ts_stat('SELECT search_vector FROM llm_traces ORDER BY ts DESC LIMIT 20000')"
        " ORDER BY ndoc DESC"
    )
    await owner.close()
    rare = next(row["word"] for row in rows if row["ndoc"] <= max(3, rows[0]["ndoc"] // 200))
    return end, Words(rows[0]["word"], rare)


def main(arguments: Any) -> None:
    """Start private services and the program, measure, print."""
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedServices(folder / "data", postgres_settings={"shared_buffers": "1GB"}) as urls:
            print(f"loading {arguments.spans:,} spans")
            end, words = asyncio.run(prepare(urls, arguments.spans))
            environment = {
                "DATABASE_URL": urls.database_url,
                "DATABASE_OWNER_URL": urls.owner_url,
                "DATABASE_WORKER_URL": urls.worker_url,
                "REDIS_URL": urls.redis_url,
                "JWT_SECRET": urls.jwt_secret,
                "OBSERVATORY_PORT": "0",
            }
            with Program(folder, ["serve", "--workers", str(arguments.workers)], environment) as program:
                base_url = program.wait_until_serving()
                asyncio.run(measure(urls, base_url, end, words, arguments))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of measuring for each row and number of clients")
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
