"""The question of counters over windows, which may overlap, have gaps and begin anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.queries.filters.filter_tree import Filter
from server.queries.metrics.metric_catalog import Dimension, Family
from server.queries.metrics.metric_formula import Needs

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterQuestion:
    """The requested counts within each of the windows ``[lows[i], highs[i])``, in ms since 1970, for every group.

    ``presence`` is the counter that decides whether a group exists. ``sketch`` names the sketch of values:
    ``histogram`` requests counts up to the catalog's ``HISTOGRAM_BOUNDS``, ``fraction`` one percentile, ``entries``
    the bins. ``lingers``: groups with nothing in a window, but something in the day before it, are returned with zero.
    """

    family: Family
    presence: str
    counters: tuple[str, ...]
    lows: Ints
    highs: Ints
    dimensions: tuple[Dimension, ...] = ()
    filter: Filter | None = None
    sketch: str | None = None
    histogram: bool = False
    fraction: float | None = None
    entries: bool = False
    lingers: bool = True

    def needs(self, *, of_percentile: bool) -> Needs:
        """Return the parts to read; percentiles are read precomputed if every window is one cell."""
        counters = tuple(dict.fromkeys((self.presence, *self.counters)))
        fractions: dict[str, tuple[float, ...]] = {}
        if of_percentile and self.sketch and self.fraction:
            fractions[self.sketch] = (self.fraction,)
        histograms = frozenset({self.sketch} if self.sketch and not of_percentile else ())
        return Needs(self.family, self.presence, counters, fractions, histograms, ())
