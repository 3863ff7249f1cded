"""Spans in PostgreSQL beside the same spans as Parquet, read by DuckDB: ``make bench-cold_spans`` (ARGS=--spans=6000).

Agent conversations are stored by a server and exported by it. Printed are the bytes of both, and for questions that
read all spans the seconds of each: the median of five, warm, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb
import httpx

from server.embedded import EmbeddedServices
from tests.bench.agents.side import Side
from tests.bench.conversations import TENANTS, Conversations

ROUNDS = 5
SPANS = 100
"""Of a request."""
TIMEOUT = 600.0
# The same on both, but for the name of the table and of the search.
QUESTIONS = {
    "cost and tokens by model": "SELECT model, sum(total_cost_usd), sum(total_tokens) FROM {spans} GROUP BY model",
    "95th percentile of durations by service": "SELECT service_name, percentile_cont(0.95) WITHIN GROUP"
    " (ORDER BY duration_ms) FROM {spans} GROUP BY service_name",
    "one trace": "SELECT count(input_text), max(output_text) FROM {spans} WHERE trace_id = '{trace}'",
    "answers that contain a word": "SELECT count(*) FROM {spans} WHERE output_text ILIKE '%{word}%'",
}


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the median of some seconds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


async def measure(side: Side, folder: Path, spans: int) -> None:
    """Store, export, ask both."""
    talks = Conversations(1)
    await side.open()
    requests = [(tenant, talks.request(tenant, SPANS)) for _ in range(spans // SPANS // 3 + 1) for tenant in TENANTS]
    await side.send(requests, 4)
    await side.settle()
    stored = await side.owner.fetchval("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('llm_traces')")
    parquet = 0
    for tenant in TENANTS:
        path = folder / f"{tenant}.parquet"
        async with httpx.AsyncClient(base_url=side.base_url, headers=side.headers(tenant), timeout=TIMEOUT) as http:
            answer = await http.get(
                "/api/v1/export/traces", params={"format": "parquet", "project_id": tenant, "fields": "all"}
            )
        answer.raise_for_status()
        path.write_bytes(answer.content)
        parquet += path.stat().st_size
    print(f"{side.spans:,} spans, {side.received / side.spans:,.0f} bytes received a span; PostgreSQL "
          f"{stored / side.spans:,.0f}, Parquet {parquet / side.spans:,.0f}: 1 to {stored / parquet:.1f}")  # fmt: skip
    database = duckdb.connect()
    files = f"read_parquet('{folder}/*.parquet')"
    trace, word = await side.owner.fetchval("SELECT trace_id FROM llm_traces LIMIT 1"), talks.prose.words[400]
    for name, text in QUESTIONS.items():
        ours = text.format(spans="llm_traces", trace=trace, word=word)
        theirs = text.format(spans=files, trace=trace, word=word)

        async def cold(sql: str = theirs) -> None:
            database.execute(sql).fetchall()

        rows = len(await side.owner.fetch(ours)), len(database.execute(theirs).fetchall())
        assert rows[0] == rows[1], name
        seconds = [await timed(lambda sql=ours: side.owner.fetch(sql)), await timed(cold)]  # type: ignore[misc]
        print(f"{name}: PostgreSQL {1000 * seconds[0]:.1f} ms, DuckDB {1000 * seconds[1]:.1f} ms")
    await side.owner.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=6000)
    spans = parser.parse_args().spans
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        services = EmbeddedServices(folder / "data", postgres_settings={"shared_buffers": "256MB"})
        side = Side("inline", Path(__file__).parents[2], "inline", services.start(), folder)
        try:
            with side.serving(1):
                asyncio.run(measure(side, folder, spans))
        finally:
            services.stop()


if __name__ == "__main__":
    main()
