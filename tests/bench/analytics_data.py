"""Millions of spans over 30 days for ``tests.bench.analytics``, made inside the database, and copied to Parquet.

About 190 combinations of dimensions an hour, 20,000 users of whom few are busy, ten spans a session.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

PROJECT = "bench"
DAYS = 30
# Not asked here, and most of the time of loading: the questions need the order by time alone.
UNUSED_INDEXES = ("model", "session", "user", "error", "cost", "duration", "text")

MAKE_DIMENSIONS = """
INSERT INTO span_dimensions (project_id, dim_id, provider, model, operation_type, service_name, environment,
    status_code, error_type, finish_reason, is_generation)
SELECT $1, m * 24 + s * 4 + k + 1, (ARRAY['openai', 'anthropic', 'google'])[m % 3 + 1], 'model-' || m,
    CASE WHEN k = 3 THEN 'execute_tool' ELSE 'chat' END, 'service-' || s,
    CASE WHEN k = 1 THEN 'staging' ELSE 'production' END, CASE WHEN k = 2 THEN 'ERROR' ELSE 'OK' END,
    CASE WHEN k = 2 THEN 'timeout' ELSE '' END, CASE WHEN k = 2 THEN '' ELSE 'stop' END, k < 3
FROM generate_series(0, 7) AS m, generate_series(0, 5) AS s, generate_series(0, 3) AS k
"""

MAKE_SPANS = """
INSERT INTO llm_traces (project_id, ts, trace_id, span_id, parent_span_id, span_name, span_kind, service_name,
    environment, provider, model, operation_type, is_generation, prompt_tokens, completion_tokens, total_tokens,
    total_cost_usd, cost_source, duration_ms, ttft_ms, status_code, error_type, finish_reason, user_id, session_id,
    dialect, dim_id, version)
SELECT $1, $2::timestamptz + i * $3::interval, to_hex(1e12::bigint + i / 3), to_hex(1e12::bigint + i),
    CASE WHEN i % 3 > 0 THEN 'root' END, 'chat', 'client', d.service_name, d.environment, d.provider, d.model,
    d.operation_type, d.is_generation, 900 + i % 700, 10 + i % 411, 910 + i % 700 + i % 411,
    CASE WHEN d.is_generation THEN ((1 + i % 997) * 0.000037)::numeric(20, 10) END, 'computed',
    exp(6.5 + 1.2 * (a.x + a.y + a.z - 1.5) * 2), CASE WHEN d.is_generation THEN exp(5.0 + (a.x - 0.5) * 3) END,
    d.status_code, nullif(d.error_type, ''), nullif(d.finish_reason, ''), 'user-' || floor(20000 * a.y * a.y * a.y),
    'session-' || i / 10, 'genai', d.dim_id, 0
FROM generate_series($4::bigint, $5::bigint) AS i
CROSS JOIN LATERAL (
    SELECT (hashint8(i) & 65535) / 65536.0 AS x, (hashint8(i * 31) & 65535) / 65536.0 AS y,
        (hashint8(i * 977) & 65535) / 65536.0 AS z
) AS a
JOIN span_dimensions AS d ON d.project_id = $1
    AND d.dim_id = floor(8 * a.x * a.x)::integer * 24 + floor(6 * a.y)::integer * 4
        + CASE WHEN a.z < 0.7 THEN 0 WHEN a.z < 0.85 THEN 1 WHEN a.z < 0.9 THEN 2 ELSE 3 END + 1
"""

MAKE_PENDING = """
INSERT INTO rollup_delta
SELECT r.project_id, $1::timestamptz - make_interval(mins => 5 * (n % 24)::integer), r.dim_id, 1, 0, 0, 10, 10, 20,
    0, 0, 0, 0, 0, 0.01, 0, 0, 1000, 0, 0, 0, 0, 0, '\\x01050001', '', ''
FROM (SELECT *, row_number() OVER () AS n FROM rollup_1h LIMIT $2) AS r
"""

PARQUET_COLUMNS = (
    "ts",
    "model",
    "service_name",
    "environment",
    "status_code",
    "is_generation",
    "duration_ms",
    "total_cost_usd",
    "user_id",
    "session_id",
)


async def load(owner: asyncpg.Connection, spans: int, end: datetime) -> None:
    """Fill an empty, migrated database with ``spans`` up to ``end``."""
    start = end - timedelta(days=DAYS)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
    for index in UNUSED_INDEXES:
        await owner.execute(f"DROP INDEX llm_traces_{index}")
    await owner.execute(
        "SELECT ensure_trace_partition($1::timestamptz + make_interval(days => d)) FROM generate_series(0, 31) AS d",
        start,
    )
    await owner.execute(MAKE_DIMENSIONS, PROJECT)
    chunk = 250_000
    for first in range(0, spans, chunk):
        last = min(first + chunk, spans) - 1
        await owner.execute(MAKE_SPANS, PROJECT, start, (end - start) / spans, first, last)
    await owner.execute("SELECT setval('span_dimensions_id', 1000)")
    await owner.execute("VACUUM ANALYZE llm_traces")
    await owner.execute("VACUUM ANALYZE span_dimensions")


async def make_pending(owner: asyncpg.Connection, deltas: int, end: datetime) -> None:
    """Deltas that wait for the folder, in the last two hours, as steady ingest leaves them."""
    await owner.execute(MAKE_PENDING, end.replace(minute=0, second=0, microsecond=0), deltas)


async def copy_to_parquet(owner: asyncpg.Connection, path: Path) -> None:
    """The columns that the yardstick's questions read, in row groups of 250,000."""
    import pyarrow
    import pyarrow.parquet

    writer: Any = None
    columns = ", ".join(
        column if column != "total_cost_usd" else "total_cost_usd::float8" for column in PARQUET_COLUMNS
    )
    async with owner.transaction():
        cursor = await owner.cursor(f"SELECT {columns} FROM llm_traces ORDER BY ts")
        while rows := await cursor.fetch(250_000):
            table = await asyncio.to_thread(
                pyarrow.table,
                {name: [row[place] for row in rows] for place, name in enumerate(PARQUET_COLUMNS)},
            )
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    if writer is not None:
        writer.close()
