"""The cost of rollups for ingest, in a database of its own with the whole schema.

Two writers side by side store batches of 504 spans (whole sessions), in interleaved rounds: without deltas, with
them, with the folder running too. Spans have 192 combinations of dimensions, users and sessions as those of
:mod:`tests.bench.analytics_data`. Throughput depends on what else the machine does, so processor time is also printed,
by thousand spans: of the writer, and of folds as far apart as under load, in Python and in PostgreSQL
(/proc/PID/schedstat).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

from server.app import close_services, open_services
from server.embedded import EmbeddedUrls
from server.http.services import Services
from server.ingest.writing.prepared_span import PreparedSpan, prepare_span
from server.process.garbage_collection import spare_long_lived_objects
from server.rollups.counters import counter_statement
from server.rollups.fold import RollupFolder, fold_pending
from server.schema.migrate import migrate
from server.storage.database import Database
from server.storage.statements import load_statements
from server.upkeep.partitions import ensure_partitions
from tests.bench.analytics_cluster import database_of, make_database, services_of
from tests.bench.analytics_data import PROJECT
from tests.span_factory import make_span

BATCH: Final = 504
BATCHES: Final = 160
FOLDED: Final = 80
"""Batches between two folds where the folder is measured alone: about what comes while it rests under load."""
WRITERS: Final = 2
WAYS: Final = ("no rollups", "deltas", "deltas and folder")
_DELTAS: Final = "append_rollup_delta"


class Spans:
    """Batches as an application sends them just now."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._numbers = count()

    def batch(self) -> list[PreparedSpan]:
        """Return spans of the last minute, ready for the writer: three a trace, twelve a session."""
        return [prepare_span(PROJECT, make_span(**self._fields(next(self._numbers)))) for _ in range(BATCH)]

    def _fields(self, number: int) -> dict[str, Any]:
        chance = self._chance
        is_call, failed = chance.random() < 0.9, chance.random() < 0.05
        prompt, output = chance.randrange(200, 4300), chance.randrange(20, 1050)
        model, session = int(8 * chance.random() ** 2), number // 12
        return {
            "ts": datetime.now(UTC) - timedelta(seconds=60 * chance.random()),
            "trace_id": f"{number // 3:032x}",
            "parent_span_id": "root" if number % 3 else None,
            "provider": ("openai", "anthropic", "google")[model % 3],
            "model": f"model-{model}",
            "service_name": f"service-{chance.randrange(6)}",
            "environment": "staging" if chance.random() < 0.15 else "production",
            "operation_type": "chat" if is_call else "execute_tool",
            "is_generation": is_call,
            "status_code": "ERROR" if failed else "OK",
            "error_type": "timeout" if failed else None,
            "finish_reason": None if failed else "stop",
            "prompt_tokens": prompt if is_call else None,
            "completion_tokens": output if is_call else None,
            "total_tokens": prompt + output if is_call else None,
            "total_cost_usd": Decimal(prompt + 4 * output).scaleb(-6) if is_call else None,
            "duration_ms": chance.lognormvariate(6.5, 1.2),
            "ttft_ms": chance.lognormvariate(5, 1) if is_call else None,
            "user_id": f"user-{int(50_000 * random.Random(session).random() ** 3)}",
            "session_id": f"session-{session}",
        }


async def measure_ingest(urls: EmbeddedUrls, rounds: int) -> None:
    """Print both tables."""
    await make_database(urls.owner_url, "analytics_ingest")
    await migrate(database_of(urls.owner_url, "ingest"))
    services = services_of(urls, "ingest")
    await open_services(services)
    async with services.writes.plain() as connection:
        await connection.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
    await ensure_partitions(services.worker, datetime.now(UTC), 7)
    spans = Spans(1)
    await _store(services, [spans.batch() for _ in range(10)])
    spare_long_lived_objects()
    await _compare(services, spans, rounds)
    await _account(services, spans)
    await close_services(services)


async def _compare(services: Services, spans: Spans, rounds: int) -> None:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds):
        for way in (*WAYS[turn % 3 :], *WAYS[: turn % 3]):
            batches = [spans.batch() for _ in range(BATCHES)]
            folder = RollupFolder(services.worker)
            if way == "deltas and folder":
                folder.task.start()
            seconds = await _store(services, batches, deltas=way != "no rollups")
            await folder.task.stop()
            rates[way].append(BATCHES * BATCH / seconds)
            await fold_pending(services.worker)
    for way, found in rates.items():
        ratios = [rate / base for rate, base in zip(found, rates["no rollups"], strict=True)]
        told = ", ".join(f"{rate:,.0f}" for rate in found)
        print(
            f"  ingest, {way}: {statistics.median(found):,.0f} spans/s, ratio {statistics.median(ratios):.2f} ({told})"
        )


async def _account(services: Services, spans: Spans) -> None:
    """Processor time by thousand spans: writing without and with deltas, and folding once a second."""
    for deltas in (False, True):
        batches = [spans.batch() for _ in range(BATCHES)]
        own, backend = time.process_time(), await _backend_seconds(services.writes)
        await _store(services, batches, deltas=deltas)
        _tell(
            f"writer, {'with' if deltas else 'without'} deltas", own, backend, await _backend_seconds(services.writes)
        )
    own_total = backend_total = 0.0
    folds = (False, False, True)  # users and sessions are due every third time
    for actors in folds:
        await _store(services, [spans.batch() for _ in range(FOLDED)])
        own, backend = time.process_time(), await _backend_seconds(services.worker)
        await fold_pending(services.worker, actors=actors)
        own_total += time.process_time() - own
        backend_total += await _backend_seconds(services.worker) - backend
    spans_folded = len(folds) * FOLDED * BATCH / 1000
    print(f"  folder: {own_total / spans_folded * 1000:.2f} ms Python, {backend_total / spans_folded * 1000:.2f} ms "
          "PostgreSQL a thousand spans")  # fmt: skip


def _tell(what: str, own: float, backend: float, backend_now: float) -> None:
    spans = BATCHES * BATCH / 1000
    print(f"  {what}: {(time.process_time() - own) / spans * 1000:.1f} ms Python, "
          f"{(backend_now - backend) / spans * 1000:.1f} ms PostgreSQL a thousand spans")  # fmt: skip


async def _store(services: Services, batches: Sequence[list[PreparedSpan]], *, deltas: bool = True) -> float:
    """Return the seconds that it takes to store ``batches``."""
    statements = load_statements()
    appending = statements[_DELTAS]
    waiting = iter(batches)

    async def write() -> None:
        for batch in waiting:
            await services.ingestion.writer.store(batch)

    statements[_DELTAS] = appending if deltas else "SELECT 1"
    counter_statement.cache_clear()
    started = time.perf_counter()
    try:
        await asyncio.gather(*(write() for _ in range(WRITERS)))
    finally:
        statements[_DELTAS] = appending
        counter_statement.cache_clear()
    return time.perf_counter() - started


async def _backend_seconds(database: Database) -> float:
    """Processor time of the connections that the pool ``database`` has."""
    async with database.plain() as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = session_user"
        )
    return sum(int(Path(f"/proc/{row['pid']}/schedstat").read_text().split()[0]) for row in rows) / 1e9
