"""Counts that several reads of one expression share: ``errors / calls`` goes through the store once.

Two counters over the same spans, labels and windows differ in what they add up alone, so that the first read of them
fetches both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasource.prometheus.promql.plan import Read, same_but_for_the_name
from datasource.prometheus.promql.syntax import Matcher
from datasource.prometheus.series_catalog import FAMILY_OF, SeriesFamily
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.window_sums import WindowCounts
from server.storage.database import Database
from server.storage.row_scope import RowScope


@dataclass(slots=True)
class SharedCounts:
    """The reads of one expression, and what was counted for them so far."""

    reads: Sequence[Read] = ()
    _known: dict[Any, WindowCounts] = field(default_factory=dict)

    def families_beside(
        self, question: Read, family: SeriesFamily, names: Callable[[Sequence[Matcher]], Iterable[str]]
    ) -> Iterator[SeriesFamily]:
        """Yield the families that reads like ``question`` ask for and that count the same spans as ``family``.

        ``names`` returns the series that matchers choose.
        """
        for read in self.reads:
            if same_but_for_the_name(read, question):
                for name in names(read.matchers):
                    other = FAMILY_OF.get(name)
                    if other and (other.family, other.presence) == (family.family, family.presence):
                        yield other

    async def read(self, database: Database, scope: RowScope, asked: CounterQuestion) -> WindowCounts:
        """Return the counts of ``asked``, or those that were read before and have at least its counters.

        Raises what :func:`read_windows` raises.
        """
        key = _key(scope, asked)
        found = self._known.get(key)
        if found is None or not set(asked.counters) <= found.counters.keys():
            found = self._known[key] = await read_windows(database, scope, asked)
        return found


def _key(scope: RowScope, asked: CounterQuestion) -> Any:
    dimensions = tuple(dimension.name for dimension in asked.dimensions)
    windows = (asked.lows.tobytes(), asked.highs.tobytes())
    return scope, asked.family, asked.presence, dimensions, repr(asked.filter), windows, asked.lingers
