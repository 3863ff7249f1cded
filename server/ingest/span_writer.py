"""Puts prepared spans into PostgreSQL: one transaction a batch, nothing half done.

COPY fills a TEMP table, one statement makes rows of it, and what is derived from spans follows
(:mod:`server.ingest.span_changes`). A span that is already there changes nothing unless the new version
ends later; so replays, retries and the same batch at two servers are harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import asyncpg

from server.database import Database
from server.errors import ApiError
from server.ingest.dimensions import Dimensions
from server.ingest.first_sightings import FirstSightings
from server.ingest.prepared_span import EPOCH, STAGED_COLUMNS, PreparedSpan
from server.ingest.span_changes import ensure_change_tables, settle_span_changes
from server.queries.freshness import Freshness, Touched
from server.queries.statements import statement

_WEEK = timedelta(weeks=1)
_NO_PARTITION = "23514"
_MONDAY = EPOCH - timedelta(days=3)


class SpanWriter:
    """Stores batches; safe to use from several tasks at once, each takes a connection of its own."""

    def __init__(self, database: Database, dimensions: Dimensions, freshness: Freshness | None) -> None:
        self._database = database
        self._dimensions = dimensions
        self._freshness = freshness
        self._sightings = FirstSightings(database)
        self._weeks: set[int] = set()
        self.words_written = 0
        """About how many entries this process has added to the text index."""

    async def store(self, spans: Sequence[PreparedSpan]) -> int:
        """Store ``spans`` durably; gives the number of rows that are new or changed.

        Raises ApiError with the driver's error as its cause, or what the driver raises for a value
        it cannot encode; then nothing of the batch is stored.
        """
        batch = latest_versions(spans)
        await self._dimensions.intern(batch)
        await self._ensure_partitions(batch)
        try:
            stored = await self._transaction(batch)
        except ApiError as error:
            if getattr(error.__cause__, "sqlstate", None) != _NO_PARTITION or not self._weeks:
                raise
            # Retention may have dropped a partition that this process has seen: look again, once.
            self._weeks.clear()
            await self._ensure_partitions(batch)
            stored = await self._transaction(batch)
        if stored:
            self.words_written += sum(span.words for span in batch)
        if stored and self._freshness is not None:
            await self._freshness.touched(_touched(batch))
        if stored:
            await self._sightings.note(batch)
        return stored

    async def _transaction(self, batch: Sequence[PreparedSpan]) -> int:
        projects = sorted({span.project_id for span in batch})
        async with self._database.write(projects) as connection:
            await ensure_change_tables(connection)
            await copy_staged(connection, batch)
            written = await connection.fetch(statement("store_staged_spans"))
            await settle_span_changes(connection, written, seek_twins=True)
        return sum(row["spans"] for row in written if row["sign"] > 0)

    async def _ensure_partitions(self, batch: Iterable[PreparedSpan]) -> None:
        weeks = {(span.ts - _MONDAY) // _WEEK for span in batch} - self._weeks
        if not weeks:
            return
        async with self._database.plain() as connection:
            for week in sorted(weeks):
                await connection.execute(statement("ensure_partition"), _MONDAY + week * _WEEK)
        self._weeks |= weeks


def latest_versions(spans: Sequence[PreparedSpan]) -> list[PreparedSpan]:
    """One of each span, the one that ends last and of equals the first, sorted by key."""
    latest: dict[tuple[str, str, str], PreparedSpan] = {}
    for span in spans:
        key = span.key
        other = latest.setdefault(key, span)
        if span.version > other.version:
            latest[key] = span
    return [latest[key] for key in sorted(latest)]


async def copy_staged(connection: asyncpg.Connection, batch: Sequence[PreparedSpan]) -> None:
    """COPY ``batch`` into the staging table. Raises ConnectionDoesNotExistError when the backend dies:
    left alone, asyncpg's COPY may then wait for ever."""
    lost: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def on_termination(_connection: object) -> None:
        if not lost.done():
            lost.set_result(None)

    connection.add_termination_listener(on_termination)
    copying: asyncio.Future[object] = asyncio.ensure_future(
        connection.copy_records_to_table(
            "span_staging", schema_name="pg_temp", records=(span.values for span in batch), columns=STAGED_COLUMNS
        )
    )
    try:
        await asyncio.wait([copying, lost], return_when=asyncio.FIRST_COMPLETED)
        if not copying.done():
            raise asyncpg.ConnectionDoesNotExistError("the connection was lost during COPY")
        copying.result()
    finally:
        if not copying.done():
            copying.cancel()
            await asyncio.wait([copying], timeout=1)
        if copying.done() and not copying.cancelled():
            copying.exception()
        lost.cancel()
        connection.remove_termination_listener(on_termination)


def _touched(batch: Iterable[PreparedSpan]) -> dict[str, Touched]:
    times: dict[str, list[datetime]] = {}
    traces: dict[str, set[str]] = {}
    for span in batch:
        times.setdefault(span.project_id, []).append(span.ts)
        traces.setdefault(span.project_id, set()).add(span.trace_id)
    return {project: Touched(min(starts), max(starts), frozenset(traces[project])) for project, starts in times.items()}
