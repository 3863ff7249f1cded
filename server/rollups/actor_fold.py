"""Folds pending deltas of users and sessions into packed hours, and past hours into days and weeks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import numpy as np

from server.rollups.actor_pack import COLUMNS, Actors, merge_actors, unpack
from server.storage.database import Database
from server.storage.living_nodes import each_project, fetch_of_living_nodes
from server.storage.statements import statement

FOLDER: Final = "rollup folder"
"""The background work of this folder, as logs and metrics name it."""

_MOST_MERGES: Final = 50
# Length of a merged stretch in hours, and of the parts that it is made of.
_MERGED: Final = ((24, 1), (168, 24))
_MOST_HOURS: Final = 48


async def fold_actors(connection: asyncpg.Connection, project: str) -> tuple[int, bool]:
    """Add the pending deltas of some hours to them; return how many there were and whether more may wait.

    The caller holds the project's lock.
    """
    await connection.execute(statement("create_taken_actors"))
    taken = await connection.fetchval(statement("take_actor_deltas"), project, _MOST_HOURS)
    if not taken:
        return 0, False
    hours = await add_taken_actors(connection, project)
    return int(taken), hours == _MOST_HOURS


async def add_taken_actors(connection: asyncpg.Connection, project: str) -> int:
    """Add the rows of taken_actors to their hours; return the number of hours. The caller holds the lock."""
    rows = await connection.fetch(statement("pack_taken_actors"))
    kinds, buckets = [row["kind"] for row in rows], [row["bucket"] for row in rows]
    present = await connection.fetch(statement("read_actor_hours"), project, kinds, buckets)
    packed = await asyncio.to_thread(_merged_hours, rows, present)
    ids, amounts = [item[0] for item in packed], [item[1] for item in packed]
    await connection.execute(statement("write_actor_hours"), project, kinds, buckets, ids, amounts)
    if not all(ids):
        await connection.execute(statement("delete_empty_actor_hours"), project, kinds, buckets)
    await connection.execute(statement("forget_merged_actors"), project, kinds, buckets)
    await connection.execute(statement("remember_taken_actors"), project)
    return len(rows)


def _merged_hours(taken: Sequence[asyncpg.Record], present: Sequence[asyncpg.Record]) -> list[tuple[bytes, bytes]]:
    there = {(row["kind"], row["bucket"]): unpack(row["ids"], row["amounts"]) for row in present}
    merged = []
    for row in taken:
        known = there.get((row["kind"], row["bucket"]))
        added = unpack(row["ids"], row["amounts"], wire=">i8")
        merged.append(merge_actors([added] if known is None else [known, added]).packed())
    return merged


def actors_of(rows: Sequence[asyncpg.Record]) -> Actors:
    """Return rows with ``actor_hash`` and the columns of :data:`COLUMNS` as packed amounts, not yet sorted."""
    ids = np.array([row["actor_hash"] for row in rows], dtype=np.int64)
    amounts = np.array([[row[column] for column in COLUMNS] for row in rows], dtype=np.int64)
    return Actors(ids, amounts.reshape(-1, len(COLUMNS)))


async def merge_past_actors(worker: Database, now: datetime) -> int:
    """Merge the hours of past days and weeks that are not merged yet; return how many were made."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    made = 0
    for hours, of in _MERGED:
        missing = await fetch_of_living_nodes(worker, FOLDER, "list_unmerged_actors", hours, today, of, _MOST_MERGES)
        by_project: dict[str, list[asyncpg.Record]] = defaultdict(list)
        for row in missing:
            by_project[row["project_id"]].append(row)

        async def merge(project: str, by_project: Any = by_project, hours: int = hours) -> int:
            return sum([await _merge(worker, row, hours) for row in by_project[project]])

        made += sum(await each_project(worker, FOLDER, by_project, merge))
    return made


async def _merge(worker: Database, row: asyncpg.Record, hours: int) -> int:
    """Merge one stretch of ``hours``, a row of ``list_unmerged_actors``; 0 while its project is locked."""
    async with worker.unscoped() as connection:
        if not await connection.fetchval(statement("lock_project_rollups"), row["project_id"]):
            return 0
        # From the hours, which are the truth: a day may have become stale since it was listed.
        parts = await connection.fetch(statement("read_actor_parts"), *row, hours)
        merged = merge_actors([unpack(part["ids"], part["amounts"]) for part in parts])
        await connection.execute(statement("write_merged_actors"), *row, hours, *merged.packed())
    return 1
