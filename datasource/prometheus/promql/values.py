"""Values of expressions, for all steps of a question at once.

A vector is a table: one row a series, one column a step. Where a series has no sample at a step, ``present`` is false
and the value is meaningless. NaN is a value like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.syntax import NAME_LABEL

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

Labels = tuple[tuple[str, str], ...]
"""Names and values, ordered by name; no value is empty."""


def labels_of(pairs: Iterable[tuple[str, str]]) -> Labels:
    """Return ordered labels without empty values; the last of equal names counts."""
    return tuple(sorted((name, value) for name, value in dict(pairs).items() if value))


def label(labels: Labels, name: str) -> str:
    """Return the value of a label; a missing one is the empty text."""
    return next((value for key, value in labels if key == name), "")


def only(labels: Labels, names: Iterable[str]) -> Labels:
    """Return ``labels`` without all others than ``names``."""
    kept = frozenset(names)
    return tuple(pair for pair in labels if pair[0] in kept)


def without(labels: Labels, names: Iterable[str]) -> Labels:
    """Return ``labels`` without ``names``."""
    dropped = frozenset(names)
    return tuple(pair for pair in labels if pair[0] not in dropped)


def written(labels: Labels) -> str:
    """Return ``labels`` as Prometheus writes them in messages."""
    name = label(labels, NAME_LABEL)
    inner = ", ".join(f'{key}="{value}"' for key, value in labels if key != NAME_LABEL)
    return f"{name}{{{inner}}}" if inner or not name else name


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number a step."""

    values: Floats


@dataclass(frozen=True, slots=True)
class Vector:
    """Series with one value a step. ``stamps``: the times of the samples in ms, where they are not the steps' own."""

    labels: list[Labels]
    values: Floats
    present: Flags
    stamps: Ints | None = None

    def mapped(self, values: Floats) -> Vector:
        """Return the same series with other values and without their name."""
        return nameless(Vector(self.labels, values, self.present))


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one series: times in ms, ascending, and values."""

    labels: Labels
    times: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Windows:
    """A range vector: at step ``i`` the samples with ``ends[i] - range < time <= ends[i]``.

    ``steps``: the moments of evaluation, which ``offset`` and ``@`` move ``ends`` away from.
    """

    series: list[Series]
    ends: Ints
    range: int
    steps: Ints

    def bounds(self, series: Series) -> tuple[Ints, Ints]:
        """Return for each step the first sample and the one after the last."""
        first = np.searchsorted(series.times, self.ends - self.range, side="right")
        last = np.searchsorted(series.times, self.ends, side="right")
        return first, last


@dataclass(frozen=True, slots=True)
class Histograms:
    """Series of native histograms, as bins of one logarithmic scale.

    ``cell[k]`` is ``row × steps + step``; ``counts[k]`` values lie in bin ``bins[k]``, which covers
    ``(growth ** (bin - 1), growth ** bin] × unit`` and is stood for by ``representatives``. Sorted by cell and bin.
    """

    labels: list[Labels]
    present: Flags
    cell: Ints
    bins: Ints
    counts: Floats
    sums: Floats
    growth: float
    unit: float

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self.present.shape[1])


Value = Scalar | Vector | Windows | Histograms | str


def empty_vector(steps: int) -> Vector:
    """Return no series."""
    return Vector([], np.empty((0, steps)), np.empty((0, steps), dtype=bool))


def nameless(vector: Vector) -> Vector:
    """Return the same without metric names, as all that computes new values is. Raises :class:`ExecutionError`."""
    return merged(replace(vector, labels=[without(labels, (NAME_LABEL,)) for labels in vector.labels]))


def merged(vector: Vector) -> Vector:
    """Return the rows of equal labels as one row.

    Raises:
        ExecutionError: two of them have a sample at the same step.
    """
    if len(set(vector.labels)) == len(vector.labels):
        return vector
    rows: dict[Labels, list[int]] = {}
    for row, labels in enumerate(vector.labels):
        rows.setdefault(labels, []).append(row)
    values, present = (
        np.empty((len(rows), vector.values.shape[1])),
        np.empty((len(rows), vector.values.shape[1]), dtype=bool),
    )
    for target, places in enumerate(rows.values()):
        values[target], present[target] = joined_rows(vector, places)
    return Vector(list(rows), values, present)


def joined_rows(vector: Vector, places: Sequence[int]) -> tuple[Floats, Flags]:
    """Return one row of several that are never present together. Raises :class:`ExecutionError` if they are."""
    if len(places) == 1:
        return vector.values[places[0]], vector.present[places[0]]
    flags = vector.present[list(places)]
    if flags.sum(axis=0).max(initial=0) > 1:
        raise ExecutionError("vector cannot contain metrics with the same labelset")
    return np.where(flags, vector.values[list(places)], 0.0).sum(axis=0), np.asarray(flags.any(axis=0))


def grouped(labels: Sequence[Labels]) -> dict[Labels, list[int]]:
    """Row numbers by labels."""
    found: dict[Labels, list[int]] = {}
    for row, item in enumerate(labels):
        found.setdefault(item, []).append(row)
    return found


def size_of(value: Value) -> int:
    """Return the number of numbers in ``value``."""
    match value:
        case Vector() | Histograms():
            return int(value.present.size)
        case Windows():
            return sum(len(series.times) for series in value.series)
        case Scalar():
            return len(value.values)
        case _:
            return 1
