"""The rows whose signs differ least from a question's, each sign by its weight in the question.

Signs alone are coarse: if the question's element is near zero, another sign in a stored vector means little. With
weights, signs order stored vectors nearly as well as the vectors themselves would
(docs/decisions/0174-candidates-by-distance.md, 0193-bits-are-compared-in-memory.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.embedding.vectors import Vector, to_bits

PLANES: Final = 3
"""Bits per weight: the sum of 4,096 weights fits into 16 bits."""
_WIDEST: Final = 2.5
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
    words: Words
    """The signs: a column for each row."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.ts.nbytes + self.added.nbytes + self.span_ids.nbytes + self.words.nbytes

    def rows(self, which: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Bits:
        """Return some of the rows."""
        return Bits(self.project_id, self.ts[which], self.added[which], self.span_ids[which], self.words[:, which])

    def within(self, start: int, end: int, cut: int | None) -> Bits:
        """Return the rows from ``start`` to before ``end`` that were stored at ``cut``."""
        first, last = np.searchsorted(self.ts, (start, end))
        found = self if last - first == len(self.ts) else self.rows(slice(int(first), int(last)))
        if cut is not None and (found.added > cut).any():
            found = found.rows(found.added <= cut)
        return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chosen rows, the closest first."""

    scores: NDArray[np.uint16]
    projects: NDArray[np.object_]
    ts: NDArray[np.int64]
    span_ids: NDArray[np.bytes_]


NOTHING: Final = Chosen(np.empty(0, np.uint16), np.empty(0, object), np.empty(0, np.int64), np.empty(0, "S1"))


class Measure:
    """The difference of rows from a question."""

    def __init__(self, question: Vector) -> None:
        levels = weights(question)
        self._signs = packed(question > 0)[:, None]
        self._planes = [packed((levels >> place & 1).astype(np.uint8))[:, None] for place in range(PLANES)]

    def of(self, words: Words) -> NDArray[np.uint16]:
        """Return the sum of the weights of the signs in which each column of ``words`` differs."""
        differ = words ^ self._signs
        total = np.zeros(words.shape[1], np.uint16)
        for place, plane in enumerate(self._planes):
            total += np.bitwise_count(differ & plane).sum(axis=0, dtype=np.uint16) << np.uint16(place)
        return total

    def choose(self, parts: Sequence[Bits], most: int, earlier: Chosen = NOTHING) -> Chosen:
        """Return the ``most`` rows of ``parts`` and ``earlier`` that differ least; among equal ones, the newest."""
        scores = [self.of(part.words) for part in parts]
        every = np.concatenate([earlier.scores, *scores])
        limit = np.partition(every, most - 1)[most - 1] if len(every) > most else np.iinfo(np.uint16).max
        found = [earlier]
        for part, score in zip(parts, scores, strict=True):
            at = np.flatnonzero(score <= limit)
            projects = np.full(len(at), part.project_id, object)
            found.append(Chosen(score[at], projects, part.ts[at], part.span_ids[at]))
        together = [
            np.concatenate([getattr(some, name) for some in found]) for name in ("scores", "projects", "ts", "span_ids")
        ]
        order = np.lexsort((-together[2], together[0]))[:most]
        return Chosen(*(column[order] for column in together))


def weights(question: Vector) -> NDArray[np.uint8]:
    """Return the weight of each element, from 0 to 7."""
    sizes = np.abs(question)
    levels = np.minimum(sizes / (_WIDEST * sizes.mean()) * (1 << PLANES), (1 << PLANES) - 1)
    found: NDArray[np.uint8] = levels.astype(np.uint8)
    return found


def bit_planes(question: Vector) -> list[asyncpg.BitString]:
    """Return the weights as bits, as the database takes them: those worth 1, 2 and 4."""
    levels = weights(question)
    return [to_bits((levels >> place & 1).astype(np.float32)) for place in range(PLANES)]


def packed(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Return bits as words, the last of them filled with zeros."""
    found = np.packbits(bits)
    filled: Words = np.pad(found, (0, -len(found) % WORD_BYTES)).view(np.uint64)
    return filled
