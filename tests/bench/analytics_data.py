"""Millions of spans over 30 days for ``tests.bench.analytics``, made inside the database, and copied to Parquet.

The same at every size: spread evenly over 30 days, 192 combinations of dimensions of which the rarest is one span in
2,000, three spans a trace, four traces a session that come over 400 neighbouring traces, 50,000 users of whom few are
busy (sessions belong to one user). 10 million spans have 833,000 sessions and 3.3 million traces. Text is left out: no
question reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

PROJECT = "bench"
DAYS = 30
WRITERS: Final = 2
_CHUNK: Final = 250_000

MAKE_DIMENSIONS = """
INSERT INTO span_dimensions (project_id, dim_id, provider, model, operation_type, service_name, environment,
    status_code, error_type, finish_reason, is_generation)
SELECT $1, m * 24 + s * 4 + k + 1, (ARRAY['openai', 'anthropic', 'google'])[m % 3 + 1], 'model-' || m,
    CASE WHEN k = 3 THEN 'execute_tool' ELSE 'chat' END, 'service-' || s,
    CASE WHEN k = 1 THEN 'staging' ELSE 'production' END, CASE WHEN k = 2 THEN 'ERROR' ELSE 'OK' END,
    CASE WHEN k = 2 THEN 'timeout' ELSE '' END, CASE WHEN k = 2 THEN '' ELSE 'stop' END, k < 3
FROM generate_series(0, 7) AS m, generate_series(0, 5) AS s, generate_series(0, 3) AS k
"""

# Every choice has 16 bits of its own from two hashes of the span's number, so that none depends on another.
MAKE_SPANS = """
INSERT INTO llm_traces (project_id, ts, trace_id, span_id, parent_span_id, span_name, span_kind, service_name,
    environment, provider, model, operation_type, is_generation, prompt_tokens, completion_tokens, total_tokens,
    prompt_cost_usd, completion_cost_usd, total_cost_usd, cost_source, duration_ms, ttft_ms, status_code, error_type,
    finish_reason, user_id, session_id, dialect, dim_id, version)
SELECT $1, $2::timestamptz + r.i * $3::interval, lpad(to_hex(hashint8extended(r.i / 3, 3)), 32, '0'),
    lpad(to_hex(hashint8extended(r.i, 4)), 16, '0'),
    CASE WHEN r.i % 3 > 0 THEN lpad(to_hex(hashint8extended(r.i - r.i % 3, 4)), 16, '0') END,
    'chat', 'client', d.service_name, d.environment, d.provider, d.model, d.operation_type, d.is_generation,
    CASE WHEN d.is_generation THEN r.prompt END, CASE WHEN d.is_generation THEN r.output END,
    CASE WHEN d.is_generation THEN r.prompt + r.output END,
    CASE WHEN d.is_generation THEN r.prompt * 0.0000025 END, CASE WHEN d.is_generation THEN r.output * 0.00001 END,
    CASE WHEN d.is_generation THEN r.prompt * 0.0000025 + r.output * 0.00001 END, 'computed',
    exp(6.5 + 1.2 * r.spread), CASE WHEN d.is_generation THEN exp(5 + r.spread) END,
    d.status_code, nullif(d.error_type, ''), nullif(d.finish_reason, ''),
    'user-' || floor(50000 * power((hashint8extended(r.session, 5) & 65535)::float8 / 65536, 3)),
    'session-' || r.session, 'genai', d.dim_id, 0
FROM (
    SELECT i, i / 1200 * 100 + i / 3 % 100 AS session, (h & 65535)::float8 / 65536 AS x,
        (h >> 16 & 65535)::float8 / 65536 AS y, (h >> 32 & 65535)::float8 / 65536 AS z,
        200 + (h >> 48 & 4095) AS prompt,
        20 + (g & 1023) AS output,
        ((g >> 16 & 65535) + (g >> 32 & 65535) + (g >> 48 & 65535))::float8 / 32768 - 3 AS spread
    FROM (SELECT i, hashint8extended(i, 1) AS h, hashint8extended(i, 2) AS g
          FROM generate_series($4::bigint, $5::bigint) AS i OFFSET 0) AS hashed
    OFFSET 0
) AS r
JOIN span_dimensions AS d ON d.project_id = $1
    AND d.dim_id = floor(8 * r.x * r.x)::integer * 24 + floor(6 * r.y)::integer * 4
        + CASE WHEN r.z < 0.7 THEN 0 WHEN r.z < 0.85 THEN 1 WHEN r.z < 0.9 THEN 2 ELSE 3 END + 1
