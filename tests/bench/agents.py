"""Agent conversations, whose every call carries its history: ``make bench-agents`` (ARGS="--base ../other-worktree").

Sends the turns of many conversations of several tenants over OTLP (:mod:`tests.bench.conversations`) to a server with
authentication, pricing and full text on, which answers after COMMIT, and prints

    spans/s and MB/s of what was received, p50 and p99 of a request
    bytes on disk (all tables and indexes, after VACUUM) and bytes of WAL for each byte received; "kept": without the
    tables whose rows go within a day, such as the feed of live tails
    p50 and p99 of reads: a list of 50 with texts, searches (a common word, a rare one, none, a phrase), one trace with
    its contents, an export

The layouts ``shared`` and ``inline`` of content run beside each other (``--layouts``), each on a database of its own,
and with ``--base DIR`` the program of another worktree, in the layout ``--base-layout``: all take the same requests in
turns, and the last column is the ratio of the first to the second. The spans arrive in rounds, so that the two are
measured at the same time of a noisy day. ``--where`` prints where the bytes of a span are, table by table and index by
index, and what its WAL is of. After a checkpoint the first change of a page puts its image into the WAL; a run is too
short for that unless ``--checkpoints`` is given. ``--growth`` stores conversations of 20 turns only and prints the
bytes of a span at turn 2 and at turn 20.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import orjson

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.settings import Settings
from tests.bench.conversations import TENANTS, Conversations
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import settle_text
from tests.bench.server_process import serve_environment
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program

HERE = Path(__file__).parents[2]
SPANS = 100
CLIENTS = 12
SIZE = """
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname = 'public'
"""
BRIEF = """
SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint
FROM unnest('{span_feed,response_notes,rollup_delta,actor_delta,span_updates,content_garbage}'::text[]) AS brief (name)
"""
LARGEST = """
SELECT coalesce(parent.relname, c.relname) AS name, sum(pg_table_size(c.oid))::bigint AS rows,
       sum(pg_indexes_size(c.oid))::bigint AS indexes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relkind = 'r' AND n.nspname = 'public' GROUP BY 1 ORDER BY sum(pg_total_relation_size(c.oid)) DESC LIMIT 4
"""


EACH = """
SELECT regexp_replace(coalesce(owner.relname, c.relname), '_[0-9]{8}', '') ||
       CASE WHEN i.indexrelid IS NULL THEN '' ELSE ': ' || regexp_replace(c.relname, '_[0-9]{8}', '') END AS name,
       sum(CASE WHEN i.indexrelid IS NULL THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END)::bigint AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class owner ON owner.oid = i.indrelid
WHERE c.relkind IN ('r', 'i') AND n.nspname = 'public' GROUP BY 1 HAVING sum(pg_relation_size(c.oid)) > 0
ORDER BY size DESC
"""
WAL_KINDS = """
SELECT "resource_manager/record_type" AS name, count, combined_size, fpi_size
FROM pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn, true) WHERE combined_size > 0 ORDER BY combined_size DESC
"""
WAL_PLACES = """
SELECT regexp_replace(coalesce(c.relname, 'of no table here'), '_[0-9]{8}', '') AS name, count(*) AS count,
       sum(block_data_length + coalesce(main_data_length, 0))::bigint AS data, sum(block_fpi_length)::bigint AS images
