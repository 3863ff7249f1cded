"""Folding of pending deltas into the rollups.

Everything of one project happens in one transaction under that project's lock: take deltas, add them to the grains and
slices, forget them. Readers see either the deltas or their sum, never both and never neither, so folding changes no
answer; it only keeps the deltas few.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import asyncpg

from server.periodic_task import PeriodicTask
from server.rollups.actor_fold import FOLDER, fold_actors, merge_past_actors
from server.rollups.counters import counter_statement
from server.rollups.fold_sketches import ALL, SLICED, TakenSketches
from server.storage.database import Database
from server.storage.living_nodes import each_project, fetch_of_living_nodes
from server.storage.statements import statement
from server.telemetry.observations import RollupsFolded, observe

FOLD_INTERVAL: Final = 1.0
"""Seconds between folds when there is little to do."""
LONG_PAUSE: Final = 5.0
"""Longest pause in seconds. A fold mostly rewrites the rows of the present hour and day, however few deltas there are,
so rarer folds cost ingest less.
"""
MOST_DELTAS: Final = 20_000
"""Deltas after which a transaction takes no further bucket: bounds its memory, and how long it holds the lock."""
ACTORS_EVERY: Final = 15.0
"""Seconds between folds of users and sessions, whose packed hours are rewritten as a whole."""

# Grain, width, and whether it covers only the days for which 5-minute rollups are kept.
_GRAINS: Final = (
    ("rollup_5m", timedelta(minutes=5), True),
    ("rollup_1h", timedelta(hours=1), False),
    ("rollup_1d", timedelta(days=1), False),
)
_ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)


class RollupFolder:
    """Background work; any number of processes may run one, since each project has a lock.

    The pause after a fold is twenty times as long as the fold took, up to :data:`LONG_PAUSE`, and four times as long
    in any case, so that folding never takes more than a fifth of one connection's time from ingest.
    """

    def __init__(self, worker: Database, *, interval: float = FOLD_INTERVAL) -> None:
        """``worker`` must run as the role observatory_worker, which sees every project."""
        self._worker = worker
        self._interval = interval
        self._actors_due = 0.0
        self.task = PeriodicTask(FOLDER, self._fold, pause=interval, next_pause=self._pause)

    async def _fold(self) -> None:
        now = time.monotonic()
        actors = now >= self._actors_due
        if actors:
            self._actors_due = now + ACTORS_EVERY
        await fold_pending(self._worker, actors=actors)

    def _pause(self, took: float) -> float:
        return max(self._interval, min(20 * took, LONG_PAUSE), 4 * took)


async def fold_pending(worker: Database, *, actors: bool = True) -> int:
    """Fold the pending deltas of every project; return their number.

    ``actors``: fold users and sessions too. A project that another process is folding is left to that process; one that
    fails is reported and does not keep the others waiting, nor do those of a node that is away.
    """
    started = time.monotonic()
    rows = await fetch_of_living_nodes(worker, FOLDER, "list_projects_with_deltas")
    projects = [row["project_id"] for row in rows]
    folded = sum(await each_project(worker, FOLDER, projects, partial(fold_project, worker, actors=actors)))
    if actors:
        await merge_past_actors(worker, datetime.now(UTC))
    if folded:
        observe(RollupsFolded(folded, time.monotonic() - started))
    return folded


async def fold_project(worker: Database, project: str, *, actors: bool = True) -> int:
    """Fold all pending deltas of one project; return their number."""
    folded = 0
    more = True
    while more:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                return folded
            taken = await _fold_deltas(connection, project)
        folded += taken
        more = taken >= MOST_DELTAS
    more = actors
    while more:
        async with worker.unscoped() as connection:
            if not await connection.fetchval(statement("lock_project_rollups"), project):
                return folded
            taken, more = await fold_actors(connection, project)
        folded += taken
    return folded


async def _fold_deltas(connection: asyncpg.Connection, project: str) -> int:
    await make_taken_table(connection)
    taken = await connection.fetchval(counter_statement("take_rollup_deltas"), project, MOST_DELTAS)
    if not taken:
        return 0
    (state,) = await connection.fetch(statement("read_rollup_state"))
    removals = await connection.fetchval(statement("taken_has_removals"))
    await add_taken(connection, project, state["rollup_5m_since"], removals=removals)
    return int(taken)


async def make_taken_table(connection: asyncpg.Connection) -> None:
    """Create the TEMP table of deltas to add, unless this connection has it; it is empty in a new transaction."""
    await connection.execute(statement("create_fold_tables"))


async def add_taken(connection: asyncpg.Connection, project: str, rollup_5m_since: datetime, *, removals: bool) -> None:
    """Add the rows of taken_delta to every grain and slice. ``removals``: some of them lower a count.

    The caller holds the project's lock.
    """
    sketches = await TakenSketches.fetch(connection, project)
    for grain, width, is_short in _GRAINS:
        since = rollup_5m_since if is_short else _ALWAYS
        merged = await sketches.by_grain(connection, _for_grain("sketches_of_grain", grain), project, width, since)
        if merged is None:
            continue
        await connection.execute(_for_grain("add_to_grain", grain), since, width, *merged)
        if removals:
            await connection.execute(_for_grain("delete_empty_of_grain", grain), project, width)
    await connection.execute(counter_statement("add_to_slices"), project, *await sketches.by_slice(connection, project))
    if removals:
        await connection.execute(counter_statement("delete_empty_slices"), project, [ALL, *SLICED])


def _for_grain(name: str, grain: str) -> str:
    # From _GRAINS; braces are the only placeholders that SQL text itself never has.
    return counter_statement(name).replace("{grain}", grain)
