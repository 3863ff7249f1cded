"""Erasure of a user: all of its traces, with what was derived from them, and its name in what outlives them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from server.cache.freshness import Freshness
from server.ingest.writing.trace_deletion import delete_traces
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

_CHUNK: Final = 200
"""Traces that are looked up at once."""
_MOST_SPANS: Final = 2000
"""Of a transaction with more traces than one: a second of work on a slow machine."""


@dataclass(slots=True)
class Erasure:
    """Counts of what is gone. ``is_complete``: nothing of the user is left; else another request goes on."""

    traces: int = 0
    spans: int = 0
    figures: int = 0
    had_name: bool = False
    """Whether the rollups knew its name, which they do longer than spans are kept."""
    is_complete: bool = False

    @property
    def found_something(self) -> bool:
        """Whether there was anything of that user."""
        return bool(self.traces or self.figures or self.had_name)


async def erase_user(
    database: Database, freshness: Freshness, project_id: str, user_id: str, *, seconds: float = 20.0
) -> Erasure:
    """Delete every trace of ``project_id`` that belongs to ``user_id`` or in which a span names it.

    Its scores, vectors and daily figures as a person of coding agents go with them. Rollups of days whose spans
    retention dropped stay as sums; there the name is replaced. Stops after ``seconds`` at the end of a transaction.
    Raises the errors of :class:`Database`.
    """
    erasure, end = Erasure(), time.monotonic() + seconds
    scope = RowScope((project_id,))
    async with database.read(scope) as connection:
        sessions = [row[0] for row in await connection.fetch(statement("list_sessions_of_user"), project_id, user_id)]
        erasure.had_name = await connection.fetchval(statement("has_name_of_user"), project_id, user_id)
    while not erasure.is_complete and time.monotonic() < end:
        async with database.read(scope) as connection:
            found = await connection.fetch(statement("list_traces_of_user"), project_id, user_id, _CHUNK)
        for traces in _in_transactions(found):
            deleted = await delete_traces(database, freshness, project_id, traces)
            erasure.traces += deleted.traces
            erasure.spans += deleted.spans
            if time.monotonic() >= end:
                break
        erasure.is_complete = not found
    async with database.write([project_id]) as connection:
        await connection.execute(statement("delete_updates_of_user"), project_id, user_id)
        erasure.figures = len(await connection.fetch(statement("delete_figures_of_person"), project_id, user_id))
        if erasure.found_something or sessions:
            await connection.fetch(statement("erase_actor_names"), project_id, user_id, sessions)
    return erasure


def _in_transactions(found: Sequence[asyncpg.Record]) -> Iterator[list[str]]:
    """Yield the traces of one transaction each.

    Statements that are planned over all weeks, and sums of the user that are read again, cost as much for one trace as
    for many.
    """
    traces: list[str] = []
    spans = 0
    for row in found:
        if traces and spans + row["spans"] > _MOST_SPANS:
            yield traces
            traces, spans = [], 0
        traces.append(row["trace_id"])
        spans += row["spans"]
    if traces:
        yield traces
