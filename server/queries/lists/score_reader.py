"""Scores of traces: judgements by people, evaluators and applications."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from server.storage.row_scope import RowScope
from server.storage.statements import statement

MAX_SCORES: Final = 1000
"""Most scores in one answer."""

Score = dict[str, Any]


async def list_scores(
    connection: asyncpg.Connection, scope: RowScope, project_id: str, trace_ids: Sequence[str]
) -> list[Score]:
    """Return the scores of the traces ``trace_ids`` of one project and of their spans, oldest first, at most 1,000.

    ``connection`` is in a transaction of ``scope`` (see :meth:`server.storage.database.Database.read`). A comment may
    quote content, so it is None for scopes that may not read content.
    """
    if not trace_ids:
        return []
    rows = await connection.fetch(statement("list_trace_scores"), project_id, list(trace_ids), MAX_SCORES)
    return [_score(row, scope) for row in rows]


async def scores_until(
    connection: asyncpg.Connection, scope: RowScope, project_id: str, trace_ids: Sequence[str], moment: datetime
) -> list[Score]:
    """Return the scores of traces of one project that were added until ``moment``, oldest first, at most 1,000 of each
    trace; like :func:`list_scores` otherwise.
    """
    rows = await connection.fetch(statement("list_scores_until"), project_id, list(trace_ids), moment, MAX_SCORES)
    return [_score(row, scope) for row in rows]


def scores_of_span(scores: Sequence[Score], span_id: str) -> list[Score]:
    """Return those of ``scores`` that judge the span ``span_id`` itself."""
    return [score for score in scores if score["span_id"] == span_id]


def _score(row: asyncpg.Record, scope: RowScope) -> Score:
    score = dict(row)
    if not scope.may_read_content:
        score["comment"] = None
    return score
