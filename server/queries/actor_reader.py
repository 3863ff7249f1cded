"""Users and sessions over long ranges, from packed hours and days instead of millions of rows.

Whole hours come from the packed values, the ends of a range from raw rows, and what is not folded yet from the
pending deltas: the counts are exact. Beyond :data:`MOST_EXACT_IDS` ids to merge, distinct counts are estimated from
the ids with the lowest hashes, a random sample of at least half that many, off by 0.1 % or so.
"""

from __future__ import annotations

import asyncio
import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import asyncpg
import numpy as np

from server.queries.actor_blob import Actors, Ints, merge_actors, unpack, unpack_ids
from server.queries.actor_fold import actors_of
from server.queries.metric_catalog import ActorKind
from server.queries.metric_plan import EPOCH, GRAINS, Timeline, joined, split_piece
from server.queries.metric_sql import Piece
from server.queries.row_scope import RowScope
from server.queries.statements import statement

MOST_EXACT_IDS: Final = 5_000_000
_LOWEST: Final = -(2**63)
_HOUR: Final = timedelta(hours=1)


@dataclass(slots=True)
class ActorPlan:
    """Pieces of a range by source."""

    days: list[Piece] = field(default_factory=list)
    hours: list[Piece] = field(default_factory=list)
    raw: list[Piece] = field(default_factory=list)

    @property
    def packed(self) -> list[Piece]:
        """All that packed values and deltas answer."""
        return joined([*self.days, *self.hours])


def plan_actors(timeline: Timeline) -> ActorPlan | None:
    """The sources of ``timeline``; None when its buckets are not made of whole hours."""
    if any((moment - EPOCH) % _HOUR for moment in timeline.boundaries[1:-1]):
        return None
    plan = ActorPlan()
    found: dict[str, list[Piece]] = {"rollup_1d": plan.days, "rollup_1h": plan.hours, "raw": plan.raw}
    edges = (timeline.start, *timeline.boundaries[1:-1], timeline.end)
    for low, high in pairwise(edges):
        split_piece((low, high), GRAINS[:2], lambda table, piece: found[table].append(piece))
    plan.days, plan.hours = joined(plan.days), joined(plan.hours)
    return plan if plan.packed else None


@dataclass(slots=True)
class ActorTable:
    """Merged users or sessions of each bucket, and the names that came with unfolded rows."""

    buckets: list[Actors]
    names: dict[int, str]
    rows_read: int

    def whole(self) -> Actors:
        """All buckets together."""
        return self.buckets[0] if len(self.buckets) == 1 else merge_actors(self.buckets)


async def read_actors(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, plan: ActorPlan, timeline: Timeline
) -> ActorTable:
    """Amounts of every user or session in each bucket."""
    base = (list(scope.projects), kind)
    packed = await connection.fetch(statement("read_actor_amounts"), *base, *_edges(plan.days), *_edges(plan.hours))
    loose = await _loose(connection, base, plan)
    names = {row["actor_hash"]: row["actor"] for row in loose}
    buckets = await asyncio.to_thread(_merged, packed, loose, timeline)
    return ActorTable(buckets, names, len(packed) + len(loose))


async def count_actors(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, plan: ActorPlan, timeline: Timeline
) -> tuple[list[int], bool, int]:
    """Different users or sessions in each bucket; whether the counts are estimates; rows read."""
    base = (list(scope.projects), kind)
    pieces = (*_edges(plan.days), *_edges(plan.hours))
    loose = await _loose(connection, base, plan)
    if any(row["spans"] <= 0 for row in loose):
        # Something went and is not folded yet: only the amounts tell whether a user has a span left.
        table = await read_actors(connection, scope, kind, plan, timeline)
        return [int((actors.column("spans") > 0).sum()) for actors in table.buckets], False, table.rows_read
    total = await connection.fetchval(statement("count_actor_ids"), *base, *pieces)
    halvings = max(math.ceil(math.log2(total / MOST_EXACT_IDS)), 0) if total else 0
    # A quarter more than the share expected: hashes are spread evenly, not perfectly so.
    share = 1.0 if halvings == 0 else 1.25 / 2**halvings
    packed = await connection.fetch(statement("read_actor_ids"), *base, *pieces, share)
    counts = await asyncio.to_thread(_counted, packed, loose, timeline, halvings)
    return counts, halvings > 0, len(packed) + len(loose)


async def read_actor_names(
    connection: asyncpg.Connection, scope: RowScope, kind: ActorKind, ids: Sequence[int]
) -> dict[int, str]:
    """The names behind ``ids``."""
    rows = await connection.fetch(statement("read_actor_names"), list(scope.projects), kind, list(ids))
    return {row["actor_hash"]: row["actor"] for row in rows}


async def _loose(connection: asyncpg.Connection, base: tuple[Any, ...], plan: ActorPlan) -> list[asyncpg.Record]:
    rows = list(await connection.fetch(statement("read_pending_actors"), *base, *_edges(plan.packed)))
    if plan.raw:
        rows += await connection.fetch(statement("read_raw_actors"), *base, *_edges(plan.raw))
    return rows


def _edges(pieces: Sequence[Piece]) -> tuple[list[Any], list[Any]]:
    return [low for low, _ in pieces], [high for _, high in pieces]


def _bucket(timeline: Timeline, moment: Any) -> int:
    return bisect.bisect_right(timeline.boundaries, moment, hi=timeline.buckets) - 1


def _merged(packed: list[asyncpg.Record], loose: list[asyncpg.Record], timeline: Timeline) -> list[Actors]:
    parts: list[list[Actors]] = [[] for _ in range(timeline.buckets)]
    for row in packed:
        parts[_bucket(timeline, row["bucket"])].append(unpack(row["ids"], row["amounts"]))
    rows: dict[int, list[asyncpg.Record]] = {}
    for row in loose:
        rows.setdefault(_bucket(timeline, row["moment"]), []).append(row)
    for bucket, found in rows.items():
        parts[bucket].append(actors_of(found))
    return [merge_actors(found) for found in parts]


def _counted(packed: list[asyncpg.Record], loose: list[asyncpg.Record], timeline: Timeline, halvings: int) -> list[int]:
    parts: list[list[Ints]] = [[] for _ in range(timeline.buckets)]
    for row in packed:
        parts[_bucket(timeline, row["bucket"])].append(unpack_ids(row["ids"]))
    for row in loose:
        parts[_bucket(timeline, row["moment"])].append(np.array([row["actor_hash"]], dtype=np.int64))
    counts = []
    for found in parts:
        ids = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found]))
        if halvings:
            ids = ids[: np.searchsorted(ids, _LOWEST + 2 ** (64 - halvings))]
        different = int(np.count_nonzero(ids[1:] != ids[:-1])) + 1 if len(ids) else 0
        counts.append(different << halvings)
    return counts
