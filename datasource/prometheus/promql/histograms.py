"""Functions of histograms: classic ones, which are series with a label ``le``, and native ones, which are bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from datasource.prometheus.promql.bounds import check_time
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.syntax import NAME_LABEL
from datasource.prometheus.promql.values import (
    Flags,
    Floats,
    Histograms,
    Ints,
    Labels,
    Vector,
    empty_vector,
    grouped,
    label,
    without,
)

BUCKET_LABEL: Final = "le"
_SMALL_DELTA: Final = 1e-12


def classic_quantile(fraction: Floats, vector: Vector) -> Vector:
    """Return quantiles of classic histograms, by linear interpolation within a bucket."""
    return _classic(vector, lambda bounds, counts, step: _bucket_quantile(float(fraction[step]), bounds, counts))


def classic_fraction(low: Floats, high: Floats, vector: Vector) -> Vector:
    """Return the share of observations between two values, by linear interpolation within a bucket."""
    return _classic(
        vector,
        lambda bounds, counts, step: _bucket_fraction(float(low[step]), float(high[step]), bounds, counts),
    )


def _classic(vector: Vector, compute: Callable[[Floats, Floats, int], float]) -> Vector:
    rows = [(row, _bound(labels)) for row, labels in enumerate(vector.labels)]
    usable = [(row, bound) for row, bound in rows if bound is not None]
    steps = vector.values.shape[1]
    if not usable:
        return empty_vector(steps)
    names = [without(vector.labels[row], (NAME_LABEL, BUCKET_LABEL)) for row, _ in usable]
    members = grouped(names)
    values, present = np.zeros((len(members), steps)), np.zeros((len(members), steps), dtype=bool)
    for target, places in enumerate(members.values()):
        places = sorted(places, key=lambda place: usable[place][1])
        bounds = np.array([usable[place][1] for place in places])
        of_rows = [usable[place][0] for place in places]
        flags, counts = vector.present[of_rows], vector.values[of_rows]
        present[target] = flags.any(axis=0)
        for step in np.flatnonzero(present[target]).tolist():
            check_time()
            there = flags[:, step]
            values[target, step] = compute(*_whole_buckets(bounds[there], counts[there, step]), step)
    return Vector(list(members), values, present)


def _bound(labels: Labels) -> float | None:
    text = label(labels, BUCKET_LABEL)
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _whole_buckets(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Equal bounds as one bucket, and counts that never fall."""
    if len(bounds) > 1 and (np.diff(bounds) == 0).any():
        bounds, places = np.unique(bounds, return_inverse=True)
        counts = np.asarray(np.bincount(places, weights=counts), dtype=np.float64)
    return bounds, np.maximum.accumulate(counts)


def _bucket_quantile(fraction: float, bounds: Floats, counts: Floats) -> float:
    if np.isnan(fraction) or len(bounds) < 2 or not np.isposinf(bounds[-1]):
        return float("nan")
    if fraction < 0 or fraction > 1:
        return float("-inf") if fraction < 0 else float("inf")
    total = counts[-1]
    if not total > 0:
        return float("nan")
    rank = fraction * total
    place = int(np.searchsorted(counts[:-1], rank, side="left"))
    if place == len(counts) - 1:
        return float(bounds[-2])
    if place == 0 and bounds[0] <= 0:
        return float(bounds[0])
    begin, before = (float(bounds[place - 1]), float(counts[place - 1])) if place else (0.0, 0.0)
    inside = float(counts[place]) - before
    return float(begin + (float(bounds[place]) - begin) * ((rank - before) / inside))


def _bucket_fraction(low: float, high: float, bounds: Floats, counts: Floats) -> float:
    if np.isnan(low) or np.isnan(high) or len(bounds) < 2 or not np.isposinf(bounds[-1]) or not counts[-1] > 0:
        return float("nan")
    if low >= high:
        return 0.0
    total = float(counts[-1])
    return (_rank_of(high, bounds, counts) - _rank_of(low, bounds, counts)) / total


def _rank_of(value: float, bounds: Floats, counts: Floats) -> float:
    """Return how many observations are at most ``value``."""
    place = int(np.searchsorted(bounds, value, side="left"))
    if place >= len(bounds) - 1 and np.isposinf(value):
        return float(counts[-1])
    begin, before = (float(bounds[place - 1]), float(counts[place - 1])) if place else (0.0, 0.0)
    if place == len(bounds) - 1:
        return before  # above the last finite bound nothing is known
    if value <= begin:
        return before
    return before + (float(counts[place]) - before) * (value - begin) / (float(bounds[place]) - begin)


def native_quantile(fraction: Floats, native: Histograms) -> Vector:
    """Return quantiles of native histograms: the representative of the bin that holds the rank, as everywhere in the
    product.
    """
    totals = _totals(native)
    cells = np.arange(totals.size)
    running = np.cumsum(native.counts)
    edges = np.searchsorted(native.cell, cells)
    before = np.concatenate(([0.0], running))[edges]
    at = np.tile(fraction, len(native.labels))
    usable = (totals > 0) & (at >= 0) & (at <= 1)
    rank = np.maximum(np.where(usable, at, 0.0) * totals, np.finfo(np.float64).tiny)
    answer = np.full(totals.size, np.nan)
    if len(running):
        # A little less than the rank: sums of floats may end a hair below a whole number.
        place = np.searchsorted(running, (before + rank) * (1 - _SMALL_DELTA), side="left")
        place = np.clip(place, edges, np.maximum(np.searchsorted(native.cell, cells, side="right") - 1, 0))
        place = np.minimum(place, len(running) - 1)
        answer[usable] = _representative(native, native.bins[place[usable]])
    answer[(totals > 0) & (at < 0)] = -np.inf
    answer[(totals > 0) & (at > 1)] = np.inf
    return _per_series(native, answer)


