"""Deletion of traces: their spans, vectors, scores and held updates, with everything derived from them, and the content
that no other span has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from server.cache.freshness import Freshness, Touched
from server.errors import ApiError
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.ingest.writing.unused_content import collect_unused_content
from server.storage.database import Database, Step
from server.storage.deadlocks import repeat_after_deadlock
from server.storage.statements import statement

logger = logging.getLogger("observatory.ingest")


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much a deletion found."""

    traces: int
    spans: int


async def delete_trace(
    database: Database, freshness: Freshness, project_id: str, trace_id: str, note: Step | None = None
) -> int:
    """Delete trace ``trace_id`` of ``project_id``; return the number of spans, 0 if there is no such trace.

    ``note`` is done in the same transaction. Afterwards sums and rollups are exact, and no answer shows the trace. A
    caller that goes away meanwhile changes nothing of that. Raises the errors of :class:`Database`.
    """
    return (await delete_traces(database, freshness, project_id, [trace_id], note)).spans


async def delete_traces(
    database: Database, freshness: Freshness, project_id: str, trace_ids: Sequence[str], note: Step | None = None
) -> Deleted:
    """Delete traces as :func:`delete_trace` does, all in one transaction, which takes as many statements as for one.

    Whatever is written to one of them meanwhile waits, so a caller with many hands over some at a time.
    """
    return await asyncio.shield(asyncio.ensure_future(_delete(database, freshness, project_id, trace_ids, note)))


async def _delete(
    database: Database, freshness: Freshness, project_id: str, trace_ids: Sequence[str], note: Step | None
) -> Deleted:
    async def transaction() -> tuple[list[str], bool]:
        async with database.write([project_id]) as connection:
            await ensure_change_tables(connection)
            written = await connection.fetch(statement("delete_trace_spans"), project_id, trace_ids)
            if written:
                await settle_span_changes(connection, spans_went=True)
                if note is not None:
                    await note(connection)
            for kind in ("vectors", "scores", "updates"):
                await connection.execute(statement(f"delete_trace_{kind}"), project_id, trace_ids)
            has_unused = await connection.fetchval(statement("has_unused_content"), project_id)
        return [row["trace_id"] for row in written], has_unused

    traces_of_spans, has_unused = await repeat_after_deadlock(transaction)
    if has_unused:
        try:
            await collect_unused_content(database, project_id)
        except ApiError as error:
            logger.info("content of a deleted trace goes within a minute", extra={"reason": str(error)})
    gone = frozenset(traces_of_spans)
    if gone:
        # The traces may be of any age, so answers about every window are stale now.
        start = datetime(2000, 1, 1, tzinfo=UTC)
        await freshness.deleted(project_id, Touched(start, datetime.now(UTC), gone))
    return Deleted(len(gone), len(traces_of_spans))