FROM pg_get_wal_block_info($1::text::pg_lsn, $2::text::pg_lsn, false) b
LEFT JOIN pg_class c ON pg_relation_filenode(c.oid) = b.relfilenode
GROUP BY 1 ORDER BY sum(block_data_length + block_fpi_length) DESC LIMIT 30
"""


class Side:
    """One build under measurement: its services, its server, and what was measured."""

    def __init__(self, name: str, code: Path, layout: str, urls: EmbeddedUrls, folder: Path) -> None:
        self.name, self.urls = name, urls
        self._layout = layout
        self._code, self._folder = code, folder
        self.owner: asyncpg.Connection
        self.base_url = ""
        self.received = self.spans = 0
        self.seconds = 0.0
        self.commits: list[float] = []
        self.reads: dict[str, list[float]] = {}
        self.figures: dict[str, float] = {}
        self._at_start: tuple[int, str] = (0, "")

    @contextlib.contextmanager
    def serving(self, workers: int) -> Iterator[None]:
        """Run the server of this build on a new database."""
        settings = serve_environment(
            self.urls,
            PYTHONPATH=str(self._code),
            OBSERVATORY_INGEST_SPANS_PER_MINUTE="0",
            OBSERVATORY_CONTENT_LAYOUT=self._layout,
        )
        command = [sys.executable, "-m", "server.cli"]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}
        subprocess.run([*command, "migrate"], cwd=self._code, env=environment, check=True, capture_output=True)
        with Program(
            self._folder, ["serve", "--workers", str(workers)], settings, command=command, cwd=self._code
        ) as it:
            self.base_url = it.wait_until_serving(120)
            yield

    async def open(self) -> None:
        """Connect, create the tenants, and note sizes."""
        self.owner = await asyncpg.connect(self.urls.owner_url)
        for tenant in TENANTS:
            await self.owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", tenant)
        await self.owner.execute("SELECT ensure_trace_partition($1)", datetime.now(UTC) - timedelta(seconds=5))
        self._at_start = await self.size(), await self.owner.fetchval("SELECT pg_current_wal_lsn()::text")

    async def size(self) -> int:
        """Return the bytes of all tables and indexes."""
        return int(await self.owner.fetchval(SIZE))

    def headers(self, tenant: str, content_type: str = PROTOBUF) -> dict[str, str]:
        """Return the headers of a caller of ``tenant``."""
        token = issue_token(Settings(jwt_secret=self.urls.jwt_secret), role=Role.ADMIN, projects=[tenant])
        return {"Authorization": f"Bearer {token}", "Content-Type": content_type}

    async def send(self, requests: list[tuple[str, bytes]], clients: int) -> None:
        """Send ``requests``, pairs of a tenant and a body, and count the time until the last is committed."""
        waiting = list(reversed(requests))

        async def client() -> None:
            connections: dict[str, LoadConnection] = {}
            async with contextlib.AsyncExitStack() as stack:
                while waiting:
                    tenant, body = waiting.pop()
                    if tenant not in connections:
                        connection = LoadConnection(self.base_url, self.headers(tenant))
                        connections[tenant] = await stack.enter_async_context(connection)
                    started = time.perf_counter()
                    while (status := await connections[tenant].post("/v1/traces", body)) in (429, 503):
                        await asyncio.sleep(0.5)  # as exporters do
                    self.commits.append(time.perf_counter() - started)
                    if status != 200:
                        raise RuntimeError(f"{self.name}: the server answered {status}")

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        self.seconds += time.perf_counter() - started
        self.received += sum(len(body) for _, body in requests)

    async def settle(self, *, where: bool = False) -> None:
        """Note what is stored: text index settled, tables vacuumed. ``where``: print it in detail."""
        end = await self.owner.fetchval("SELECT pg_current_wal_lsn()::text")
        wal = await self.owner.fetchval(
            "SELECT pg_wal_lsn_diff($2::text::pg_lsn, $1::text::pg_lsn)::bigint", self._at_start[1], end
        )
        await settle_text(self.owner, "llm_traces")
        if await self.owner.fetchval("SELECT to_regclass('content_parts') IS NOT NULL"):
            await settle_text(self.owner, "content_parts")
        await self.owner.execute("VACUUM ANALYZE")
        self.spans = await self.owner.fetchval("SELECT count(*) FROM llm_traces")
        received = self.received
        self.figures = {
            "spans/s": self.spans / self.seconds,
            "MB/s": received / self.seconds / 1e6,
            "request p50, ms": 1000 * _quantile(self.commits, 0.5),
            "request p99, ms": 1000 * _quantile(self.commits, 0.99),
            "bytes on disk a byte": (size := await self.size() - self._at_start[0]) / received,
            "of these kept": (size - await self.owner.fetchval(BRIEF)) / received,
            "bytes of WAL a byte": wal / received,
        }
        if where:
            await self._print_places(end)
        for row in await self.owner.fetch(LARGEST):
            print(f"  {self.name}: {row['name']}: {row['rows'] / self.spans:,.0f} bytes a span in the table, "
                  f"{row['indexes'] / self.spans:,.0f} in indexes")  # fmt: skip

    async def _print_places(self, wal_end: str) -> None:
        print(f"\n{self.name}: bytes of a span, of {self.received / self.spans:,.0f} received")
        for row in await self.owner.fetch(EACH):
            if row["size"] > 5 * self.spans:
                print(f"  {row['size'] / self.spans:8,.0f}  {row['name']}")
        await self.owner.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        print("WAL of a span: records, bytes with and of images of pages")
        for row in (await self.owner.fetch(WAL_KINDS, self._at_start[1], wal_end))[:24]:
            print(f"  {row['count'] / self.spans:6.2f} {row['combined_size'] / self.spans:8,.0f} "
                  f"{row['fpi_size'] / self.spans:8,.0f}  {row['name']}")  # fmt: skip
        print("WAL of a span by table or index: blocks, bytes of data and of images")
        for row in await self.owner.fetch(WAL_PLACES, self._at_start[1], wal_end):
            print(f"  {row['count'] / self.spans:6.2f} {row['data'] / self.spans:8,.0f} "
                  f"{row['images'] / self.spans:8,.0f}  {row['name']}")  # fmt: skip

    async def read(self, questions: list[tuple[str, str, str]]) -> None:
        """Ask ``questions``: a label, a tenant, a path."""
        for label, tenant, path in questions:
            async with LoadConnection(self.base_url, self.headers(tenant, "application/json")) as connection:
                started = time.perf_counter()
                status, body = await connection.get(path)
                self.reads.setdefault(label, []).append(time.perf_counter() - started)
                if status != 200:
                    raise RuntimeError(f"{self.name}: {path}: {status} {body[:200]!r}")

    def report(self) -> dict[str, float]:
        """Return all figures by name."""
        reads = {}
        for label, seconds in self.reads.items():
            reads[f"{label}: p50, ms"] = 1000 * statistics.median(seconds)
            reads[f"{label}: p99, ms"] = 1000 * _quantile(seconds, 0.99)
        return {**self.figures, **reads}


def _quantile(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def questions(side: Side, talks: Conversations, each: int) -> list[tuple[str, str, str]]:
    """Return reads of all kinds, ``each`` times; a new start of the range keeps every answer out of caches."""
    chance = random.Random(7)
    words, found = talks.prose.words, []
    phrase = await phrases(side)
    traces = await side.owner.fetch("SELECT project_id, trace_id FROM trace_summaries ORDER BY trace_id LIMIT $1", each)
    for number in range(each):
        tenant = TENANTS[number % len(TENANTS)]
        since = f"from={int(time.time() * 1000) - 86_400_000 - number}"
        lists = f"/api/v1/traces?{since}&limit=50"
        found += [
            ("list of 50", tenant, f"{lists}&fields=core,io"),
            ("search, common word", tenant, f"{lists}&search={chance.choice(words[20:60])}"),
            ("search, rare word", tenant, f"{lists}&search={chance.choice(words[-2000:])}"),
            ("search, two words", tenant, f"{lists}&search={'+'.join(chance.sample(words[200:2000], 2))}"),
            ("search, no hit", tenant, f"{lists}&search=nowhere{number}"),
            ("search, phrase", tenant, f"{lists}&search={quote(chr(34) + phrase[tenant] + chr(34))}"),
            ("one trace", traces[number]["project_id"], f"/api/v1/traces/{traces[number]['trace_id']}"),
        ]
        if number % 10 == 0:
            found.append(("export of 1,000", tenant, f"/api/v1/traces?{since}&limit=1000&fields=all"))
    return found


async def phrases(side: Side) -> dict[str, str]:
    """Return three words of an answer of each tenant, read from the list."""
    found = {}
    for tenant in TENANTS:
        async with LoadConnection(side.base_url, side.headers(tenant, "application/json")) as connection:
            path = "/api/v1/traces?operation_type=chat&finish_reason=stop&fields=output_text&limit=1"
            _, body = await connection.get(path)
        text = orjson.loads(body)["data"][0]["output_text"]
        found[tenant] = " ".join(text.replace(".", "").split()[3:6]).lower()
    return found


async def compare(sides: list[Side], arguments: argparse.Namespace) -> None:
    """Ingest in rounds that take turns, then reads in turns; print the table."""
    for side in sides:
        await side.open()
    talks = Conversations(11)
    for number in range(arguments.rounds):
        requests = []
        for place in range(arguments.requests):
            tenant = TENANTS[place % len(TENANTS)]
            requests.append((tenant, talks.request(tenant, SPANS)))
        for side in sides if number % 2 else list(reversed(sides)):
            if arguments.checkpoints:
                await side.owner.execute("CHECKPOINT")
            await side.send(requests, arguments.clients)
    for side in sides:
        await side.settle(where=arguments.where)
    for part in [await questions(sides[0], talks, arguments.reads)]:
        for start in range(0, len(part), 8):
            for side in sides:
                await side.read(part[start : start + 8])
    table([(side.name, side.report()) for side in sides])
    print(f"\n{sides[0].spans:,} spans, {sides[0].received / sides[0].spans:,.0f} bytes of OTLP a span")


async def grow(sides: list[Side], arguments: argparse.Namespace) -> None:
    """Print the bytes of a span by the turn it belongs to: the conversations go on side by side, turn after turn."""
    for side in sides:
        await side.open()
    talks = Conversations(13, turns=(20, 20), active=arguments.talks)
    figures: dict[str, dict[str, float]] = {side.name: {} for side in sides}
    for turn in range(1, 21):
        requests = [(tenant, talks.next_turns(tenant)) for tenant in TENANTS]
        for side in sides:
            before = await side.size()
            await side.send(requests, len(TENANTS))
            await settle_text(side.owner, "llm_traces")
            if turn in (2, 20):
                spans = await side.owner.fetchval("SELECT count(*) FROM llm_traces") / turn
                figures[side.name][f"bytes a span of turn {turn}"] = (await side.size() - before) / spans
    for found in figures.values():
        found["turn 20 to turn 2"] = found["bytes a span of turn 20"] / found["bytes a span of turn 2"]
    table(list(figures.items()))


def table(sides: list[tuple[str, dict[str, float]]]) -> None:
    """Print figures beside each other, and the ratio of the first to the second."""
    names = [name for name, _ in sides]
    rule = "---|" * (len(sides) + 1 + (len(sides) > 1))
    print(f"\n| | {' | '.join(names)} |{' ratio |' if len(sides) > 1 else ''}\n|{rule}")
    for label, value in sides[0][1].items():
        values = [found[label] for _, found in sides]
        ratio = f" {value / values[1]:.2f} |" if len(values) > 1 else ""
        print(f"| {label} | {' | '.join(f'{item:,.3g}' if item < 100 else f'{item:,.0f}' for item in values)} |{ratio}")


def main(arguments: argparse.Namespace) -> None:
    """Start private services and servers, measure, print."""
    builds = [(layout, HERE, layout) for layout in arguments.layouts]
    if arguments.base:
        builds.append(("base", arguments.base.resolve(), arguments.base_layout))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="observatory-bench-")))
        folder.chmod(0o755)
        sides = []
        for name, code, layout in builds:
            urls = stack.enter_context(EmbeddedServices(folder / name))
            side = Side(name, code, layout, urls, folder)
            stack.enter_context(side.serving(arguments.workers))
            sides.append(side)
        asyncio.run((grow if arguments.growth else compare)(sides, arguments))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a worktree with the build to compare with")
    parser.add_argument(
        "--layouts", nargs="+", choices=["shared", "inline"], default=["shared", "inline"], help="of this build"
    )
    parser.add_argument("--base-layout", choices=["shared", "inline"], default="inline", help="of that build")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=30, help="requests of 100 spans a round")
    parser.add_argument("--reads", type=int, default=30, help="questions of each kind")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--where", action="store_true", help="where the bytes of a span are")
    parser.add_argument("--checkpoints", action="store_true", help="one before each round, as time brings them")
    parser.add_argument("--growth", action="store_true", help="bytes of a span by turn instead")
    parser.add_argument("--talks", type=int, default=25, help="conversations of a tenant, with --growth")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