def native_fraction(low: Floats, high: Floats, native: Histograms) -> Vector:
    """Return the share of observations between two values, by interpolation on the logarithmic scale within a bin."""
    lows, highs = np.tile(low, len(native.labels)), np.tile(high, len(native.labels))
    with np.errstate(all="ignore"):
        inside = _log_rank(native, highs) - _log_rank(native, lows)
        answer = np.where(highs > lows, inside, 0.0) / _totals(native)
    return _per_series(native, np.where(np.isnan(lows) | np.isnan(highs), np.nan, answer))


def _log_rank(native: Histograms, limits: Floats) -> Floats:
    """Return for each cell how many observations are at most its limit."""
    positive = np.maximum(limits / native.unit, 1e-300)
    position = np.log(positive) / np.log(native.growth)
    share = np.clip(position[native.cell] - (native.bins - 1), 0.0, 1.0)
    share = np.where(limits[native.cell] <= 0, 0.0, share)
    return np.asarray(np.bincount(native.cell, weights=native.counts * share, minlength=limits.size))


def native_count(native: Histograms) -> Vector:
    """Return the number of observations."""
    return _per_series(native, _totals(native))


def native_sum(native: Histograms) -> Vector:
    """Return the sum of observations."""
    return _per_series(native, native.sums.ravel())


def native_average(native: Histograms) -> Vector:
    """Return the sum divided by the number."""
    return _per_series(native, native.sums.ravel() / _totals(native))


def native_variance(native: Histograms) -> Vector:
    """Return the squared distance of observations from their average; each counts as the representative of its bin."""
    totals = _totals(native)
    middle = native.sums.ravel() / totals
    apart = (_representative(native, native.bins) - middle[native.cell]) ** 2
    return _per_series(native, np.bincount(native.cell, weights=native.counts * apart, minlength=totals.size) / totals)


def add_groups(native: Histograms, groups: Sequence[Labels]) -> Histograms:
    """Return the histograms of each group as one."""
    members = grouped(groups)
    row_of = np.empty(len(groups), dtype=np.int64)
    steps = native.steps
    present: Flags = np.zeros((len(members), steps), dtype=bool)
    sums: Floats = np.zeros((len(members), steps))
    for row, places in enumerate(members.values()):
        row_of[places] = row
        present[row] = native.present[places].any(axis=0)
        sums[row] = native.sums[places].sum(axis=0)
    rows, step = native.cell // steps, native.cell % steps
    cell, bins, counts = added_up(row_of[rows] * steps + step, native.bins, native.counts)
    return Histograms(list(members), present, cell, bins, counts, sums, native.growth, native.unit)


def added_up(cell: Ints, bins: Ints, counts: Floats) -> tuple[Ints, Ints, Floats]:
    """Return entries sorted by cell and bin, with equal ones added up."""
    if not len(cell):
        return cell, bins, counts
    low = int(bins.min())
    width = int(bins.max()) - low + 1
    keys, places = np.unique(cell * width + (bins - low), return_inverse=True)
    return keys // width, keys % width + low, np.asarray(np.bincount(places, weights=counts), dtype=np.float64)


def scaled(native: Histograms, factor: Floats) -> Histograms:
    """Count and sums multiplied by a number for each step."""
    counts = native.counts * factor[native.cell % native.steps]
    sums = native.sums * factor
    return Histograms(native.labels, native.present, native.cell, native.bins, counts, sums, native.growth, native.unit)


def buckets_of(native: Histograms, row: int, step: int) -> tuple[Floats, Floats, Floats]:
    """Lower bounds, upper bounds and counts of the bins of one histogram."""
    cell = row * native.steps + step
    low, high = np.searchsorted(native.cell, (cell, cell + 1))
    bins = native.bins[low:high].astype(np.float64)
    return (
        np.power(native.growth, bins - 1) * native.unit,
        np.power(native.growth, bins) * native.unit,
        native.counts[low:high],
    )


def refuse(function: str) -> ExecutionError:
    """Return the error for what cannot be done with native histograms here."""
    return ExecutionError(
        f"{function} of native histograms is not supported: use histogram_count, histogram_sum, histogram_avg,"
        " histogram_quantile or histogram_fraction"
    )


def _totals(native: Histograms) -> Floats:
    return np.asarray(np.bincount(native.cell, weights=native.counts, minlength=native.present.size))


def _representative(native: Histograms, bins: Ints) -> Floats:
    return np.asarray(2 * np.power(native.growth, bins.astype(np.float64)) / (native.growth + 1) * native.unit)


def _per_series(native: Histograms, cells: Floats) -> Vector:
    labels = [without(item, (NAME_LABEL,)) for item in native.labels]
    return Vector(labels, np.asarray(cells, dtype=np.float64).reshape(native.present.shape), native.present)
