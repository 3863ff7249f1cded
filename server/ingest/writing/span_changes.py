"""The common part of every change of stored spans: summaries and rollups follow in the same transaction.

A statement that inserts, updates or deletes spans leaves one row in the TEMP table span_changes for each version that
came or went; :func:`settle_span_changes` then updates everything that is derived from spans. Ingest, re-pricing and
deletion all go this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from server.ingest.writing.lent_parts import NO_PARTS
from server.ingest.writing.stored_counts import Recount
from server.ingest.writing.text_vector import accept_text_vectors
from server.rollups.counters import counter_statement
from server.storage.statements import statement

_WHEN_EMPTIED = {
    "session": ("delete_empty_session_summaries",),
    "user": ("delete_empty_user_summaries", "delete_empty_user_sessions"),
}
_TABLES = (
    "create_span_staging",
    "shape_span_staging",
    "create_span_changes",
    "have_copies_noted",
    "declare_shared_content",
    "create_trace_changes",
)


async def ensure_change_tables(connection: asyncpg.Connection) -> None:
    """Create the TEMP tables of this connection, unless it has them, and teach it to send word vectors.

    The tables are empty at the start of a transaction.
    """
    if not await connection.fetchval(statement("writer_tables_exist")):
        await accept_text_vectors(connection)
        for name in _TABLES:
            await connection.execute(statement(name))


async def settle_span_changes(
    connection: asyncpg.Connection, *, spans_went: bool, seek_twins: bool = False, recount: Recount | None = None
) -> int:
    """Bring rollups and the summaries of traces, sessions and users up to date, after span_changes was filled.

    ``spans_went``: among its rows are some of sign -1. ``seek_twins``: spans were stored, which live tails are to see
    and which may be there with another start time too; ``recount`` then decides again which of them count, if a trace
    comes in pieces. Returns by how many spans the traces grew, such twins not yet taken away.
    """
    parts = recount.parts_of_traces() if recount is not None else NO_PARTS
    changes = list(await connection.fetch(statement("fold_trace_summaries"), 0, parts))
    growth: int = sum(row["sign"] * row["span_count"] for row in changes)
    known_traces = any(row["sign"] < 0 for row in changes)
    if spans_went or (seek_twins and known_traces):
        await connection.fetchrow(statement("prefer_index_lookups"))
    if seek_twins and known_traces:
        twins = await connection.fetch(statement("remove_span_twins"))
        if twins:
            spans_went = True
            changes += await connection.fetch(statement("fold_trace_summaries"), 1, NO_PARTS)
    if recount is not None and await recount.settle(connection, changes, spans_went=spans_went):
        spans_went = True
        changes += await connection.fetch(statement("fold_trace_summaries"), 2, NO_PARTS)
    if spans_went:
        changes += await connection.fetch(statement("recompute_trace_summaries"))
        changes += await connection.fetch(statement("delete_empty_trace_summaries"))
    # fetch, not execute: without parameters that would parse and plan the statement every time.
    await connection.fetch(counter_statement("append_rollup_delta"))
    if seek_twins:
        await connection.fetch(statement("note_in_feed"))
    await _settle_sessions_and_users(connection, changes)
    return growth


async def forget_expired_traces(connection: asyncpg.Connection, project_id: str, cutoff: object) -> None:
    """Remove the summaries of traces that ended before ``cutoff`` (a datetime), also from their sessions and users.

    For retention, which drops the spans themselves by partition.
    """
    await ensure_change_tables(connection)
    await connection.fetchrow(statement("prefer_index_lookups"))
    changes = await connection.fetch(statement("expire_trace_summaries"), project_id, cutoff)
    await _settle_sessions_and_users(connection, changes)


async def _settle_sessions_and_users(connection: asyncpg.Connection, changes: Sequence[asyncpg.Record]) -> None:
    touched = [kind for kind in ("session", "user") if any(row[f"has_{kind}"] for row in changes)]
    if not touched:
        return
    await connection.fetch(statement("fold_session_and_user_summaries"))
    if not any(row["sign"] < 0 for row in changes):
        return
    for kind in touched:
        await connection.execute(statement(f"recompute_{kind}_summaries"))
        for name in _WHEN_EMPTIED[kind]:
            await connection.execute(statement(name))
