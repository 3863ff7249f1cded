"""How much of a range a search by meaning covers: its spans, and those with vectors, from counters of both.

Rows are never counted one by one, except vectors of the two hours that a range cuts: counting a hundred thousand takes
as long as the search itself. A search that has looked at every vector of the range knows how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from server.queries.filters.time_range import TimeRange
from server.queries.metrics.span_total import count_spans, stored_window
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import ceil_to, floor_to

HOUR: Final = timedelta(hours=1)


async def count_rows(reads: Database, scope: RowScope, window: TimeRange) -> int:
    """Return how many spans are within ``window``. Raises the database's errors."""
    async with reads.read(scope) as connection:
        return await count_spans(connection, scope, window)


async def count_vectors(reads: Database, scope: RowScope, window: TimeRange, model_ids: Sequence[int]) -> int:
    """Return how many of these spans have a vector of the models: each span has at most one. Raises the database's
    errors.
    """
    async with reads.read(scope) as connection:
        (state,) = await connection.fetch(statement("read_rollup_state"))
        start, end = stored_window(window, state["raw_since"])
        first, last = ceil_to(start, HOUR), floor_to(end, HOUR)
        if first > last:
            first = last = end
        records = await connection.fetch(
            statement("count_vectors"), list(scope.projects), list(model_ids), start, first, last, end
        )
    return sum(max(record["vectors"], 0) for record in records)
