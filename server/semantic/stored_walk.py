"""A walk through stored spans, the newest first, for those without a vector of the present model and version.

The feed of new spans misses spans that were stored before search by meaning was switched on, while no process made
vectors, or with another model. A step costs the same, however many spans have vectors already.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from datetime import UTC, datetime
from typing import Final

from server.semantic.backlog import SpanKey
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

STEP: Final = 2000
_BEGIN: Final = (datetime(2100, 1, 1, tzinfo=UTC), "", "")

Place = tuple[datetime, str, str]


class StoredWalk:
    """One walk through all projects."""

    def __init__(self, worker: Database) -> None:
        """``worker`` sees every project."""
        self._worker = worker
        self._places: dict[str, Place] = {}
        self.left_out: Collection[str] = ()
        """Projects that are not walked through for now."""

    @property
    def projects(self) -> Set[str]:
        """The projects that have not been walked through."""
        return self._places.keys()

    @property
    def is_over(self) -> bool:
        """Whether every project has been walked through, but those that are left out."""
        return not (self._places.keys() - self.left_out)

    async def begin(self) -> None:
        """Start again at the newest spans. Raises the database's errors."""
        async with self._worker.unscoped() as connection:
            records = await connection.fetch(statement("list_projects_to_embed"))
        self._places = {record["project_id"]: _BEGIN for record in records}

    async def step(self, model_id: int) -> list[SpanKey]:
        """Look at some spans of the project that is the furthest behind; return those that need vectors.

        Raises the database's errors.
        """
        project = max(self._places.keys() - self.left_out, key=lambda name: self._places[name])
        async with self._worker.read(RowScope((project,))) as connection:
            records = await connection.fetch(statement("walk_spans"), project, *self._places[project], STEP, model_id)
        if len(records) < STEP:
            del self._places[project]
        else:
            last = records[-1]
            self._places[project] = (last["ts"], last["trace_id"], last["span_id"])
        return [
            SpanKey(record["ts"], project, record["trace_id"], record["span_id"])
            for record in records
            if not record["is_done"]
        ]
