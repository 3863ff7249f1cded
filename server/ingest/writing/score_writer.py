"""Writer of scores: judgements of traces and spans by people, evaluations and applications."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from server.cache.freshness import Freshness, Touched
from server.ingest.mapping.mapping_result import ScoreRecord
from server.storage.database import Database, Step
from server.storage.statements import statement

_COLUMNS = (
    "score_id", "trace_id", "span_id", "name", "data_type", "value", "string_value", "source", "comment", "ts",
)  # fmt: skip


class ScoreWriter:
    """Writes scores of any project."""

    def __init__(self, database: Database, freshness: Freshness) -> None:
        self._database = database
        self._freshness = freshness

    async def store(
        self, project_id: str, scores: Sequence[ScoreRecord], *, created_by: str | None
    ) -> list[asyncpg.Record]:
        """Store ``scores`` durably; of several with one id the last counts, and an existing one is replaced.

        Returns the rows with ``is_new``. Raises the errors of :class:`Database`.
        """
        latest = {score.score_id: score for score in scores}
        if not latest:
            return []
        columns = [[getattr(score, name) for score in latest.values()] for name in _COLUMNS]
        async with self._database.write([project_id]) as connection:
            makers = [created_by or score.created_by for score in latest.values()]
            rows = await connection.fetch(statement("store_scores"), project_id, *columns, makers)
        await self._touch(project_id, list(latest.values()))
        return list(rows)

    async def store_once(self, project_id: str, score: ScoreRecord, *, created_by: str) -> tuple[asyncpg.Record, bool]:
        """Store ``score`` durably unless its id is there; return the row that is there now, and whether it is new.

        Of any number of callers at the same time one stores its score; the others wait for it and get that.
        """
        values = [getattr(score, name) for name in _COLUMNS]
        async with self._database.write([project_id]) as connection:
            row, is_new = None, False
            while row is None:  # again only if somebody deletes it between the two statements
                row = await connection.fetchrow(statement("store_score_once"), project_id, *values, created_by)
                is_new = row is not None
                row = row or await connection.fetchrow(statement("read_score"), project_id, score.score_id)
        if is_new:
            await self._touch(project_id, [score])
        return row, is_new

    async def delete(self, project_id: str, score_id: str, note: Step) -> bool:
        """Delete a score and do ``note`` in the same transaction; return False if it does not exist."""
        async with self._database.write([project_id]) as connection:
            row = await connection.fetchrow(statement("delete_score"), project_id, score_id)
            if row is None:
                return False
            await note(connection)
        await self._freshness.deleted(project_id, Touched(row["ts"], row["ts"], frozenset({row["trace_id"]})))
        return True

    async def _touch(self, project_id: str, scores: Sequence[ScoreRecord]) -> None:
        times = [score.ts for score in scores]
        traces = frozenset(score.trace_id for score in scores)
        await self._freshness.touched({project_id: Touched(min(times), max(times), traces)})