"""

MAKE_PENDING = """
INSERT INTO rollup_delta
SELECT r.project_id, $1::timestamptz - make_interval(mins => 5 * (n % 24)::integer), r.dim_id, 1, 0, 0, 10, 10, 20,
    0, 0, 0, 0, 0, 0.01, 0, 0, 1000, 0, 0, 0, 0, 0, '\\x01050001', '', ''
FROM (SELECT *, row_number() OVER () AS n FROM rollup_1h LIMIT $2) AS r
"""

# The columns that the yardstick's questions read: name → expression, and the type there. A column store is quickest
# with plain UTC times and floats.
PARQUET_COLUMNS: Final = {
    "ts": ("ts AT TIME ZONE 'UTC'", "TIMESTAMP"),
    "model": ("model", "VARCHAR"),
    "service_name": ("service_name", "VARCHAR"),
    "environment": ("environment", "VARCHAR"),
    "status_code": ("status_code", "VARCHAR"),
    "is_generation": ("is_generation", "BOOLEAN"),
    "duration_ms": ("duration_ms", "DOUBLE"),
    "total_cost_usd": ("total_cost_usd", "DOUBLE"),
    "user_id": ("user_id", "VARCHAR"),
    "session_id": ("session_id", "VARCHAR"),
}


async def load(url: str, spans: int, end: datetime, *, days: int = DAYS) -> None:
    """Fill an empty, migrated database with ``spans`` of the ``days`` before ``end``: rows first, all indexes of the
    schema after.
    """
    start = end - timedelta(days=days)
    owner = await asyncpg.connect(url)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
    await owner.execute(
        "SELECT ensure_trace_partition($1::timestamptz + make_interval(days => d)) FROM generate_series(0, 31) AS d",
        start,
    )
    await owner.execute(MAKE_DIMENSIONS, PROJECT)
    await owner.execute("SELECT setval('span_dimensions_id', 1000)")
    indexes = await owner.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'llm_traces' AND indexname <> 'llm_traces_key'"
    )
    key = await owner.fetchval("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'llm_traces_key'")
    await owner.execute("ALTER TABLE llm_traces DROP CONSTRAINT llm_traces_key")
    for row in indexes:
        await owner.execute(f"DROP INDEX {row['indexname']}")
    step = (end - start) / spans
    await _in_parallel(
        url,
        (
            (MAKE_SPANS, (PROJECT, start, step, first, min(first + _CHUNK, spans) - 1))
            for first in range(0, spans, _CHUNK)
        ),
    )
    await owner.execute(f"ALTER TABLE llm_traces ADD CONSTRAINT llm_traces_key {key}")
    await _in_parallel(url, ((row["indexdef"].replace(" ON ONLY ", " ON "), ()) for row in indexes), together=False)
    await owner.execute("VACUUM (ANALYZE, FREEZE) llm_traces")
    await owner.execute("VACUUM ANALYZE span_dimensions")
    await owner.close()


async def _in_parallel(url: str, statements: Iterable[tuple[str, tuple[Any, ...]]], *, together: bool = True) -> None:
    """Run ``statements`` on a few connections, or (``together`` false) one by one."""
    waiting = iter(statements)

    async def work() -> None:
        connection = await asyncpg.connect(url)
        for sql, arguments in waiting:
            await connection.execute(sql, *arguments)
        await connection.close()

    await asyncio.gather(*(work() for _ in range(WRITERS if together else 1)))


async def make_pending(owner: asyncpg.Connection, deltas: int, end: datetime) -> None:
    """Insert deltas of the last two hours that wait to be folded, as steady ingest leaves them."""
    await owner.execute(MAKE_PENDING, end.replace(minute=0, second=0, microsecond=0), deltas)


async def copy_to_parquet(owner: asyncpg.Connection, path: Path) -> None:
    """Copy the columns that the yardstick's questions read, in the order of time, by way of a CSV file."""
    import duckdb

    columns = ", ".join(f"{expression} AS {name}" for name, (expression, _) in PARQUET_COLUMNS.items())
    between, partial = path.with_suffix(".csv"), path.with_suffix(".partial")
    await owner.copy_from_query(f"SELECT {columns} FROM llm_traces ORDER BY ts", output=between, format="csv")
    types = {name: kind for name, (_, kind) in PARQUET_COLUMNS.items()}
    database = duckdb.connect()
    database.execute(f"COPY (SELECT * FROM read_csv('{between}', columns = {types})) TO '{partial}' (FORMAT parquet)")
    database.close()
    between.unlink()
    partial.rename(path)
