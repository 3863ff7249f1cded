"""The rows that are nearest to a question by what is kept of their vectors: the sign and the size of each element.

There are two steps (docs/decisions/0185-two-bits-an-element.md). The signs of all rows are compared, each by its weight
in the question: if the question's element is near zero, another sign in a stored vector means little. The best of these
rows are ordered by signs and sizes, with finer weights. They stand for a vector of which each element is one of four
numbers, and order stored vectors nearly as well as the vectors themselves would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.embedding.vectors import Vector, to_bits

PLANES: Final = 3
"""Bits of a weight in the first step."""
_WIDEST: Final = 2.5
FINE_PLANES: Final = 4
"""Bits of a weight in the second step: the sum of 4,096 weights fits into 16 bits."""
_SMALL_SIZE, _LARGE_SIZE = 0.4528, 1.51
"""The numbers that stand for small and large elements of normally distributed ones with the mean square 1."""
_LIKENESS, _LIKENESS_OF_SIGNS = 0.94, 0.798
"""Cosine of such a vector and the one that its bits stand for, with sizes and without."""
WORD_BYTES: Final = 8

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bits:
    """Rows of one project that have vectors, in the order of ``ts`` and ``span_ids``.

    Moments are microseconds since 2000, as PostgreSQL has them.
    """

    project_id: str
    ts: NDArray[np.int64]
    added: NDArray[np.int64]
    span_ids: NDArray[np.bytes_]
    signs: Words
    """A column for each row, since the same word of all of them is compared at once."""
    sizes: Words
    """A line for each row, since few of them are read; zeros where the sizes are not known."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(column.nbytes for column in (self.ts, self.added, self.span_ids, self.signs, self.sizes))

    def rows(self, which: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Bits:
        """Return some of the rows."""
        return Bits(
            self.project_id,
            self.ts[which],
            self.added[which],
            self.span_ids[which],
            self.signs[:, which],
            self.sizes[which],
        )

    def within(self, start: int, end: int, cut: int | None) -> Bits:
        """Return the rows from ``start`` to before ``end`` that were stored at ``cut``."""
        first, last = np.searchsorted(self.ts, (start, end))
        found = self if last - first == len(self.ts) else self.rows(slice(int(first), int(last)))
        if cut is not None and (found.added > cut).any():
            found = found.rows(found.added <= cut)
        return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chosen rows, the closest first. ``signs`` and ``sizes`` have a column for each."""

    scores: NDArray[np.uint16]
    projects: NDArray[np.object_]
    ts: NDArray[np.int64]
    span_ids: NDArray[np.bytes_]
    signs: Words
    sizes: Words

    def rows(self, which: NDArray[np.int64]) -> Chosen:
        """Return some of the rows, in another order."""
        return Chosen(*(getattr(self, column.name)[..., which] for column in fields(self)))


def _together(parts: Sequence[Chosen]) -> Chosen:
    filled = [part for part in parts if len(part.ts)]
    columns = ([getattr(part, column.name) for part in filled] for column in fields(Chosen))
    return Chosen(*(np.concatenate(column, axis=-1) for column in columns)) if filled else NOTHING


_NO_WORDS: Final = np.empty((0, 0), np.uint64)
NOTHING: Final = Chosen(
    np.empty(0, np.uint16), np.empty(0, object), np.empty(0, np.int64), np.empty(0, "S1"), _NO_WORDS, _NO_WORDS
)


class Measure:
    """The difference of rows from a question."""

    def __init__(self, question: Vector) -> None:
        fine = weights(question, FINE_PLANES)
        self._signs = packed(question > 0)[:, None]
        self._planes = _planes(weights(question), PLANES)
        self._fine_planes = _planes(fine, FINE_PLANES)
        self._weight = float(fine.sum())
        self._dimensions = len(question)

    def of(self, signs: Words) -> NDArray[np.uint16]:
        """Return the sum of the weights of the signs in which each column of ``signs`` differs."""
        return _sums(signs ^ self._signs, self._planes)

    def likeness(self, chosen: Chosen) -> NDArray[np.float64]:
        """Return estimates of the cosine of each of the rows and the question, all times the same number."""
        differ, large = chosen.signs ^ self._signs, chosen.sizes
        of_all = self._weight - 2.0 * _sums(differ, self._fine_planes)
        of_large = _sums(large, self._fine_planes) - 2.0 * _sums(large & differ, self._fine_planes)
        product = _SMALL_SIZE * of_all + (_LARGE_SIZE - _SMALL_SIZE) * of_large
        count = np.bitwise_count(large).sum(axis=0, dtype=np.int64)
        length = np.sqrt((self._dimensions - count) * _SMALL_SIZE**2 + count * _LARGE_SIZE**2)
        estimate: NDArray[np.float64] = product / length / np.where(count > 0, _LIKENESS, _LIKENESS_OF_SIGNS)
        return estimate

    def ordered(self, chosen: Chosen) -> Chosen:
        """Return the rows, the nearest by :meth:`likeness` first, of equal ones the newest."""
        return chosen.rows(np.lexsort((-chosen.ts, -self.likeness(chosen)))) if len(chosen.ts) else chosen

    def choose(self, parts: Sequence[Bits], most: int, earlier: Chosen = NOTHING) -> Chosen:
        """Return the ``most`` rows of ``parts`` and ``earlier`` that differ least; among equal ones, the newest."""
        scores = [self.of(part.signs) for part in parts]
        every = np.concatenate([earlier.scores, *scores])
        limit = np.partition(every, most - 1)[most - 1] if len(every) > most else np.iinfo(np.uint16).max
        found = [earlier]
        for part, score in zip(parts, scores, strict=True):
            at = np.flatnonzero(score <= limit)
            projects = np.full(len(at), part.project_id, object)
            found.append(
                Chosen(score[at], projects, part.ts[at], part.span_ids[at], part.signs[:, at], part.sizes[at].T)
            )
        together = _together(found)
        return together.rows(np.lexsort((-together.ts, together.scores))[:most])


def weights(question: Vector, planes: int = PLANES) -> NDArray[np.uint8]:
    """Return the weight of each element, in ``planes`` bits."""
    sizes = np.abs(question)
    levels = np.minimum(sizes / (_WIDEST * sizes.mean()) * (1 << planes), (1 << planes) - 1)
    found: NDArray[np.uint8] = levels.astype(np.uint8)
    return found


def _planes(levels: NDArray[np.uint8], planes: int) -> list[Words]:
    return [packed((levels >> place & 1).astype(np.uint8))[:, None] for place in range(planes)]


def _sums(words: Words, planes: Sequence[Words]) -> NDArray[np.uint16]:
    """Return the sum of the weights of the bits of each column; ``planes`` have those worth 1, 2, 4 and so on."""
    total = np.zeros(words.shape[1], np.uint16)
    for place, plane in enumerate(planes):
        total += np.bitwise_count(words & plane).sum(axis=0, dtype=np.uint16) << np.uint16(place)
    return total


def bit_planes(question: Vector) -> list[asyncpg.BitString]:
    """Return the weights as bits, as the database takes them: those worth 1, 2 and 4."""
    levels = weights(question)
    return [to_bits((levels >> place & 1).astype(np.float32)) for place in range(PLANES)]


def packed(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Return bits as words, the last of them filled with zeros."""
    found = np.packbits(bits)
    filled: Words = np.pad(found, (0, -len(found) % WORD_BYTES)).view(np.uint64)
    return filled
