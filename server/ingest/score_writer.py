"""Stores scores: judgements of traces and spans by people, evaluations and applications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from server.cache.freshness import Freshness, Touched
from server.errors import Conflict
from server.ingest.mapping.mapping_result import ScoreRecord
from server.ingest.project_settings import ProjectSettings
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

_COLUMNS: Final = (
    "score_id", "trace_id", "span_id", "name", "data_type", "value", "string_value", "source", "comment", "ts",
)  # fmt: skip
_COMPARED: Final = ("trace_id", "span_id", "name", "data_type", "value", "string_value", "source", "comment")


class ScoreWriter:
    """Writes scores of any project. Redacts them first, by the project's rules: whoever stores, nothing slips by."""

    def __init__(self, database: Database, freshness: Freshness, projects: ProjectSettings) -> None:
        self._database = database
        self._freshness = freshness
        self._projects = projects

    async def store(
        self, project_id: str, scores: Sequence[ScoreRecord], *, created_by: str | None
    ) -> list[asyncpg.Record]:
        """Store ``scores`` durably; of several with one id the last counts, and an existing one is replaced.

        Return the rows with ``is_new``. Raises what :class:`Database` raises, and ProjectMisconfigured when the
        redaction rules cannot be used.
        """
        await self._redact(project_id, scores)
        return await self._store(project_id, scores, created_by)

    async def store_once(self, project_id: str, score: ScoreRecord, *, created_by: str | None) -> asyncpg.Record:
        """Store ``score`` unless its id is known; return its row, without ``is_new`` when it was there.

        Raises :class:`Conflict` when the id stands for a score that says something else.
        """
        await self._redact(project_id, [score])
        async with self._database.read(RowScope((project_id,))) as connection:
            known = await connection.fetchrow(statement("read_score"), project_id, score.score_id)
        if known is None:
            return (await self._store(project_id, [score], created_by))[0]
        # What is stored is redacted: only then can it be compared.
        if any(known[name] != getattr(score, name) for name in _COMPARED):
            raise Conflict("The Idempotency-Key was used for another score.")
        return known

    async def delete(self, project_id: str, score_id: str) -> bool:
        """Delete a score; return False when there is none."""
        async with self._database.write([project_id]) as connection:
            row = await connection.fetchrow(statement("delete_score"), project_id, score_id)
        if row is None:
            return False
        await self._freshness.touched({project_id: Touched(row["ts"], row["ts"], frozenset({row["trace_id"]}))})
        return True

    async def _redact(self, project_id: str, scores: Sequence[ScoreRecord]) -> None:
        redactor = (await self._projects.of(project_id)).redactor
        if redactor is not None:
            for score in scores:
                redactor.redact_score(score)

    async def _store(
        self, project_id: str, scores: Sequence[ScoreRecord], created_by: str | None
    ) -> list[asyncpg.Record]:
        latest = {score.score_id: score for score in scores}
        if not latest:
            return []
        columns = [[getattr(score, name) for score in latest.values()] for name in _COLUMNS]
        async with self._database.write([project_id]) as connection:
            rows = await connection.fetch(statement("store_scores"), project_id, *columns, created_by)
        times = [score.ts for score in latest.values()]
        traces = frozenset(score.trace_id for score in latest.values())
        await self._freshness.touched({project_id: Touched(min(times), max(times), traces)})
        return list(rows)
