"""Users and sessions over long ranges, from packed hours, days and weeks instead of millions of rows.

Whole hours are read from the packed values, the ends of a range from raw rows, and unfolded spans from the pending
deltas, so the counts are exact. Beyond :data:`MOST_EXACT_IDS` ids to merge, distinct counts are estimated from the ids
with the lowest hashes, a random sample of at least half that many, with an error of about 0.1 %.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import asyncpg
import numpy as np

from server.fairness.off_loop import off_loop
from server.queries.metrics.metric_catalog import ActorKind
from server.queries.metrics.raw_sql import Piece, raw_actors_statement
from server.queries.metrics.source_plan import Grain, Timeline, joined, split_piece
from server.rollups.actor_fold import actors_of
from server.rollups.actor_pack import Actors, Ints, merge_actors, unpack, unpack_ids
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import is_multiple_of

MOST_EXACT_IDS: Final = 5_000_000
_LOWEST: Final = -(2**63)
_HOUR: Final = Grain("rollup_1h", timedelta(hours=1))

_PACK_WEIGHT: Final = 500
"""Work for one packed hour or day, as a number of values (see :func:`off_loop`)."""


_BUCKET_WEIGHT: Final = 4
"""The same for one bucket, also of an empty one."""


@dataclass(slots=True)
class ActorPlan:
    """Pieces of a range by source. ``packed``: whole hours, each piece within one bucket; the rest is read from raw
    rows."""

    packed: list[Piece] = field(default_factory=list)
    raw: list[Piece] = field(default_factory=list)


async def actor_plan(timeline: Timeline) -> ActorPlan | None:
    """Plan the sources of ``timeline``, beside the event loop where it has many buckets; return None if its buckets are
    not made of whole hours.
    """
    return await off_loop(timeline.buckets * _BUCKET_WEIGHT, lambda: plan_actors(timeline))


def plan_actors(timeline: Timeline) -> ActorPlan | None:
    """Plan like :func:`actor_plan`."""
    if not all(is_multiple_of(moment, _HOUR.width) for moment in timeline.boundaries[1:-1]):
        return None
    plan = ActorPlan()
    edges = (timeline.start, *timeline.boundaries[1:-1], timeline.end)
    for low, high in pairwise(edges):
        split_piece(
            (low, high), (_HOUR,), lambda table, piece: (plan.raw if table == "raw" else plan.packed).append(piece)
        )
    return plan if plan.packed else None


@dataclass(frozen=True, slots=True)
class Packs:
    """The longest packed values that together cover the packed pieces, each hour once."""

    projects: list[str]
    hours: list[int]
    buckets: list[datetime]
    ids: int

    @property
    def keys(self) -> tuple[list[str], list[int], list[datetime]]:
        """The arguments of the statements that read them."""
        return self.projects, self.hours, self.buckets


async def choose_packs(connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, plan: ActorPlan) -> Packs:
    """Choose weeks where they exist, else days, else hours."""
    listed = await connection.fetch(statement("list_actor_packs"), list(scope.projects), kind, *_edges(plan.packed))
    covered: set[tuple[str, datetime]] = set()
    chosen = []
    for row in listed:
        project, hours, bucket, _ = row
        if (project, bucket) in covered:
            continue
        if hours > 1:
            covered.update((project, bucket + _HOUR.width * hour) for hour in range(hours))
        chosen.append(row)
    projects, hours, buckets = ([row[column] for row in chosen] for column in ("project_id", "hours", "bucket"))
    return Packs(projects, hours, buckets, sum(row["ids"] for row in chosen))


@dataclass(slots=True)
class ActorTable:
    """Merged users or sessions of each bucket, and the names found in rows that are not folded yet."""

    buckets: list[Actors]
    names: dict[int, str]
    rows_read: int

    def whole(self) -> Actors:
        """Return all buckets merged."""
        return self.buckets[0] if len(self.buckets) == 1 else merge_actors(self.buckets)


async def read_actors(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, plan: ActorPlan, timeline: Timeline
) -> ActorTable:
    """Return the amounts of every user or session in each bucket."""
    packs = await choose_packs(connection, scope, kind, plan)
    packed = await connection.fetch(statement("read_actor_amounts"), kind, *packs.keys)
    loose = await _loose(connection, scope, kind, plan, timeline)
    names = {row["actor_hash"]: row["actor"] for _, row in loose}
    weight = len(packed) * _PACK_WEIGHT + timeline.buckets * _BUCKET_WEIGHT
    buckets = await off_loop(weight, lambda: _merged(packed, loose, timeline))
    return ActorTable(buckets, names, len(packed) + len(loose))


async def count_actors(
    connection: asyncpg.Connection,
    scope: RowScope,
    kind: ActorKind,
    plan: ActorPlan,
    timeline: Timeline,
    *,
    most_exact: int = MOST_EXACT_IDS,
) -> tuple[list[int], bool, int]:
    """Return (distinct users or sessions in each bucket, whether the counts are estimates, rows read)."""
    loose = await _loose(connection, scope, kind, plan, timeline)
    if any(row["spans"] <= 0 for _, row in loose):
        # A removal is not folded yet, so only the amounts show whether a user still has a span.
        table = await read_actors(connection, scope, kind, plan, timeline)
        return [int((actors.column("spans") > 0).sum()) for actors in table.buckets], False, table.rows_read
    packs = await choose_packs(connection, scope, kind, plan)
    halvings = max(math.ceil(math.log2(packs.ids / most_exact)), 0) if packs.ids else 0
    # A quarter more than the expected share: hashes are spread evenly, but not perfectly.
    share = 1.0 if halvings == 0 else 1.25 / 2**halvings
    packed = await connection.fetch(statement("read_actor_ids"), kind, *packs.keys, share)
    weight = len(packed) * _PACK_WEIGHT + timeline.buckets * _BUCKET_WEIGHT
    counts = await off_loop(weight, lambda: _counted(packed, loose, timeline, halvings))
    return counts, halvings > 0, len(packed) + len(loose)


async def read_actor_names(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, ids: Sequence[int]
) -> dict[int, str]:
    """Return the names behind ``ids``."""
    rows = await connection.fetch(statement("read_actor_names"), list(scope.projects), kind, list(ids))
    return {row["actor_hash"]: row["actor"] for row in rows}


Loose = list[tuple[int, asyncpg.Record]]
"""Rows of single users or sessions, each with its bucket."""


async def _loose(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, plan: ActorPlan, timeline: Timeline
) -> Loose:
    edges = _edges(joined(plan.packed))
    pending = await connection.fetch(statement("read_pending_actors"), list(scope.projects), kind, *edges)
    loose = [(_bucket(timeline, row["moment"]), row) for row in pending]
    if plan.raw:
        sql, values = raw_actors_statement(scope, kind, plan.raw, timeline.boundaries)
        loose += [(row["b"], row) for row in await connection.fetch(sql, *values)]
    return loose


def _edges(pieces: Sequence[Piece]) -> tuple[list[Any], list[Any]]:
    return [low for low, _ in pieces], [high for _, high in pieces]


def _bucket(timeline: Timeline, moment: Any) -> int:
    return bisect.bisect_right(timeline.boundaries, moment, hi=timeline.buckets) - 1


def _merged(packed: list[asyncpg.Record], loose: Loose, timeline: Timeline) -> list[Actors]:
    parts: list[list[Actors]] = [[] for _ in range(timeline.buckets)]
    for row in packed:
        parts[_bucket(timeline, row["bucket"])].append(unpack(row["ids"], row["amounts"]))
    for bucket, rows in _by_bucket(loose).items():
        parts[bucket].append(actors_of(rows))
    return [merge_actors(found) for found in parts]


def _by_bucket(loose: Loose) -> dict[int, list[asyncpg.Record]]:
    rows: dict[int, list[asyncpg.Record]] = {}
    for bucket, row in loose:
        rows.setdefault(bucket, []).append(row)
    return rows


def _counted(packed: list[asyncpg.Record], loose: Loose, timeline: Timeline, halvings: int) -> list[int]:
    parts: list[list[Ints]] = [[] for _ in range(timeline.buckets)]
    for row in packed:
        parts[_bucket(timeline, row["bucket"])].append(unpack_ids(row["ids"]))
    for bucket, rows in _by_bucket(loose).items():
        parts[bucket].append(np.array([row["actor_hash"] for row in rows], dtype=np.int64))
    counts = []
    for found in parts:
        # A stable sort merges runs that are sorted already, as each packed value is, in an eighth of the time.
        ids = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found]), kind="stable")
        if halvings:
            ids = ids[: np.searchsorted(ids, _LOWEST + 2 ** (64 - halvings))]
        different = int(np.count_nonzero(ids[1:] != ids[:-1])) + 1 if len(ids) else 0
        counts.append(different << halvings)
    return counts
