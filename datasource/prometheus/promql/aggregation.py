"""Aggregations: groups of series to one series each, or to some of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from datasource.prometheus.promql.bounds import check_samples, check_time
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.syntax import NAME_LABEL, is_label_name
from datasource.prometheus.promql.values import (
    Flags,
    Floats,
    Labels,
    Vector,
    empty_vector,
    grouped,
    labels_of,
    only,
    without,
)


def group_labels(labels: Sequence[Labels], by: Sequence[str], *, is_without: bool) -> list[Labels]:
    """Return the labels of the group that each series belongs to."""
    if is_without:
        dropped = (*by, NAME_LABEL)
        return [without(item, dropped) for item in labels]
    return [only(item, by) for item in labels]


def quantile(fraction: float, values: Floats) -> float:
    """Return the quantile with linear interpolation between ranks; infinite outside of 0 to 1."""
    if np.isnan(fraction) or not len(values):
        return float("nan")
    if fraction < 0 or fraction > 1:
        return float("-inf") if fraction < 0 else float("inf")
    ordered = np.sort(np.where(np.isnan(values), -np.inf, values))
    rank = fraction * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    weight = rank - low
    return float(ordered[low] * (1 - weight) + ordered[high] * weight) if weight else float(ordered[low])


Reducer = Callable[[Floats, Flags, Floats], Floats]
"""Values and presence of the series of one group, and the parameter at each step."""


def _sum(values: Floats, present: Flags, _: Floats) -> Floats:
    return np.asarray(np.where(present, values, 0.0).sum(axis=0), dtype=np.float64)


def _count(_: Floats, present: Flags, __: Floats) -> Floats:
    return np.asarray(present.sum(axis=0), dtype=np.float64)


def _avg(values: Floats, present: Flags, param: Floats) -> Floats:
    return _sum(values, present, param) / np.maximum(_count(values, present, param), 1)


def _variance(values: Floats, present: Flags, param: Floats) -> Floats:
    apart = np.where(present, values - _avg(values, present, param), 0.0)
    return np.asarray((apart**2).sum(axis=0) / np.maximum(present.sum(axis=0), 1), dtype=np.float64)


def _least(values: Floats, present: Flags, _: Floats) -> Floats:
    return np.asarray(np.fmin.reduce(np.where(present, values, np.nan), axis=0), dtype=np.float64)


def _most(values: Floats, present: Flags, _: Floats) -> Floats:
    return np.asarray(np.fmax.reduce(np.where(present, values, np.nan), axis=0), dtype=np.float64)


def _quantile(values: Floats, present: Flags, param: Floats) -> Floats:
    found = np.empty(len(param))
    for step, at in enumerate(param.tolist()):
        check_time()
        found[step] = quantile(at, values[present[:, step], step])
    return found


REDUCERS: Final[dict[str, Reducer]] = {
    "sum": _sum,
    "avg": _avg,
    "min": _least,
    "max": _most,
    "count": _count,
    "group": lambda values, present, param: np.ones(values.shape[1]),
    "stddev": lambda values, present, param: np.sqrt(_variance(values, present, param)),
    "stdvar": _variance,
    "quantile": _quantile,
}
CHOOSERS: Final = frozenset({"topk", "bottomk"})
AGGREGATIONS: Final = (*REDUCERS, *sorted(CHOOSERS), "count_values")


def reduce_groups(op: str, vector: Vector, groups: Sequence[Labels], param: Floats) -> Vector:
    """Return one series per group."""
    steps = vector.values.shape[1]
    members = grouped(groups)
    if not members:
        return empty_vector(steps)
    values = np.empty((len(members), steps))
    present = np.empty((len(members), steps), dtype=bool)
    compute = REDUCERS[op]
    for row, places in enumerate(members.values()):
        check_time()
        flags = vector.present[places]
        values[row] = compute(vector.values[places], flags, param)
        present[row] = flags.any(axis=0)
    return Vector(list(members), values, present)


def choose(op: str, vector: Vector, groups: Sequence[Labels], param: Floats) -> Vector:
    """Return the largest or smallest series of each group, ``param`` of them at each step; NaN comes last.

    Rows come in order of their last value, so that an instant query lists the best first.
    """
    if np.isnan(param).any():
        raise ExecutionError("Parameter value is NaN")
    wanted = np.clip(param, 0, len(vector.labels) or 1).astype(np.int64)
    present = np.zeros_like(vector.present)
    order: list[int] = []
    for places in grouped(groups).values():
        rank = -vector.values[places] if op == "topk" else vector.values[places]
        rank = np.where(np.isnan(rank), np.inf, rank)
        # Absent series last of all: after infinite ones, which may be chosen.
        by_rank = np.lexsort((rank, ~vector.present[places]), axis=0)
        position = np.argsort(by_rank, axis=0)
        present[places] = vector.present[places] & (position < wanted)
        order += [places[row] for row in by_rank[:, -1].tolist()]
    kept = [row for row in order if present[row].any()]
    return Vector([vector.labels[row] for row in kept], vector.values[kept], present[kept])


def count_values(name: str, vector: Vector, groups: Sequence[Labels]) -> Vector:
    """Count the series of each group by value; the value becomes the label ``name``."""
    if not is_label_name(name):
        raise ExecutionError(f'invalid label name "{name}"')
    steps = vector.values.shape[1]
    counts: dict[Labels, Floats] = {}
    for row, group in enumerate(groups):
        check_time()
        for step in np.flatnonzero(vector.present[row]).tolist():
            labels = labels_of((*group, (name, format_number(vector.values[row, step]))))
            if labels not in counts:
                check_samples(len(counts) + 1, steps)
                counts[labels] = np.zeros(steps)
            counts[labels][step] += 1
    if not counts:
        return empty_vector(steps)
    values = np.array(list(counts.values()))
    return Vector(list(counts), values, values > 0)
