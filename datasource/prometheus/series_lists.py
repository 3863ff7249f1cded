"""Which series and labels there are within a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from datasource.prometheus.gauges import GAUGES
from datasource.prometheus.promql.plan import Kept, Read
from datasource.prometheus.promql.syntax import NAME_LABEL, Matcher
from datasource.prometheus.promql.values import Labels, Vector, label
from datasource.prometheus.series_catalog import BOUND_LABELS, FAMILIES, FAMILY_OF
from datasource.prometheus.store_series import EVERY_SERIES, StoreSeries
from server.fairness.off_loop import off_loop

LABELS_WEIGHT: Final = 10
"""Cost of handling the labels of one series, in values."""
_EVERY_SPAN: Final = "llm_spans_total"


async def label_sets(
    source: StoreSeries, selectors: Sequence[tuple[Matcher, ...]], start: int, end: int
) -> list[Labels]:
    """Return the labels of every series that one of ``selectors`` chooses and that counted something within the
    range.
    """
    found: set[Labels] = set()
    for matchers in selectors:
        for name in source.names(matchers):
            counted = await _counted(source, name, matchers, start, end, None)
            found |= await off_loop(len(counted) * LABELS_WEIGHT, partial(_named, counted, name))
    return await off_loop(len(found) * LABELS_WEIGHT, partial(sorted, found))


def _named(counted: Sequence[Labels], name: str) -> set[Labels]:
    return {tuple(sorted((*labels, (NAME_LABEL, name)))) for labels in counted}


async def label_names(source: StoreSeries, selectors: Sequence[tuple[Matcher, ...]], start: int, end: int) -> list[str]:
    """Return the names of labels; without selectors those of all series."""
    if selectors:
        sets = await label_sets(source, selectors, start, end)
        return sorted({name for labels in sets for name, _ in labels})
    own = {name for family in FAMILIES.values() for part in family.parts for name in part.labels}
    spans = await _counted(source, _EVERY_SPAN, (), start, end, None)
    return sorted({NAME_LABEL, "le", *own, *(name for labels in spans for name, _ in labels)})


async def label_values(
    source: StoreSeries, name: str, selectors: Sequence[tuple[Matcher, ...]], start: int, end: int
) -> list[str]:
    """Return the values of one label; without selectors those of all series."""
    if name == NAME_LABEL:
        names = [item for matchers in selectors or [()] for item in source.names(matchers)]
        return sorted(set(names))
    if not selectors:
        own = {value for family in FAMILIES.values() for part in family.parts for value in _own(part.labels, name)}
        if name == "le":
            return sorted(BOUND_LABELS)
        if own:
            return sorted(own)
        holders = [series for series, item in EVERY_SERIES.items() if name in item.labels]
        if not holders:
            return []
        is_of_spans = name in FAMILIES[_EVERY_SPAN].labels
        selectors = [(Matcher(NAME_LABEL, "=", _EVERY_SPAN if is_of_spans else holders[0]),)]
    found: set[str] = set()
    for matchers in selectors:
        for series in source.names(matchers):
            counted = await _counted(source, series, matchers, start, end, name)
            found |= {label(labels, name) for labels in counted}
    return sorted(found - {""})


def _own(labels: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in labels.items() if key == name]


async def _counted(
    source: StoreSeries, name: str, matchers: Sequence[Matcher], start: int, end: int, by: str | None
) -> list[Labels]:
    """Return the labels (or the one label ``by``) of what the series called ``name`` counted within the range."""
    if name in GAUGES:
        return await _gauge_labels(source, name, matchers, end)
    family = FAMILY_OF[name]
    # A native histogram is there where its number of observations is.
    counted = f"{name}_count" if family.type == "histogram" and name == family.name else name
    named = (Matcher(NAME_LABEL, "=", counted), *(item for item in matchers if item.name != NAME_LABEL))
    kept = None if by is None else Kept((by,), False)
    moment = np.array([max(end, start + 1)], dtype=np.int64)
    answer = await source.read(Read("increase", named, moment, max(end - start, 1), kept, steps=moment))
    if not isinstance(answer, Vector):
        raise TypeError("increases are a vector")
    return [labels for row, labels in enumerate(answer.labels) if answer.present[row, 0]]


async def _gauge_labels(source: StoreSeries, name: str, matchers: Sequence[Matcher], end: int) -> list[Labels]:
    """Return the labels that a gauge has at the end of the range."""
    named = (Matcher(NAME_LABEL, "=", name), *(item for item in matchers if item.name != NAME_LABEL))
    moment = np.array([end], dtype=np.int64)
    answer = await source.read(Read("values", named, moment, steps=moment))
    if not isinstance(answer, Vector):
        raise TypeError("gauges are a vector")
    return [
        tuple(pair for pair in labels if pair[0] != NAME_LABEL)
        for row, labels in enumerate(answer.labels)
        if answer.present[row, 0]
    ]
