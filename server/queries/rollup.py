"""Folds pending deltas into the rollups.

Everything of one project happens in one transaction under that project's lock: take deltas, add them to
the grains and slices, forget them. Readers see either the deltas or their sum, never both and never
neither, so folding changes no answer; it only keeps the deltas few.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg
import numpy as np

from server.database import Database
from server.errors import ApiError
from server.observations import BackgroundWorkFailed, RollupsFolded, observe
from server.queries import sketch
from server.queries.actor_fold import fold_actors, merge_past_actors
from server.queries.metric_catalog import PERCENTILES
from server.queries.statements import statement

FOLD_INTERVAL: Final = 1.0
"""Seconds between folds when there is little to do."""
MOST_DELTAS: Final = 20_000
"""Deltas taken in one transaction: bounds its memory and how long it holds the lock."""
ACTORS_EVERY: Final = 15.0
"""Seconds between folds of users and sessions, whose packed hours are rewritten as a whole."""

# Grain, width, and whether it is limited to the days that 5-minute rollups are kept.
_GRAINS: Final = (("rollup_5m", "5 minutes", True), ("rollup_1h", "1 hour", False), ("rollup_1d", "1 day", False))
_SKETCHES: Final = ("duration_sketch", "ttft_sketch", "speed_sketch")
_FRACTIONS: Final = tuple(PERCENTILES.values())
_ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)


class RollupFolder:
    """The background task; any number of processes may run one, since each project has a lock.

    The pause after a fold is at least four times as long as the fold took, so that folding never
    takes more than a fifth of one connection's time from ingest.
    """

    def __init__(self, worker: Database, *, interval: float = FOLD_INTERVAL) -> None:
        """``worker`` must run as the role observatory_worker, which sees every project."""
        self._worker = worker
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self._actors_due = 0.0

    def start(self) -> None:
        """Begin folding, until :meth:`stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="rollup folder")

    async def stop(self) -> None:
        """Stop folding; what is in the middle is rolled back and folded later."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        pause = self._interval
        while True:
            await asyncio.sleep(pause)
            started = time.monotonic()
            actors = started >= self._actors_due
            if actors:
                self._actors_due = started + ACTORS_EVERY
            try:
                await fold_pending(self._worker, actors=actors)
            except ApiError as error:
                observe(BackgroundWorkFailed(task="rollup folder", cause=error.code))
            pause = max(self._interval, 4 * (time.monotonic() - started))


async def fold_pending(worker: Database, *, actors: bool = True) -> int:
    """Fold what is pending in every project; gives the number of deltas folded.

    ``actors``: users and sessions too. A project that another process is folding is left to it; one that fails is
    reported and does not keep the others waiting.
    """
    started = time.monotonic()
    async with worker.unscoped() as connection:
        projects = [row["project_id"] for row in await connection.fetch(statement("list_projects_with_deltas"))]
    folded = 0
    for project in projects:
        try:
            folded += await fold_project(worker, project, actors=actors)
        except ApiError as error:
            observe(BackgroundWorkFailed(task="rollup folder", cause=error.code))
    if actors:
        await merge_past_actors(worker, datetime.now(UTC))
    if folded:
        observe(RollupsFolded(folded, time.monotonic() - started))
    return folded


async def fold_project(worker: Database, project: str, *, actors: bool = True) -> int:
    """Fold all pending deltas of one project; gives how many there were."""
    folded = 0
    more = True
    while more:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                return folded
            taken = await _fold_deltas(connection, project)
        folded += taken
        more = taken == MOST_DELTAS
    more = actors
    while more:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                return folded
            taken, more = await fold_actors(connection, project)
        folded += taken
    return folded


async def _fold_deltas(connection: asyncpg.Connection, project: str) -> int:
    await connection.execute(statement("create_fold_tables"))
    await connection.execute(statement("create_fold_slices"))
    taken = await connection.fetchval(statement("take_rollup_deltas"), project, MOST_DELTAS)
    if not taken:
        return 0
    (state,) = await connection.fetch(statement("read_rollup_state"))
    removals = await connection.fetchval(statement("taken_has_removals"))
    for grain, width, is_short in _GRAINS:
        await _fold_grain(connection, grain, width, state["rollup_5m_since"] if is_short else _ALWAYS)
        if removals:
            await connection.execute(_for_grain("delete_empty_of_grain", grain, width), project)
    await connection.execute(statement("take_slices"))
    await _fold_slices(connection)
    if removals:
        await connection.execute(statement("delete_empty_slices"), project)
    return int(taken)


def _for_grain(name: str, grain: str, width: str) -> str:
    # Both come from _GRAINS; braces are the only placeholders that SQL text itself never has.
    return statement(name).replace("{grain}", grain).replace("{width}", width)


async def _fold_grain(connection: asyncpg.Connection, grain: str, width: str, since: datetime) -> None:
    rows = await connection.fetch(_for_grain("sketches_of_grain", grain, width), since)
    if not rows:
        return
    merged = await asyncio.to_thread(_merge_columns, rows)
    await connection.execute(
        _for_grain("add_to_grain", grain, width),
        since,
        [row["bucket"] for row in rows],
        [row["dim_id"] for row in rows],
        *(packed for packed, _ in merged),
    )


async def _fold_slices(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(statement("sketches_of_slices"))
    merged = await asyncio.to_thread(_merge_columns, rows)
    await connection.execute(
        statement("add_to_slices"),
        *([row[column] for row in rows] for column in ("bucket", "dimension", "value", "is_generation")),
        *(packed for packed, _ in merged),
        *(quantiles for _, quantiles in merged),
    )


def _merge_columns(rows: Sequence[asyncpg.Record]) -> list[tuple[list[bytes], list[str]]]:
    """For each sketch column: merged and packed, and the stored percentiles as array literals ('{}': no value)."""
    merged = []
    for column in _SKETCHES:
        sketches = sketch.merge([row[column] for row in rows], np.arange(len(rows)), len(rows))
        merged.append((sketches.packed(), [_array_literal(line) for line in sketches.quantiles(_FRACTIONS).tolist()]))
    return merged


def _array_literal(values: Sequence[float]) -> str:
    return "{}" if values[0] != values[0] else "{" + ",".join(map(repr, values)) + "}"
