"""Writer of prepared spans into PostgreSQL: one transaction per batch, nothing half done.

Most spans belong to a new trace. They are copied straight into their partition, which costs half as much as an upsert.
The others are copied into a TEMP table, from which one statement makes rows: a span that already exists changes nothing
unless the new version ends later. So replays, retries and the same batch at two servers are harmless. Derived data
follows (:mod:`server.ingest.writing.span_changes`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

import asyncpg

from server.cache.freshness import Freshness, Touched
from server.distribution_settings import NONE
from server.errors import ApiError
from server.ingest.writing.copy_rows import copy_rows
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.first_sightings import FirstSightings
from server.ingest.writing.linked_traces import TraceKey
from server.ingest.writing.prepared_span import CHANGE_COLUMNS, COLUMNS, MONDAY, WEEK, PreparedSpan, change_values
from server.ingest.writing.shared_content import ContentBatch, KeysChanged, SharedParts
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.ingest.writing.stored_counts import Recount, split_traces
from server.storage.database import Database
from server.storage.statements import statement

logger = logging.getLogger("observatory.ingest")

_PARTITION_GONE: Final = {"23514", "42P01"}
"""No partition takes the row (or a CHECK refuses it), or the table of the partition does not exist."""
_ALREADY_THERE: Final = "23505"
_NOT_ALLOWED: Final = "42501"


class SpanWriter:
    """Stores batches; safe to use from several tasks at once, each of which takes its own connection."""

    def __init__(
        self, database: Database, dimensions: Dimensions, freshness: Freshness | None, *, full_text: bool = True
    ) -> None:
        self._database = database
        self._dimensions = dimensions
        self._freshness = freshness
        self._full_text = full_text
        self._sightings = FirstSightings(database)
        self._shared = SharedParts(database, full_text=full_text)
        self._partitions: dict[int, str] = {}
        """Table by :attr:`PreparedSpan.week`."""
        self._may_copy = True
        self.words_written = 0
        """About how many entries this process has added to the text index."""

    async def store(self, spans: Sequence[PreparedSpan]) -> int:
        """Store ``spans`` durably; return the number of new or changed rows.

        Raises ApiError with the driver's error as its cause, or the driver's error for a value it cannot encode; then
        nothing of the batch is stored.
        """
        batch = latest_versions(spans)
        await self._dimensions.intern(batch)
        recount = Recount(self._dimensions, batch, split_traces(spans), full_text=self._full_text)
        stored = await self._store(batch, recount)
        if stored:
            self.words_written += sum(span.words for span in batch)
        if stored and self._freshness is not None:
            await self._freshness.touched(_touched(batch, recount.settled))
        if stored:
            await self._sightings.note(batch)
        return stored

    async def _store(self, batch: Sequence[PreparedSpan], recount: Recount) -> int:
        copies = self._may_copy
        has_looked_again = False
        while True:
            await self._ensure_partitions(batch)
            content = await self._shared.name(batch)
            try:
                stored = await self._transaction(batch, recount, content, copies=copies)
                if content is not None:
                    self._shared.remember(content)
                    self.words_written += content.words
                return stored
            except KeysChanged:
                logger.info("a project was deleted and made again; its content gets another key")
            except _CopiesUnnoted:
                copies = self._may_copy = False
                logger.warning("spans copied into their partition are not noted; they are stored more slowly")
            except ApiError as error:
                state = getattr(error.__cause__, "sqlstate", None)
                if copies and state in (_ALREADY_THERE, _NOT_ALLOWED):
                    # Another server has stored the same spans since their traces were looked up, or an administrator
                    # created a partition without prepare_trace_partition().
                    if state == _NOT_ALLOWED:
                        self._may_copy = False
                        logger.warning("spans cannot be copied into their partition, and are stored more slowly")
                    copies = False
                elif state in _PARTITION_GONE and not has_looked_again:
                    # Retention may have dropped a partition that this process has seen: look again, once.
                    self._partitions.clear()
                    has_looked_again = True
                else:
                    raise

    async def _transaction(
        self, batch: Sequence[PreparedSpan], recount: Recount, content: ContentBatch | None, *, copies: bool
    ) -> int:
        projects = sorted({span.project_id for span in batch})
        async with self._database.write(projects) as connection:
            await ensure_change_tables(connection)
            await recount.note_answers(connection)
            if content is not None:
                await self._shared.store(connection, content)
            known = await _known_traces(connection, batch)
            await recount.lock_linked(connection, known)
            new, others = _sorted_out(batch, known) if copies else ([], batch)
            came, went = len(new), 0
            if new:
                await self._copy_new(connection, new)
            if others:
                signs = Counter(row["sign"] for row in await _upsert(connection, others))
                came, went = came + signs[1], signs[-1]
                if content is not None and came < len(batch):
                    await self._shared.note_unused(connection, content, others)
            if came or went:
                growth = await settle_span_changes(connection, spans_went=went > 0, seek_twins=True, recount=recount)
                if new and growth != came - went:
                    raise _CopiesUnnoted
        return came

    async def _copy_new(self, connection: asyncpg.Connection, new: Sequence[PreparedSpan]) -> None:
        by_partition: dict[str, list[PreparedSpan]] = {}
        for span in new:
            by_partition.setdefault(self._partitions[span.week], []).append(span)
        for partition in sorted(by_partition):
            rows = [span.values for span in by_partition[partition]]
            await copy_rows(connection, partition, rows, columns=COLUMNS)
        if self._database.distribution != NONE:
            # Partitions of an engine of several nodes have no triggers, and what nodes see is not here.
            changes = (change_values(span.values) for span in new)
            await copy_rows(connection, "span_changes", changes, columns=CHANGE_COLUMNS, schema="pg_temp")

    async def _ensure_partitions(self, batch: Iterable[PreparedSpan]) -> None:
        missing = {span.week for span in batch} - self._partitions.keys()
        if not missing:
            return
        async with self._database.plain() as connection:
            for week in sorted(missing):
                at = MONDAY + week * WEEK
                self._partitions[week] = await connection.fetchval(statement("ensure_partition"), at)


class _CopiesUnnoted(Exception):
    """The summaries do not count the copied spans: a partition lost its trigger note_copied_spans."""


def latest_versions(spans: Sequence[PreparedSpan]) -> list[PreparedSpan]:
    """Return one of each span, the one that ends last and of equals the first, sorted by key."""
    latest = {span.key: span for span in spans}
    if len(latest) < len(spans):
        for span in reversed(spans):
            if span.version >= latest[span.key].version:
                latest[span.key] = span
    return [latest[key] for key in sorted(latest)]


async def _known_traces(connection: asyncpg.Connection, batch: Sequence[PreparedSpan]) -> dict[TraceKey, bool]:
    """Return the traces of the batch of which something is stored, and whether they are linked with others."""
    known: dict[TraceKey, bool] = {}
    for project, group in groupby(batch, key=lambda span: span.key[0]):
        traces = list({span.key[1] for span in group})
        rows = await connection.fetch(statement("list_known_traces"), project, traces)
        known.update({(project, row["trace_id"]): row["is_linked"] for row in rows})
    return known


def _sorted_out(
    batch: Sequence[PreparedSpan], known: Container[TraceKey]
) -> tuple[Sequence[PreparedSpan], Sequence[PreparedSpan]]:
    """Return the spans that can be copied straight, because nothing of their traces is stored, and the others."""
    others = [span for span in batch if span.search_text is not None or span.key[:2] in known]
    if not others:
        return batch, others
    staged = {span.key for span in others}
    return [span for span in batch if span.key not in staged], others


async def _upsert(connection: asyncpg.Connection, spans: Sequence[PreparedSpan]) -> list[asyncpg.Record]:
    """Store ``spans`` through the staging table; return the sign of each version that came or went."""
    rows = ([*span.values, span.search_text] for span in spans)
    await copy_rows(connection, "span_staging", rows, columns=(*COLUMNS, "search_text"), schema="pg_temp")
    written: list[asyncpg.Record] = await connection.fetch(statement("store_staged_spans"))
    return written


def _touched(
    batch: Iterable[PreparedSpan], recounted: Mapping[str, Sequence[tuple[datetime, str]]]
) -> dict[str, Touched]:
    """Return the changes by project; ``batch`` is in the order of its keys. ``recounted``: starts and traces of other
    spans that changed.
    """
    touched = {}
    for project, group in groupby(batch, key=lambda span: span.key[0]):
        spans = list(group)
        changed = [*((span.ts, span.trace_id) for span in spans), *recounted.get(project, ())]
        starts = [ts for ts, _ in changed]
        touched[project] = Touched(min(starts), max(starts), frozenset([trace_id for _, trace_id in changed]))
    return touched
