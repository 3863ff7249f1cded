"""Search by meaning: ``make bench-semantic`` (ARGS="--spans 100000 --seconds 5").

Private services and the program are started with the offline model. First the questions of
tests/fixtures/semantic are asked about conversations that the program itself has embedded: hit rates at ten, of the set
that the search was made with, and of one that was kept back. Then --spans spans get vectors that are drawn at random
round 400 topics, and a thousandth of that number goes to a neighbour: times beside the bare SQL, and how many of the
right ten are found. Last, batches are sent in turns to a server without this search and to one whose embedder is at
work all the while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import numpy as np

from server.access.access_token import issue_token
from server.access.principal import Role
from server.app import build_services, close_services, open_services
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.embedding.offline_model import OfflineModel
from server.embedding.vectors import Vector, from_bytes, similarities, to_bits, to_bytes, to_sizes, unit
from server.embedding_settings import OFFLINE_MODEL
from server.queries.filters.time_range import TimeRange
from server.queries.lists.nearest_reader import NearQuestion, read_nearest
from server.queries.lists.vector_memory import VectorMemory
from server.rollups.rebuild import rebuild_rollups
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from tests.bench.http_load import send_batches
from tests.bench.ingest import SPANS, Payloads
from tests.bench.load import PROJECT, load
from tests.bench.server_process import serve_environment
from tests.process.program import Program
from tests.span_factory import make_span, store

FIXTURES: Final = Path(__file__).parents[1] / "fixtures/semantic"
SETS: Final = {name: json.loads((FIXTURES / f"{name}.json").read_text("utf-8")) for name in ("questions", "kept_back")}
LANGUAGES: Final = tuple(SETS["questions"][0]["said"])
ASKED: Final = "angry customers who want their money back"
DIMENSIONS: Final = 512
SENDERS: Final = 4
PATIENCE: Final = 300.0
COUNT_VECTORS: Final = """
INSERT INTO vector_counts (project_id, model_id, hour, vectors)
SELECT project_id, model_id, date_trunc('hour', ts, 'UTC'), count(*)
FROM span_vectors WHERE project_id IN ('bench', 'small') GROUP BY 1, 2, 3
"""


async def quality(settings: Settings, base_url: str, headers: dict[str, str], name: str) -> None:
    """Print the hit rates of a set of questions."""
    topics = SETS[name]
    services = build_services(settings)
    await open_services(services)
    async with services.writes.plain() as connection:
        await connection.execute(statement("create_project"), name, name)
    now = datetime.now(UTC)
    spans = {
        (place, language): make_span(
            ts=now - timedelta(minutes=10, milliseconds=place * 10 + index), input_text=topic["said"][language]
        )
        for place, topic in enumerate(topics)
        for index, language in enumerate(LANGUAGES)
    }
    await store(services, name, list(spans.values()))
    await close_services(services)
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:

        async def ask(**params: Any) -> dict[str, Any]:
            answer = await client.get("/api/v1/traces", params={"from": "now-1h", "project_id": name, **params})
            answer.raise_for_status()
            return answer.json()  # type: ignore[no-any-return]

        deadline = time.monotonic() + PATIENCE
        while True:
            answer = await client.get("/api/v1/traces", params={"meaning": "x", "project_id": name, "limit": 1})
            if answer.status_code == 200 and answer.json()["meta"]["meaning"]["rows_with_vectors"] == len(spans):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"no vectors: {answer.text[:300]}")
            await asyncio.sleep(0.5)
        across, within = [], []
        for place, topic in enumerate(topics):
            for language in LANGUAGES:
                found = {row["span_id"] for row in (await ask(meaning=topic["asked"][language], limit=10))["data"]}
                across += [spans[place, other].span_id in found for other in LANGUAGES if other != language]
                words = max(topic["said"][language].split(), key=len).strip(".,?!¿¡。")
                both = await ask(meaning=topic["asked"][language], search=words, limit=10)
                within.append(spans[place, language].span_id in {row["span_id"] for row in both["data"]})
    print(f"{name}: hit rate at 10 in another language, {len(across)} pairs: {statistics.mean(across):.3f}")
    print(f"{name}: hit rate at 10 in the same language, with a word of it: {statistics.mean(within):.3f}")


def drawn(generator: np.random.Generator, topics: Vector, count: int) -> Vector:
    """Return vectors round ``topics``."""
    chosen = topics[generator.zipf(1.3, count) % len(topics)]
    return unit(chosen + generator.standard_normal((count, DIMENSIONS)).astype(np.float32) * np.float32(0.05))


async def give_vectors(owner: asyncpg.Connection, spans: int) -> Vector:
    """Give every loaded span a vector; return questions."""
    generator = np.random.default_rng(3)
    topics = unit(generator.standard_normal((400, DIMENSIONS)).astype(np.float32))
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ('small', 'small')")
    model = await owner.fetchval("SELECT model_id FROM embedding_models WHERE name = $1", OFFLINE_MODEL)
    await owner.execute(
        "SELECT ensure_vector_partition(week)"
        " FROM (SELECT DISTINCT date_trunc('week', ts) AS week FROM llm_traces) AS weeks"
    )
    rows = await owner.fetch("SELECT ts, trace_id, span_id, version FROM llm_traces WHERE project_id = $1", PROJECT)
    small = max(1, spans // 1000)
    columns = ("project_id", "ts", "trace_id", "span_id", "model_id", "version", "text_hash", "bits", "sizes", "vector")
    before = await owner.fetchval("SELECT pg_current_wal_insert_lsn()")
    for start in range(0, len(rows), 10_000):
        part = rows[start : start + 10_000]
        vectors = drawn(generator, topics, len(part))
        records = [
            (
                "small" if start + place < small else PROJECT,
                *row[:3],
                model,
                row[3],
                bytes.fromhex(row["span_id"]),
                to_bits(v),
                to_sizes(v),
                to_bytes(v),
            )
            for place, (row, v) in enumerate(zip(part, vectors, strict=True))
        ]
        await owner.copy_records_to_table("span_vectors", records=records, columns=columns)
    written = await owner.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
    print(f"{len(rows):,} vectors of {DIMENSIONS} elements: {written / len(rows):,.0f} bytes of WAL each")
    await owner.execute(COUNT_VECTORS)
    await owner.execute("VACUUM (ANALYZE) span_vectors")
    await owner.execute("VACUUM (ANALYZE) vector_counts")
    await owner.execute("VACUUM llm_traces")
    return drawn(generator, topics, 60)


async def add_up(settings: Settings, end: datetime) -> None:
    """Make the rollups of the loaded spans, from which a search says how many there are."""
    services = build_services(settings)
    await open_services(services)
    await rebuild_rollups(services.worker, [PROJECT], end - timedelta(days=22), end)
    await close_services(services)


class Bare:
    """The statements of a search as the server sends them, over a connection of our own, and their comparison."""

    def __init__(self, reader: asyncpg.Connection, model: int, window: TimeRange) -> None:
        self.reader, self.model, self.memory = reader, model, VectorMemory(64 << 20)
        self.asked = NearQuestion(view="spans", window=window, filter=None, most=500_000)

    async def near(self, project: str, question: Vector) -> tuple[float, list[Any]]:
        """Return the seconds that the question took, and the spans."""
        started = time.perf_counter()
        async with self.reader.transaction(isolation="repeatable_read", readonly=True):
            await self.reader.execute(
                f"SET LOCAL app.projects = '{project}'; SET LOCAL plan_cache_mode = force_generic_plan"
            )
            near = await read_nearest(
                self.reader, RowScope((project,)), self.asked, self.model, question, self.memory, now=datetime.now(UTC)
            )
        return time.perf_counter() - started, near.spans


async def recalls(owner: asyncpg.Connection, bare: Bare, project: str, questions: Sequence[Vector]) -> None:
    """Print how many of the right ten are found."""
    records = await owner.fetch("SELECT span_id, ts, vector FROM span_vectors WHERE project_id = $1", project)
    everything = from_bytes((record["vector"] for record in records), DIMENSIONS)
    shares, times = [], []
    for question in questions:
        right = {
            (records[i]["span_id"], records[i]["ts"]) for i in np.argsort(-similarities(everything, question))[:10]
        }
        seconds, near = await bare.near(project, question)
        times.append(seconds)
        shares.append(len(right & {(span.span_id, span.ts) for span in near[:10]}) / len(right))
    print(
        f"{project}: {len(records):,} vectors in range, recall at 10 {statistics.mean(shares):.3f}, "
        f"SQL and comparison p50 {statistics.median(times) * 1000:.1f} ms"
    )


async def speed(settings: Settings, urls: EmbeddedUrls, base_url: str, headers: dict[str, str], arguments: Any) -> None:
    """Print times and recalls."""
    end = await load(urls.owner_url, arguments.spans, days=21)
    await add_up(settings, end)
    owner = await asyncpg.connect(urls.owner_url)
    questions = (await give_vectors(owner, arguments.spans))[: arguments.questions]
    model = await owner.fetchval("SELECT model_id FROM embedding_models WHERE name = $1", OFFLINE_MODEL)
    reader = await asyncpg.connect(urls.database_url, server_settings={"role": "observatory_api", "jit": "off"})
    window = TimeRange(end - timedelta(days=30), end + timedelta(days=1))
    bare = Bare(reader, model, window)
    for project in (PROJECT, "small"):
        await recalls(owner, bare, project, list(questions))
    (asked,) = OfflineModel().vectors([ASKED])
    bounds = {
        name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for name, moment in (("from", window.start), ("to", window.end)) if moment
    }
    params = {"project_id": PROJECT, "limit": "10", "fields": "core", **bounds}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:

        async def ask(**more: str) -> float:
            started = time.perf_counter()
            answer = await client.get("/api/v1/traces", params={**params, **more})
            answer.raise_for_status()
            return time.perf_counter() - started

        columns: dict[str, list[float]] = {"SQL and comparison": [], "API": [], "API, a new question": []}
        columns |= {"API, model=o1": [], "API, view=traces": []}
        await ask(meaning=ASKED)
        deadline, number = time.monotonic() + arguments.seconds, 0
        # In turns: whatever else the machine does falls on all of them.
        while time.monotonic() < deadline or number < 5:
            columns["SQL and comparison"].append((await bare.near(PROJECT, asked))[0])
            columns["API"].append(await ask(meaning=ASKED))
            columns["API, a new question"].append(await ask(meaning=f"question {number}"))
            columns["API, model=o1"].append(await ask(meaning=ASKED, model="o1"))
            columns["API, view=traces"].append(await ask(meaning=ASKED, view="traces", fields="trace_id"))
            number += 1
    for name, times in columns.items():
        print(f"{name}: p50 {statistics.median(times) * 1000:.1f} ms, fastest {min(times) * 1000:.1f} ms")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}")
    await reader.close()
    await owner.close()


def beside_ingest(folder: Path, urls: EmbeddedUrls, headers: dict[str, str], rounds: int, batches: int) -> None:
    """Print the time of batches beside a working embedder as a multiple of their time without."""
    payloads = Payloads(1, words=60)
    took: dict[str, list[float]] = {"": [], "offline": []}
    for number in range(rounds):
        for semantic in ("", "offline") if number % 2 else ("offline", ""):
            more = {"OBSERVATORY_SEMANTIC": semantic} if semantic else {}
            with Program(folder, ["serve"], serve_environment(urls, **more)) as program:
                base_url = program.wait_until_serving()
                # Some to begin with: the server is warm, and the embedder has a backlog.
                asyncio.run(_sent(base_url, headers, payloads, batches // 4))
                took[semantic].append(asyncio.run(_sent(base_url, headers, payloads, batches)))
    pairs = [one / other for one, other in zip(took["offline"], took[""], strict=True)]
    print(
        f"{batches} batches of {SPANS} spans: {statistics.median(took['']):.1f} s without the embedder, "
        f"{statistics.median(took['offline']):.1f} s beside it: speed {1 / statistics.median(pairs):.3f} of that "
        f"(median of {rounds} pairs; {', '.join(f'{1 / pair:.2f}' for pair in pairs)})"
    )


async def _sent(base_url: str, headers: dict[str, str], payloads: Payloads, batches: int) -> float:
    return await send_batches(base_url, headers, [payloads.batch() for _ in range(batches)], SENDERS)


def main(arguments: Any) -> None:
    """Start private services and the program, measure, print."""
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedServices(folder / "data", postgres_settings={"shared_buffers": "1GB"}) as urls:
            asyncio.run(migrate(urls.owner_url))
            settings = Settings(
                database_url=urls.database_url,
                database_owner_url=urls.owner_url,
                database_worker_url=urls.worker_url,
                redis_url=urls.redis_url,
                jwt_secret=urls.jwt_secret,
            )
            headers = {"Authorization": f"Bearer {issue_token(settings, role=Role.ADMIN, projects=['*'])}"}
            with Program(folder, ["serve"], serve_environment(urls, OBSERVATORY_SEMANTIC="offline")) as program:
                base_url = program.wait_until_serving()
                for name in SETS:
                    asyncio.run(quality(settings, base_url, headers, name))
                if arguments.spans:
                    asyncio.run(speed(settings, urls, base_url, headers, arguments))
            if arguments.ingest_rounds:
                sender = issue_token(settings, role=Role.ADMIN, projects=[next(iter(SETS))])
                headers = {"Authorization": f"Bearer {sender}"}
                beside_ingest(folder, urls, headers, arguments.ingest_rounds, arguments.batches)


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--ingest-rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=100, help="requests of 100 spans in each phase")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
