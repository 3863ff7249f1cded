"""The distance beyond which the bits of a vector rule it out, from a sample.

Sorting a hundred thousand rows costs as much as reading them. Rows within a distance that about :data:`CANDIDATES` rows
keep are few, and only they are put in order (docs/decisions/0174-candidates-by-distance.md).
"""

from __future__ import annotations

from typing import Final

import asyncpg
import numpy as np

from server.embedding.vectors import Vector, to_bits
from server.queries.filters.time_range import TimeRange
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import EPOCH

CANDIDATES: Final = 4000
"""About how many rows are compared more closely than by their bits alone."""
EVERYTHING: Final = 1 << 20
"""A distance that no two vectors have."""
PLACES: Final = 20
"""Moments of the range after which rows are looked at for the sample."""
SAMPLED: Final = 50
"""Rows at each of them."""
PLANES: Final = 3
_WIDEST: Final = 2.5


async def choose_distance(
    connection: asyncpg.Connection, scope: RowScope, window: TimeRange, model_id: int, vector: Vector, *, most: int
) -> tuple[int, int]:
    """Return the distance, and about how many rows there are, of which ``most`` of each project will be looked at.

    The sample is of the project that has the most vectors, at moments that are spread evenly over its time.
    """
    extents = await connection.fetch(
        statement("vector_extents"), list(scope.projects), model_id, window.start or EPOCH, window.end
    )
    total = sum(extent["vectors"] for extent in extents)
    if total <= 2 * CANDIDATES:
        return EVERYTHING, total
    largest = max(extents, key=lambda extent: (extent["vectors"], extent["project_id"]))
    first, last = max(largest["first"], window.start or EPOCH), largest["last"]
    places = [first + (last - first) * number / PLACES for number in range(PLACES)]
    distance = await connection.fetchval(
        statement("sample_distance"),
        to_bits(vector),
        largest["project_id"],
        model_id,
        places,
        window.end,
        SAMPLED,
        min(CANDIDATES / sum(min(extent["vectors"], most) for extent in extents), 1.0),
    )
    return (EVERYTHING if distance is None else distance), total


def bit_planes(vector: Vector) -> list[asyncpg.BitString]:
    """Return how much each element of ``vector`` weighs, from 0 to 7, as bits: those worth 1, 2 and 4.

    Where the question's element is near zero, another sign in a stored vector means little. Weighed so, the bits of
    stored vectors order them nearly as well as their vectors would.
    """
    sizes = np.abs(vector)
    levels = np.minimum(sizes / (_WIDEST * sizes.mean()) * (1 << PLANES), (1 << PLANES) - 1).astype(np.uint8)
    return [to_bits((levels >> plane & 1).astype(np.float32)) for plane in range(PLANES)]
