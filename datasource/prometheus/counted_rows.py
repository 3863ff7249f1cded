"""Series of what was counted: one row per group and part of a metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datasource.prometheus.promql.syntax import Matcher
from datasource.prometheus.promql.values import Flags, Floats, Labels, Vector, empty_vector, labels_of
from datasource.prometheus.series_catalog import BOUND_LABELS, Part, SeriesFamily
from server.queries.metrics.window_sums import WindowCounts


def counted_rows(
    counted: WindowCounts, family: SeriesFamily, suffix: str, labels: Sequence[str], matchers: Sequence[Matcher]
) -> Vector:
    """Return one row per group and part."""
    rows: list[Labels] = []
    values: list[Floats] = []
    flags: list[Flags] = []

    def add(extra: Mapping[str, str], table: Floats) -> None:
        if not all(accepts(matchers, name, value) for name, value in extra.items()):
            return
        for row, key in enumerate(counted.groups):
            own = labels_of((*zip(labels, key, strict=True), *extra.items()))
            if all(item.accepts(dict(own).get(item.name, "")) for item in matchers if item.name in labels):
                rows.append(own)
                values.append(table[row])
                flags.append(counted.present[row])

    if counted.buckets is not None:
        for place, bound in enumerate(BOUND_LABELS):
            add({"le": bound}, counted.buckets[:, :, place].astype(np.float64))
    else:
        for part in _parts(family, suffix):
            add(part.labels, counted.counters[part.counter] / part.unit)
    if not rows:
        return empty_vector(counted.present.shape[1])
    return Vector(rows, np.array(values), np.array(flags))


def _parts(family: SeriesFamily, suffix: str) -> tuple[Part, ...]:
    if family.type != "histogram":
        return family.parts
    return (family.parts[0],) if suffix == "_sum" else (family.parts[1],)


def accepts(matchers: Iterable[Matcher], name: str, value: str) -> bool:
    """Return whether the matchers on the label ``name`` take ``value``."""
    return all(item.accepts(value) for item in matchers if item.name == name)
