"""The number of different users or sessions that were active within a sliding window, at many moments at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.queries.metrics.metric_catalog import ActorKind
from server.queries.metrics.raw_sql import raw_actors_statement
from server.storage.database import Database
from server.storage.row_scope import RowScope

Ints = NDArray[np.int64]
LONGEST_ACTIVE_MS: Final = 86_400_000
"""Longest distance between the first and the last moment: distinct counts do not add up, so spans are read."""


async def read_active(database: Database, scope: RowScope, kind: ActorKind, times: Ints, width: int) -> Ints:
    """Return, for each of ``times`` (ms), the number of actors with a span in the ``width`` ms before it.

    Every edge of a window cuts the range into buckets. An actor seen in a bucket is active at all moments whose window
    contains the whole bucket. These moments are a run, which is joined with the actor's previous run.
    """
    moments = np.unique(times)
    edges = np.unique(np.concatenate((moments - width, moments)))
    boundaries = [datetime.fromtimestamp(edge / 1000, UTC) for edge in edges.tolist()]
    sql, values = raw_actors_statement(scope, kind, [(boundaries[0], boundaries[-1])], boundaries)
    async with database.read(scope) as connection:
        rows = await connection.fetch(sql, *values)
    changes = np.zeros(len(moments) + 1, dtype=np.int64)
    if rows:
        actors = np.array([row["actor_hash"] for row in rows], dtype=np.int64)
        buckets = np.array([row["b"] for row in rows], dtype=np.int64)
        order = np.lexsort((buckets, actors))
        actors, buckets = actors[order], buckets[order]
        first = np.searchsorted(moments, edges[buckets + 1], side="left")
        last = np.searchsorted(moments, edges[buckets] + width, side="right")
        continues = np.concatenate(([False], actors[1:] == actors[:-1]))
        first = np.where(continues, np.maximum(first, np.concatenate(([0], last[:-1]))), first)
        counted = first < last
        np.add.at(changes, first[counted], 1)
        np.add.at(changes, last[counted], -1)
    return np.cumsum(changes)[np.searchsorted(moments, times)]
