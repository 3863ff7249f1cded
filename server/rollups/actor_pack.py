"""Users and sessions of a stretch of time as two packed values.

``ids``: 64-bit hashes of names (PostgreSQL's hashtextextended), sorted, little-endian. ``amounts``: one row
of six int64 for each id, stored column by column: spans, calls, errors, total tokens, whole US dollars and
the rest in 1e-10 US dollars. Money in two parts adds up exactly and cannot overflow. Two of a million names
share a hash with a chance of 3 in 100 million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

COLUMNS: Final = ("spans", "calls", "errors", "total_tokens", "cost_whole", "cost_rest")
COST_UNITS: Final = 10_000_000_000

Ints = NDArray[np.int64]
_WIRE: Final = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class Actors:
    """Sorted, distinct ``ids`` and their ``amounts``: one row per id, columns in the order of :data:`COLUMNS`."""

    ids: Ints
    amounts: Ints

    def packed(self) -> tuple[bytes, bytes]:
        """Return ``ids`` and ``amounts`` as stored."""
        return self.ids.astype(_WIRE).tobytes(), np.ascontiguousarray(self.amounts.T).astype(_WIRE).tobytes()

    def column(self, name: str) -> Ints:
        """Return one amount of every id."""
        return np.asarray(self.amounts[:, COLUMNS.index(name)])

    def cost(self, place: int) -> Decimal:
        """Return the money of one id in US dollars."""
        whole, rest = self.amounts[place, -2:].tolist()
        return Decimal(whole) + Decimal(rest).scaleb(-10)


def unpack(ids: bytes, amounts: bytes, *, wire: str = "<i8") -> Actors:
    """Reverse :meth:`Actors.packed`. ``wire`` is the format of an integer: ``>i8`` for those of PostgreSQL."""
    found = np.frombuffer(ids, dtype=wire).astype(np.int64)
    table = np.frombuffer(amounts, dtype=wire).astype(np.int64).reshape(len(COLUMNS), -1).T
    return Actors(found, table)


def unpack_ids(ids: bytes) -> Ints:
    """Return the ids alone."""
    return np.frombuffer(ids, dtype=_WIRE).astype(np.int64)


def merge_actors(parts: Sequence[Actors]) -> Actors:
    """Add up ``parts``; ids whose amounts all come out at zero vanish."""
    if not any(len(part.ids) for part in parts):
        return Actors(np.empty(0, dtype=np.int64), np.empty((0, len(COLUMNS)), dtype=np.int64))
    ids = np.concatenate([np.empty(0, dtype=np.int64), *(part.ids for part in parts)])
    amounts = np.concatenate([np.empty((0, len(COLUMNS)), dtype=np.int64), *(part.amounts for part in parts)])
    order = np.argsort(ids, kind="stable")
    ids, amounts = ids[order], amounts[order]
    starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    summed = np.add.reduceat(amounts, starts, axis=0)
    summed[:, -2] += summed[:, -1] // COST_UNITS
    summed[:, -1] %= COST_UNITS
    kept = summed.any(axis=1)
    return Actors(ids[starts][kept], summed[kept])
