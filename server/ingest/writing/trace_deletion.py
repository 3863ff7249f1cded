"""Deletion of a trace: its spans, vectors, scores and held updates, with everything derived from them, and the content
that no other span has.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from server.cache.freshness import Freshness, Touched
from server.errors import ApiError
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.ingest.writing.unused_content import collect_unused_content
from server.storage.database import Database, Step
from server.storage.deadlocks import repeat_after_deadlock
from server.storage.statements import statement

logger = logging.getLogger("observatory.ingest")


async def delete_trace(
    database: Database, freshness: Freshness, project_id: str, trace_id: str, note: Step | None = None
) -> int:
    """Delete trace ``trace_id`` of ``project_id``; return the number of spans, 0 if there is no such trace.

    ``note`` is done in the same transaction. Afterwards sums and rollups are exact, and no answer shows the trace. A
    caller that goes away meanwhile changes nothing of that. Raises the errors of :class:`Database`.
    """
    return await asyncio.shield(asyncio.ensure_future(_delete(database, freshness, project_id, trace_id, note)))


async def _delete(database: Database, freshness: Freshness, project_id: str, trace_id: str, note: Step | None) -> int:
    async def transaction() -> tuple[int, bool]:
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
            has_unused = await connection.fetchval(statement("has_unused_content"), project_id)
        return len(written), has_unused

    deleted, has_unused = await repeat_after_deadlock(transaction)
    if has_unused:
        try:
            await collect_unused_content(database, project_id)
        except ApiError as error:
            logger.info("content of a deleted trace goes within a minute", extra={"reason": str(error)})
    if deleted:
        # The trace may be of any age, so answers about every window are stale now.
        start = datetime(2000, 1, 1, tzinfo=UTC)
        await freshness.deleted(project_id, Touched(start, datetime.now(UTC), frozenset({trace_id})))
    return deleted
