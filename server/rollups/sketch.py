"""Log-histograms: percentiles of positive numbers within 1 %, that can be merged and subtracted.

Bin ``b`` holds the values in ``(GAMMA ** (b - 1), GAMMA ** b]`` with ``GAMMA = 1.01 / 0.99``; its representative is off
by at most 1 % from every value inside. A sketch is a string of entries of four bytes, big-endian: int16 bin, int16
signed count. A bin may occur several times, so concatenating two sketches merges them, and a negative count takes a
value back. Percentiles follow ``percentile_disc`` of PostgreSQL: the smallest value whose rank is at least ``p × n``.

All functions here are pure and hold numpy arrays only; large merges belong in a thread (``asyncio.to_thread``), where
numpy releases the interpreter for most of the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR: Final = 0.01
GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LOG_GAMMA: Final = math.log(GAMMA)
SMALLEST: Final = 0.001
"""The least value: smaller ones count as this (one microsecond, if values are milliseconds)."""
LARGEST: Final = 1e12
"""The greatest value: larger ones count as this."""

PERCENTILES: Final[dict[str, float]] = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""The percentiles that hourly slices have precomputed, by name."""

_ENTRY: Final = np.dtype([("bin", ">i2"), ("count", ">i2")])
_LARGEST_COUNT: Final = 32767
_PART: Final = 1 << 18
"""Bytes of sketches merged at a time; a group counts as at least _PLACE bytes."""
_PLACE: Final = 1 << 11

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def bin_of(value: float) -> int:
    """Return the bin that holds ``value``, by the formula of the SQL function sketch_entry."""
    return math.ceil(math.log(min(max(value, SMALLEST), LARGEST)) / LOG_GAMMA)


def pack(values: Sequence[float], sign: int = 1) -> bytes:
    """Return a sketch of ``values``, one entry each, counted ``sign`` times."""
    entries = np.empty(len(values), dtype=_ENTRY)
    entries["bin"] = [bin_of(value) for value in values]
    entries["count"] = sign
    return entries.tobytes()


