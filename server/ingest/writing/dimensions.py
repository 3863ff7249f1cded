"""Interning of dimensions: a number for each combination of low-cardinality values of a project.

Rollups are kept by this number, so their size is bounded by the number of combinations. Somebody who puts an order
number into ``gen_ai.agent.name`` must not blow them up: beyond a limit new combinations lose their open-ended values,
which metrics then show as ``(other)``. The spans themselves are unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from server.ingest.writing.prepared_span import COLUMNS, DIMENSIONS, PreparedSpan
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

OTHER: Final = "(other)"
LONGEST_VALUE_BYTES: Final = 190
"""Thirteen values and the project make one btree key, which may not pass 2,704 bytes."""

Combination = tuple[Any, ...]

_DIM_ID: Final = COLUMNS.index("dim_id")
_NOTHING: Final[Mapping[Combination, int]] = {}

# Values that are given up first, and values that are given up only if that did not help. Status, operation and
# is_generation have few values by construction and stay.
_OPEN_ENDED: Final = {"error_type", "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version"}
_NAMES: Final = _OPEN_ENDED | {"provider", "model", "service_name", "environment"}


@dataclass(slots=True)
class _ProjectDimensions:
    stored: dict[Combination, int]
    """Rows of the table."""
    found: dict[Combination, int] = field(default_factory=dict)
    """Maps the values of spans to the number they were stored under; a cache that starts afresh when it is full."""


class Dimensions:
    """Combination to ``dim_id``, cached per process; rows are never changed or deleted."""

    def __init__(self, database: Database, *, most_combinations: int) -> None:
        """``most_combinations``: number of combinations of a project beyond which open-ended values are given up."""
        self._database = database
        self._most = most_combinations
        self._projects: dict[str, _ProjectDimensions] = {}
        self._lock = asyncio.Lock()

    async def intern(self, spans: Sequence[PreparedSpan]) -> None:
        """Append its ``dim_id`` to the ``values`` of each span.

        Queries the database only for combinations that are new to this process. Raises the errors of :class:`Database`.
        """
        dim_ids = self._found(spans)
        if None in dim_ids:
            wanted: dict[str, dict[Combination, None]] = {}
            for span, dim_id in zip(spans, dim_ids, strict=True):
                if dim_id is None:
                    wanted.setdefault(span.project_id, {})[span.dimension] = None
            learned: dict[str, dict[Combination, int]] = {}
            for project_id, combinations in wanted.items():
                async with self._lock:
                    learned[project_id] = await self._learn(project_id, combinations)
            dim_ids = [
                learned[span.project_id][span.dimension] if dim_id is None else dim_id
                for span, dim_id in zip(spans, dim_ids, strict=True)
            ]
        for span, dim_id in zip(spans, dim_ids, strict=True):
            # A retry after a lost connection finds the number already there.
            span.values[_DIM_ID:] = (dim_id,)

    def _found(self, spans: Sequence[PreparedSpan]) -> list[int | None]:
        """Return the cached numbers, None for a combination that is new."""
        found = {project: known.found for project, known in self._projects.items()}
        return [found.get(span.key[0], _NOTHING).get(span.dimension) for span in spans]

    def forget(self, project_id: str) -> None:
        """Ask the database again for the combinations of ``project_id``."""
        self._projects.pop(project_id, None)

    async def _learn(self, project_id: str, wanted: Collection[Combination]) -> dict[Combination, int]:
        known = self._projects.get(project_id)
        if known is None:
            known = self._projects[project_id] = _ProjectDimensions(await self._load(project_id))
        stored_as = {combination: self._admitted(combination, known.stored) for combination in wanted}
        new = sorted({stored for stored in stored_as.values() if stored not in known.stored})
        if new:
            known.stored.update(await self._add(project_id, new))
            if any(stored not in known.stored for stored in new):
                known.stored.update(await self._load(project_id))
        if len(known.found) + len(wanted) > 4 * self._most:
            known.found.clear()
        learned = {combination: known.stored[stored] for combination, stored in stored_as.items()}
        known.found.update(learned)
        return learned

    def _admitted(self, combination: Combination, stored: Mapping[Combination, int]) -> Combination:
        """Return the combination as stored, with '' for missing values."""
        named = ("" if value is None else value for value in combination)
        short = tuple(_shortened(value) if isinstance(value, str) else value for value in named)
        if short in stored or len(stored) < self._most:
            return short
        given_up = _OPEN_ENDED if len(stored) < self._most + self._most // 4 else _NAMES
        return tuple(
            OTHER if name in given_up and value else value for name, value in zip(DIMENSIONS, short, strict=True)
        )

    async def numbers_within(
        self, connection: asyncpg.Connection, project_id: str, combinations: Collection[Combination]
    ) -> dict[Combination, int]:
        """Return the number of each combination, added by the open transaction of ``connection`` where it is new.

        Nothing is remembered of it, since the transaction may yet come to nothing.
        """
        known = self._projects.get(project_id)
        numbers = dict(known.stored) if known is not None else await _loaded(connection, project_id)
        stored_as = {combination: self._admitted(combination, numbers) for combination in combinations}
        new = sorted({stored for stored in stored_as.values() if stored not in numbers})
        if new:
            numbers.update(await _added(connection, project_id, new))
            if any(stored not in numbers for stored in new):
                numbers.update(await _loaded(connection, project_id))
        return {combination: numbers[stored] for combination, stored in stored_as.items()}

    async def _load(self, project_id: str) -> dict[Combination, int]:
        async with self._database.read(RowScope((project_id,))) as connection:
            return await _loaded(connection, project_id)

    async def _add(self, project_id: str, combinations: Sequence[Combination]) -> dict[Combination, int]:
        async with self._database.write([project_id]) as connection:
            return await _added(connection, project_id, combinations)


async def _loaded(connection: asyncpg.Connection, project_id: str) -> dict[Combination, int]:
    rows = await connection.fetch(statement("list_span_dimensions"), project_id)
    return {tuple(row[name] for name in DIMENSIONS): row["dim_id"] for row in rows}


async def _added(
    connection: asyncpg.Connection, project_id: str, combinations: Sequence[Combination]
) -> dict[Combination, int]:
    columns = [list(column) for column in zip(*combinations, strict=True)]
    ids = [row["dim_id"] for row in await connection.fetch(statement("take_dimension_ids"), len(combinations))]
    rows = await connection.fetch(statement("add_span_dimensions"), project_id, ids, *columns)
    return {tuple(row[name] for name in DIMENSIONS): row["dim_id"] for row in rows}


def _shortened(value: str) -> str:
    encoded = value.encode()
    if len(encoded) <= LONGEST_VALUE_BYTES:
        return value
    return encoded[: LONGEST_VALUE_BYTES - 3].decode(errors="ignore") + "…"
