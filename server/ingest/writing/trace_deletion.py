"""Deletion of a trace: its spans, vectors, scores and held updates, with everything derived from them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from server.cache.freshness import Freshness, Touched
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.storage.database import Database, Step
from server.storage.deadlocks import repeat_after_deadlock
from server.storage.statements import statement


async def delete_trace(
    database: Database, freshness: Freshness, project_id: str, trace_id: str, note: Step | None = None
) -> int:
    """Delete trace ``trace_id`` of ``project_id``; return the number of spans, 0 if there is no such trace.

    ``note`` is done in the same transaction. Afterwards sums and rollups are exact, and no answer shows the trace. A
    caller that goes away meanwhile changes nothing of that. Raises the errors of :class:`Database`.
    """
    return await asyncio.shield(asyncio.ensure_future(_delete(database, freshness, project_id, trace_id, note)))


async def _delete(database: Database, freshness: Freshness, project_id: str, trace_id: str, note: Step | None) -> int:
    async def transaction() -> int:
        async with database.write([project_id]) as connection:
            await ensure_change_tables(connection)
            written = await connection.fetch(statement("delete_trace_spans"), project_id, trace_id)
            if written:
                await settle_span_changes(connection, spans_went=True)
                if note is not None:
                    await note(connection)
            await connection.execute(statement("delete_trace_vectors"), project_id, trace_id)
            await connection.execute(statement("delete_trace_scores"), project_id, trace_id)
            await connection.execute(statement("delete_trace_updates"), project_id, trace_id)
        return len(written)

    deleted = await repeat_after_deadlock(transaction)
    if deleted:
        # The trace may be of any age, so answers about every window are stale now.
        start = datetime(2000, 1, 1, tzinfo=UTC)
        await freshness.deleted(project_id, Touched(start, datetime.now(UTC), frozenset({trace_id})))
    return deleted
