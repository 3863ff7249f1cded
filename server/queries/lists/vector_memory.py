"""The process's cache of vectors' bits, by project, model and day.

An hour is read again when its marks have changed; see migration 0063. Marks and bits are read in one snapshot, so the
cache never shows more or less than the database. A cached row that has been deleted since is not found when its vector
is read, and row-level security is applied then, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from server.fairness.off_loop import off_loop
from server.queries.filters.time_range import TimeRange
from server.queries.lists.vector_cut import WORD_BYTES, Bits, Words
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import EARLIEST, LATEST, ceil_to, floor_to

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
ROWS_AT_ONCE: Final = 100_000
"""Most rows that one question holds besides those that are cached."""
HOUR_BYTES: Final = 300
_LENGTH_BYTES: Final = 4


class _Mark(NamedTuple):
    """The state of an hour's vectors."""

    vectors: int
    changes: int
    mark: int


Hours = Mapping[int, _Mark]


@dataclass(frozen=True, slots=True)
class _Day:
    hours: Hours
    bits: Bits

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return self.bits.nbytes + HOUR_BYTES * len(self.hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitQuestion:
    """The bits to read: at most the newest ``most`` rows of each project, and only those that were stored at
    ``cut``."""

    window: TimeRange
    model_id: int
    most: int
    cut: datetime | None = None


@dataclass(slots=True)
class _Round:
    """The progress of one question."""

    left: dict[str, int]
    """Number of rows of each project that may still be read."""
    room: int
    """Bytes of the cache that this question may still fill."""
    batch: list[tuple[str, int, Hours]] = field(default_factory=list)
    rows: int = 0


class VectorMemory:
    """The cache of one process."""

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes``: 0 caches nothing. One question fills at most half of it."""
        self._room = most_bytes // 2
        self._days: LRUCache[tuple[str, int, int], _Day] = LRUCache(max(most_bytes, 1), getsizeof=lambda day: day.size)

    async def read(
        self, connection: asyncpg.Connection, scope: RowScope, question: BitQuestion
    ) -> AsyncIterator[list[Bits]]:
        """Yield the requested rows, in parts that fit into memory, the newest days of each project first.

        ``connection`` is in a transaction of ``scope`` with one snapshot.
        """
        start, end = question.window.start or EARLIEST, question.window.end or LATEST
        if start >= end:
            return
        bounds = (
            _microseconds(start),
            _microseconds(end),
            None if question.cut is None else _microseconds(question.cut),
        )
        marks = await self._marks(connection, scope, question.model_id, start, end)
        state = _Round(dict.fromkeys(marks, question.most), self._room)
        for project, days in marks.items():
            for day in sorted(days, reverse=True):
                if state.left[project] <= 0:
                    break
                state.batch.append((project, day, days[day]))
                state.rows += sum(mark.vectors for mark in days[day].values())
                if state.rows >= ROWS_AT_ONCE:
                    yield await self._parts(connection, question.model_id, state, bounds)
        if state.batch:
            yield await self._parts(connection, question.model_id, state, bounds)

    async def _marks(
        self, connection: asyncpg.Connection, scope: RowScope, model_id: int, start: datetime, end: datetime
    ) -> dict[str, dict[int, dict[int, _Mark]]]:
        """Return the marks of the hours of all days that the range touches, by project and day."""
        day = timedelta(days=1)
        records = await connection.fetch(
            statement("vector_marks"), list(scope.projects), model_id, floor_to(start, day), ceil_to(end, day)
        )
        found: dict[str, dict[int, dict[int, _Mark]]] = {}
        for project, hour, *mark in records:
            place = _microseconds(hour)
            found.setdefault(project, {}).setdefault(place // DAY, {})[place] = _Mark(*mark)
        return found

    async def _parts(
        self, connection: asyncpg.Connection, model_id: int, state: _Round, bounds: tuple[int, int, int | None]
    ) -> list[Bits]:
        """Return the rows of the days of the batch, and begin the next one."""
        found = []
        by_project: dict[str, list[tuple[int, Hours]]] = {}
        for project, day, hours in state.batch:
            by_project.setdefault(project, []).append((day, hours))
        state.batch, state.rows = [], 0
        for project, days in by_project.items():
            for whole in await self._read(connection, project, model_id, days, state):
                rows = whole.within(*bounds)
                if len(rows.ts) > state.left[project]:
                    rows = rows.rows(slice(len(rows.ts) - state.left[project], None))
                state.left[project] -= len(rows.ts)
                if len(rows.ts):
                    found.append(rows)
        return found

    async def _read(
        self,
        connection: asyncpg.Connection,
        project: str,
        model_id: int,
        days: Sequence[tuple[int, Hours]],
        state: _Round,
    ) -> list[Bits]:
        """Return the rows of whole days, from the cache if it still holds them."""
        kept = [self._days.get((project, model_id, day)) for day, _ in days]
        missing = [
            hour
            for (_, hours), known in zip(days, kept, strict=True)
            for hour, mark in hours.items()
            if known is None or known.hours.get(hour) != mark
        ]
        new: dict[int, list[Bits]] = {}
        if missing:
            records = await connection.fetch(
                statement("read_vector_bits"), project, model_id, as_moments(np.array(missing))
            )
            rows = sum(record["vectors"] for record in records)
            for hour, bits in await off_loop(rows, partial(_decoded, project, records)):
                new.setdefault(hour // DAY, []).append(bits)
        found = []
        for (day, hours), known in zip(days, kept, strict=True):
            if known is None or known.hours != hours:
                parts = list(new.get(day, ()))
                if known is not None:
                    same = [hour for hour, mark in hours.items() if known.hours.get(hour) == mark]
                    parts.append(known.bits.rows(np.isin(known.bits.ts // HOUR * HOUR, same)))
                known = _Day(hours, _together(project, parts))
                if known.size <= state.room:
                    self._days[project, model_id, day] = known
            state.room -= known.size
            found.append(known.bits)
        return found


def _microseconds(moment: datetime) -> int:
    return (moment - EARLIEST) // timedelta(microseconds=1)


def as_moments(microseconds: NDArray[np.int64]) -> list[datetime]:
    """Convert microseconds since 2000-01-01 UTC to datetimes."""
    naive: list[datetime] = (np.datetime64("2000-01-01", "us") + microseconds.astype("timedelta64[us]")).tolist()
    return [moment.replace(tzinfo=UTC) for moment in naive]


def _decoded(project: str, records: Sequence[Any]) -> list[tuple[int, Bits]]:
    """Return the hours of the answer with their rows."""
    found = []
    for record in records:
        count = record["vectors"]
        if not count:
            continue
        signs, sizes = np.ascontiguousarray(_words(record["bits"], count).T), _words(record["sizes"], count)
        ts, added = (np.frombuffer(record[name], ">i8").astype(np.int64) for name in ("ts", "added_at"))
        span_ids = np.array([span_id.encode() for span_id in record["span_ids"]])
        found.append((_microseconds(record["hour"]), Bits(project, ts, added, span_ids, signs, sizes)))
    return found


def _words(sent: bytes, count: int) -> Words:
    """Return so many bit strings as PostgreSQL sends them, a line each."""
    bits = np.frombuffer(sent, np.uint8).reshape(count, -1)[:, _LENGTH_BYTES:]
    words: Words = np.pad(bits, ((0, 0), (0, -bits.shape[1] % WORD_BYTES))).view(np.uint64)
    return words


def _together(project: str, parts: Sequence[Bits]) -> Bits:
    """Return the rows of all ``parts`` in their order."""
    if not parts:
        none = np.empty(0, np.int64)
        no_words = np.empty((0, 0), np.uint64)
        return Bits(project, none, none, np.empty(0, "S1"), no_words, no_words)
    ts, added, span_ids, sizes = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ts", "added", "span_ids", "sizes")
    )
    signs = np.concatenate([part.signs for part in parts], axis=1)
    order = np.lexsort((span_ids, ts))
    return Bits(project, ts[order], added[order], span_ids[order], np.take(signs, order, axis=1), sizes[order])
