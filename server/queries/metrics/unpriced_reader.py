"""Model calls with tokens but without a price, by minute: the calls that are missing in sums of money."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

Ints = NDArray[np.int64]
Key = tuple[str, str, str]
LONGEST_UNPRICED_MS: Final = 31 * 86_400_000
"""Longest distance between the first and the last moment: there is no rollup, so spans are counted."""


async def read_unpriced(database: Database, scope: RowScope, times: Ints, width: int) -> dict[Key, Ints]:
    """Return, by project, provider and model, the number of such calls that began in the ``width`` ms before each of
    ``times``.

    Calls are counted by whole minutes. The spans are found through an index that holds nothing else.
    """
    low, high = (datetime.fromtimestamp(edge / 1000, UTC) for edge in (int(times.min()) - width, int(times.max())))
    minutes: dict[Key, list[tuple[int, int]]] = {}
    async with database.read(scope) as connection:
        for project in scope.projects:
            for row in await connection.fetch(statement("count_unpriced_calls"), project, low, high):
                key = (project, row["provider"] or "", row["model"] or "")
                minutes.setdefault(key, []).append((row["minute_ms"], row["calls"]))
    found = {}
    for key, counted in minutes.items():
        starts = np.array([start for start, _ in counted], dtype=np.int64)
        sums = np.concatenate(([0], np.cumsum([calls for _, calls in counted])))
        found[key] = sums[np.searchsorted(starts, times)] - sums[np.searchsorted(starts, times - width)]
    return found
