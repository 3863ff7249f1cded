"""A large database out of a small one: copies of stored spans with ids, parts and moments of their own.

Each copy goes through the tables' own indexes, in the layout that the spans have, but not through the server: it is
for questions to a large store, not for the speed of ingest. Words are those of the first spans, so a rare word is as
rare in a large store as in a small one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import asyncpg

_TRACE: Final = "md5({column} || '{copy}')"
_SPAN: Final = "left(md5({column} || '{copy}'), 16)"
_SESSION: Final = "{column} || '-{copy}'"
_EARLIER: Final = "{column} - interval '{shift}'"
COPIED: Final = {
    "content_parts": {"part_id": "md5({column} || '{copy}')::uuid"},
    "llm_traces": {
        "ts": _EARLIER, "trace_id": _TRACE, "span_id": _SPAN, "parent_span_id": _SPAN, "session_id": _SESSION,
        "parts": "(SELECT array_agg(md5(part || '{copy}')::uuid ORDER BY place)"
                 " FROM unnest({column}) WITH ORDINALITY AS of_span (part, place))",
    },
    "trace_summaries": {
        "start_ts": _EARLIER, "end_ts": _EARLIER, "trace_id": _TRACE, "root_span_id": _SPAN, "session_id": _SESSION,
    },
}  # fmt: skip
"""Tables, parts before the spans that name them, and what is different in a copy; all other columns are the same."""


async def add_copies(owner: asyncpg.Connection, copies: int) -> None:
    """Store every span ``copies`` times more, each copy earlier than the one before."""
    step = await _step(owner, copies)
    for table in COPIED:
        if await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            await owner.execute(f"CREATE TEMP TABLE first_{table} AS SELECT * FROM {table}")
    for number in range(1, copies + 1):
        for table, changes in COPIED.items():
            columns = await _columns(owner, table)
            values = [
                changes.get(column, "{column}").format(
                    column=column, copy=number, shift=f"{(step * number).total_seconds()} seconds"
                )
                for column in columns
            ]
            if columns:
                await owner.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM first_{table}"
                )


async def _step(owner: asyncpg.Connection, copies: int) -> timedelta:
    """Return how much earlier a copy is: all of them lie within the week of the first spans, beside each other."""
    first = await owner.fetchval("SELECT max(ts) - min(ts) + interval '1 second' FROM llm_traces")
    room = await owner.fetchval("SELECT min(ts) - date_trunc('week', min(ts), 'UTC') FROM llm_traces")
    return timedelta(seconds=min(first.total_seconds(), room.total_seconds() / (copies + 1)))


async def _columns(owner: asyncpg.Connection, table: str) -> list[str]:
    """Return the columns of ``table``, or none if this build does not have it."""
    rows = await owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' ORDER BY attnum",
        table,
    )
    return [row["attname"] for row in rows]