@dataclass(frozen=True, slots=True)
class MergedSketches:
    """Sketches merged by group: for each group its occupied bins, ascending, with their counts.

    A count is negative only if just a part of a change was merged. Such groups can be packed but not queried.
    """

    groups: int
    group: Ints
    bins: Ints
    counts: Ints

    def quantiles(self, fractions: Sequence[float]) -> Floats:
        """Return one row per group, one column per fraction; NaN where a group is empty.

        Fraction 0 returns the smallest value and 1 the largest, both within 1 %.
        """
        answer = np.full((self.groups, len(fractions)), np.nan)
        if not len(self.counts):
            return answer
        # Negative counts wait for the rest of a change; leaving them out keeps them from disturbing other groups.
        counts = np.maximum(self.counts, 0)
        running = np.cumsum(counts)
        edges = np.searchsorted(self.group, np.arange(self.groups + 1))
        sums = np.concatenate(([0], running))[edges]
        before, totals = sums[:-1], np.diff(sums)
        occupied = totals > 0
        for column, fraction in enumerate(fractions):
            # round() first: 0.95 * 20 is 19.000000000000004 in floats, and its ceiling would be 20.
            rank = np.maximum(np.ceil(np.round(fraction * totals, 9)), 1).astype(np.int64)
            place = np.searchsorted(running, before + rank, side="left")
            answer[occupied, column] = representative(self.bins[place[occupied]])
        return answer

    def counts_up_to(self, bounds: Sequence[float]) -> Ints:
        """Return a histogram: one row per group, one column per bound plus one for values above the last bound.

        A bin that a bound cuts counts below that bound, so a value may be counted up to 2 % beyond its place, and a
        value that equals a bound counts under that bound.
        """
        table = np.zeros((self.groups, len(bounds) + 1), dtype=np.int64)
        lower_edges = np.power(GAMMA, self.bins.astype(np.float64) - 1)
        column = np.searchsorted(np.asarray(bounds), lower_edges, side="right")
        np.add.at(table, (self.group, column), self.counts)
        return table

    def packed(self) -> list[bytes]:
        """Return each group as a sketch with one entry per bin (more where a count exceeds an int16)."""
        magnitude = np.abs(self.counts)
        parts = -(-magnitude // _LARGEST_COUNT)
        order = np.repeat(np.arange(len(parts)), parts)
        counts = np.full(len(order), _LARGEST_COUNT, dtype=np.int64)
        counts[np.cumsum(parts) - 1] = magnitude - (parts - 1) * _LARGEST_COUNT
        counts *= np.sign(self.counts)[order]
        entries = np.empty(len(order), dtype=_ENTRY)
        entries["bin"] = self.bins[order]
        entries["count"] = counts
        raw = entries.tobytes()
        sizes = np.bincount(self.group[order], minlength=self.groups) * _ENTRY.itemsize
        ends = np.cumsum(sizes)
        return [raw[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]


def representative(bins: Ints) -> Floats:
    """Return the value that represents a bin: at most 1 % away from everything in it."""
    return np.asarray(2 * np.power(GAMMA, bins.astype(np.float64)) / (GAMMA + 1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Entries:
    """Decoded sketches in sequence; ``sizes`` has the number of entries of each."""

    bins: NDArray[np.int32]
    counts: Floats
    sizes: Ints


def decode(sketches: Sequence[bytes]) -> Entries:
    """Decode packed sketches; the result can be passed to :func:`merge_entries` repeatedly."""
    # Reads both halves of an entry at once: as fields of a record they take twice the time.
    words = np.frombuffer(b"".join(sketches), dtype=">i4").astype(np.int32)
    sizes = np.fromiter(map(len, sketches), dtype=np.int64, count=len(sketches)) // _ENTRY.itemsize
    return Entries(words >> 16, ((words << 16) >> 16).astype(np.float64), sizes)


def merge(sketches: Sequence[bytes], groups: Sequence[int] | Ints, group_count: int) -> MergedSketches:
    """Merge ``sketches[i]`` into group ``groups[i]``, for groups numbered from 0.

    Group-bins whose counts come out at zero vanish.
    """
    return merge_entries([(decode(sketches), np.asarray(groups, dtype=np.int64))], group_count)


def merge_in_parts(
    sketches: Sequence[bytes], groups: Sequence[int], part: int = _PART
) -> Iterator[tuple[list[int], MergedSketches]]:
    """Merge ``sketches[i]`` into group ``groups[i]``, for any numbers from 0, about ``part`` bytes at a time.

    Each part holds the numbers of its groups, ascending, and the merged sketches in that order. numpy's arrays for one
    part fit into the processor's cache and into memory that the process already has; arrays for millions of entries at
    once would be pages that the system hands out one by one and takes back.
    """
    present, numbers = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers, weights=np.fromiter(map(len, sketches), dtype=np.int64)) + _PLACE
    begins = np.flatnonzero(np.diff((np.cumsum(sizes) - sizes) // part, prepend=-1))
    for low, high in pairwise((*begins.tolist(), len(present))):
        first, end = np.searchsorted(numbers, (low, high), sorter=order).tolist()
        chosen = order[first:end]
        yield (
            present[low:high].tolist(),
            merge([sketches[place] for place in chosen.tolist()], numbers[chosen] - low, high - low),
        )


def merge_entries(parts: Sequence[tuple[Entries, Ints]], group_count: int) -> MergedSketches:
    """Merge several decoded lists, each with the groups of its sketches; those of group -1 are left out."""
    # Only the bins that occur: the table below has a cell for each of them in each group.
    occurring = [entries.bins for entries, _ in parts if len(entries.bins)]
    low = min((int(bins.min()) for bins in occurring), default=0)
    width = max((int(bins.max()) for bins in occurring), default=0) - low + 1
    keys, weights = [], []
    for entries, groups in parts:
        key = np.repeat(groups * width - low, entries.sizes) + entries.bins
        weight = entries.counts
        if len(groups) and groups.min() < 0:
            kept = key >= 0
            key, weight = key[kept], weight[kept]
        keys.append(key)
        weights.append(weight)
    key, weight = (keys[0], weights[0]) if len(parts) == 1 else (np.concatenate(keys), np.concatenate(weights))
    span = group_count * width
    if span <= max(16 * len(key), 1 << 16):
        summed = np.bincount(key, weights=weight, minlength=span)
        found = np.flatnonzero(summed != 0)  # on booleans: takes an eighth of the time that it takes on floats
        counts = summed[found].astype(np.int64)
    else:
        # Few entries in many groups: sorting them is cheaper than a dense table.
        found, place = np.unique(key, return_inverse=True)
        counts = np.bincount(place, weights=weight).astype(np.int64)
        found, counts = found[counts != 0], counts[counts != 0]
    group = found // width
    return MergedSketches(group_count, group, found - group * width + low, counts)
