"""Sketches of the deltas that were taken, merged for every grain and slice that they are added to.

Sums are added in SQL, where money is exact. Sketches are merged here, at a tenth of the cost: they are fetched once and
merged once for each grain and slice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.rollups import sketch
from server.rollups.counters import SKETCHES, counter_statement
from server.rollups.sketch import PERCENTILES
from server.storage.statements import statement

ALL: Final = "all"
"""The dimension of slice_1h that holds the total."""
SLICED: Final = (
    "provider", "model", "operation_type", "service_name", "environment", "status_code", "error_type",
    "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version",
)  # fmt: skip
_FRACTIONS: Final = tuple(PERCENTILES.values())
_ORIGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)

_DIM_IDS: Final = 2**31

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Split:
    """One way to group combinations of dimensions. Groups are numbered from ``first``; ``codes`` has the group of each
    combination.

    ``groups``: the pairs of hour and group that occur. ``owners``: the pair to which each taken row belongs.
    """

    first: int
    values: int
    codes: tuple[int, ...]
    groups: Ints
    owners: Ints


@dataclass(frozen=True, slots=True)
class TakenSketches:
    """One row for each (bucket, combination of dimensions) of taken_delta."""

    buckets: list[datetime]
    dim_ids: Ints
    entries: tuple[sketch.Entries, ...]
    dimensions: dict[int, asyncpg.Record]

    @classmethod
    async def fetch(cls, connection: asyncpg.Connection, project: str) -> TakenSketches:
        """Read the rows of taken_delta."""
        rows = await connection.fetch(counter_statement("sketches_of_taken"))
        known = await connection.fetch(statement("dimensions_of_taken"), project)
        return cls(
            [row["bucket"] for row in rows],
            np.array([row["dim_id"] for row in rows], dtype=np.int64),
            tuple(sketch.decode([row[kind.column] for row in rows]) for kind in SKETCHES.values()),
            {row["dim_id"]: row for row in known},
        )

    async def by_grain(
        self, connection: asyncpg.Connection, reading: str, project: str, width: timedelta, since: datetime
    ) -> tuple[Any, ...] | None:
        """Return buckets, dim_ids and merged sketches for a grain, or None if no taken row is as late as ``since``.

        ``reading``: the statement that returns the sketches stored so far.
        """
        chosen = np.array([bucket >= since for bucket in self.buckets], dtype=bool)
        if not chosen.any():
            return None
        floors = _floored(self.buckets, width)
        keys, owners = np.unique((floors * _DIM_IDS + self.dim_ids)[chosen], return_inverse=True)
        buckets = [_ORIGIN + number * width for number in (keys // _DIM_IDS).tolist()]
        dim_ids = (keys % _DIM_IDS).tolist()
        groups = np.full(len(chosen), -1, dtype=np.int64)
        groups[chosen] = owners
        present = await connection.fetch(reading, project, buckets, dim_ids)
        merged = await asyncio.to_thread(self._merged, groups, len(dim_ids), present)
        return (buckets, dim_ids, *(sketches.packed() for sketches in merged))

    async def by_slice(self, connection: asyncpg.Connection, project: str) -> tuple[Any, ...]:
        """Return the arguments of add_to_slices after the project id:

        the group of each combination of dimensions; then, for each slice, its hour, group and name, its merged sketch
        and the percentiles of that sketch.

        Dimensions that split the combinations alike (one that is never set, and the total) share their groups, so that
        they are summed and merged once.
        """
        hours, hour_of = np.unique(_floored(self.buckets, _HOUR), return_inverse=True)
        known, dimension_of = np.unique(self.dim_ids, return_inverse=True)
        rows = [self.dimensions[number] for number in known.tolist()]
        splits: dict[tuple[int, ...], _Split] = {}
        keys: list[tuple[datetime, int, str, str, bool]] = []
        chosen: list[_Split] = []
        for name in (ALL, *SLICED):
            values: dict[tuple[str, bool], int] = {}
            for row in rows:
                values.setdefault(("" if name == ALL else row[name], row["is_generation"]), len(values))
            codes = tuple(values["" if name == ALL else row[name], row["is_generation"]] for row in rows)
            split = splits.get(codes)
            if split is None:
                first = sum(split.values for split in splits.values())
                wide = hour_of * len(values) + np.array(codes, dtype=np.int64)[dimension_of]
                split = splits[codes] = _Split(first, len(values), codes, *np.unique(wide, return_inverse=True))
            names = list(values)
            for place in split.groups.tolist():
                hour, code = divmod(place, split.values)
                keys.append((_ORIGIN + int(hours[hour]) * _HOUR, split.first + code, name, *names[code]))
            chosen.append(split)
        moments, numbers, *named = (list(column) for column in zip(*keys, strict=True))
        present = await connection.fetch(counter_statement("sketches_of_slices"), project, moments, *named)
        merged = await asyncio.to_thread(self._merged_slices, chosen, present)
        return (
            known.tolist() * len(splits),
            [split.first + code for split in splits.values() for code in split.codes],
            moments,
            numbers,
            *named,
            *(packed for packed, _ in merged),
            *(quantiles for _, quantiles in merged),
        )

    def _merged_slices(
        self, splits: Sequence[_Split], present: Sequence[asyncpg.Record]
    ) -> list[tuple[list[bytes], list[str]]]:
        answer: list[tuple[list[bytes], list[str]]] = [([], []) for _ in SKETCHES]
        starts = np.cumsum([0, *(len(split.groups) for split in splits)])
        there: list[list[asyncpg.Record]] = [[] for _ in splits]
        for row in present:
            there[int(np.searchsorted(starts, row["place"], side="left")) - 1].append(row)
        known: dict[int, list[tuple[list[bytes], list[str]]]] = {}
        for split, rows, start in zip(splits, there, starts.tolist(), strict=False):
            found = None if rows else known.get(split.first)
            if found is None:
                found = [
                    (merged.packed(), [_array_literal(line) for line in merged.quantiles(_FRACTIONS).tolist()])
                    for merged in self._merged(split.owners, len(split.groups), rows, start)
                ]
                if not rows:
                    known[split.first] = found
            for (packed, quantiles), (more_packed, more_quantiles) in zip(answer, found, strict=True):
                packed += more_packed
                quantiles += more_quantiles
        return answer

    def _merged(
        self, groups: Ints, count: int, present: Sequence[asyncpg.Record], start: int = 0
    ) -> list[sketch.MergedSketches]:
        """Merge taken sketches (group -1: left out) with stored ones, whose ``place`` counts from ``start``."""
        places = np.array([row["place"] - start - 1 for row in present], dtype=np.int64)
        merged = []
        for kind, entries in zip(SKETCHES.values(), self.entries, strict=True):
            found = sketch.decode([row[kind.column] for row in present])
            merged.append(sketch.merge_entries([(entries, groups), (found, places)], count))
        return merged


def _floored(moments: Sequence[datetime], width: timedelta) -> Ints:
    """Return the number of the stretch of ``width`` that holds each moment, counted from 2000."""
    number: dict[datetime, int] = {}
    for moment in moments:
        if moment not in number:
            number[moment] = (moment - _ORIGIN) // width
    return np.array([number[moment] for moment in moments], dtype=np.int64)


def _array_literal(values: Sequence[float]) -> str:
    return "{}" if values[0] != values[0] else "{" + ",".join(map(repr, values)) + "}"
