"""Search by meaning: ``make bench-semantic`` (ARGS="--spans 100000 --seconds 5").

Private services and the program are started with the offline model. First the questions of
tests/fixtures/semantic/questions.json are asked about conversations that the program itself has embedded: hit rates at
ten. Then --spans spans get vectors that are drawn at random round 400 topics, and a thousandth of that number goes to a
neighbour: times beside the bare SQL, and how many of the right ten are found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
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
from server.embedding.vectors import Vector, from_bytes, similarities, to_bits, to_bytes, unit
from server.embedding_settings import OFFLINE_MODEL
from server.queries.filters.time_range import TimeRange
from server.queries.lists.nearest_reader import NearQuestion, read_nearest
from server.schema.migrate import migrate
from server.settings import Settings
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from tests.bench.load import PROJECT, load
from tests.bench.server_process import serve_environment
from tests.process.program import Program
from tests.span_factory import make_span, store

TOPICS: Final = json.loads((Path(__file__).parents[1] / "fixtures/semantic/questions.json").read_text("utf-8"))
LANGUAGES: Final = tuple(TOPICS[0]["said"])
DIMENSIONS: Final = 512
PATIENCE: Final = 300.0


async def quality(settings: Settings, base_url: str, headers: dict[str, str]) -> None:
    """Print the hit rates of the set of questions."""
    services = build_services(settings)
    await open_services(services)
    async with services.writes.plain() as connection:
        await connection.execute(statement("create_project"), "set", "set")
    now = datetime.now(UTC)
    spans = {
        (place, language): make_span(
            ts=now - timedelta(minutes=10, milliseconds=place * 10 + index), input_text=topic["said"][language]
        )
        for place, topic in enumerate(TOPICS)
        for index, language in enumerate(LANGUAGES)
    }
    await store(services, "set", list(spans.values()))
    await close_services(services)
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:

        async def ask(**params: Any) -> dict[str, Any]:
            answer = await client.get("/api/v1/traces", params={"from": "now-1h", "project_id": "set", **params})
            answer.raise_for_status()
            return answer.json()  # type: ignore[no-any-return]

        deadline = time.monotonic() + PATIENCE
        while True:
            answer = await client.get("/api/v1/traces", params={"meaning": "x", "project_id": "set", "limit": 1})
            if answer.status_code == 200 and answer.json()["meta"]["meaning"]["rows_with_vectors"] == len(spans):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"no vectors: {answer.text[:300]}")
            await asyncio.sleep(0.5)
        across, within = [], []
        for place, topic in enumerate(TOPICS):
            for language in LANGUAGES:
                found = {row["span_id"] for row in (await ask(meaning=topic["asked"][language], limit=10))["data"]}
                across += [spans[place, other].span_id in found for other in LANGUAGES if other != language]
                words = max(topic["said"][language].split(), key=len).strip(".,?!¿¡。")
                both = await ask(meaning=topic["asked"][language], search=words, limit=10)
                within.append(spans[place, language].span_id in {row["span_id"] for row in both["data"]})
    print(f"hit rate at 10, other language, {len(across)} pairs of 200 questions: {statistics.mean(across):.3f}")
    print(f"hit rate at 10, same language, with a word of it: {statistics.mean(within):.3f}")


def drawn(generator: np.random.Generator, topics: Vector, count: int) -> Vector:
    """Vectors round ``topics``."""
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
    columns = ("project_id", "ts", "trace_id", "span_id", "model_id", "version", "text_hash", "bits", "vector")
    for start in range(0, len(rows), 10_000):
        part = rows[start : start + 10_000]
        vectors = drawn(generator, topics, len(part))
        records = [
            ("small" if start + place < small else PROJECT, *row[:3], model, row[3], b"x", to_bits(v), to_bytes(v))
            for place, (row, v) in enumerate(zip(part, vectors, strict=True))
        ]
        await owner.copy_records_to_table("span_vectors", records=records, columns=columns)
    await owner.execute("VACUUM (ANALYZE) span_vectors")
    await owner.execute("VACUUM llm_traces")
    return drawn(generator, topics, 60)


async def speed(urls: EmbeddedUrls, base_url: str, headers: dict[str, str], arguments: Any) -> None:
    """Print times and recalls."""
    end = await load(urls.owner_url, arguments.spans, days=21)
    owner = await asyncpg.connect(urls.owner_url)
    questions = await give_vectors(owner, arguments.spans)
    model = await owner.fetchval("SELECT model_id FROM embedding_models WHERE name = $1", OFFLINE_MODEL)
    reader = await asyncpg.connect(urls.database_url, server_settings={"role": "observatory_api", "jit": "off"})
    window = TimeRange(end - timedelta(days=30), end + timedelta(days=1))
    for project in (PROJECT, "small"):
        records = await owner.fetch("SELECT span_id, ts, vector FROM span_vectors WHERE project_id = $1", project)
        everything = from_bytes((record["vector"] for record in records), DIMENSIONS)
        scope, asked = RowScope((project,)), NearQuestion(view="spans", window=window, filter=None, most=500_000)
        recalls, times = [], []
        for question in questions[: arguments.questions]:
            right = np.argsort(-similarities(everything, question))[:10]
            async with reader.transaction(readonly=True):
                await reader.execute(
                    f"SET LOCAL app.projects = '{project}'; SET LOCAL plan_cache_mode = force_custom_plan"
                )
                started = time.perf_counter()
                near = await read_nearest(reader, scope, asked, model, question)
                times.append(time.perf_counter() - started)
            found = {(span.span_id, span.ts) for span in near[:10]}
            recalls.append(
                len({(records[i]["span_id"], records[i]["ts"]) for i in right} & found) / min(10, len(records))
            )
        print(
            f"{project}: {len(records):,} vectors in range, recall at 10 {statistics.mean(recalls):.3f}, "
            f"SQL and comparison p50 {statistics.median(times) * 1000:.1f} ms"
        )
    bounds = {
        name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for name, moment in (("from", window.start), ("to", window.end)) if moment
    }
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
        for more in ({}, {"model": "o1"}):
            params = {"project_id": PROJECT, "limit": "10", "fields": "core", **bounds, **more}
            times, deadline = [], time.monotonic() + arguments.seconds
            while time.monotonic() < deadline:
                started = time.perf_counter()
                answer = await client.get("/api/v1/traces", params={"meaning": f"question {len(times)}", **params})
                times.append(time.perf_counter() - started)
                answer.raise_for_status()
            print(f"GET /api/v1/traces?meaning=… {more or ''}: p50 {statistics.median(times) * 1000:.1f} ms")
    await reader.close()
    await owner.close()


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
                asyncio.run(quality(settings, base_url, headers))
                if arguments.spans:
                    asyncio.run(speed(urls, base_url, headers, arguments))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
