"""Two rankings made into one, by reciprocal rank fusion.

A row's score is the sum of 1 / (60 + place) over the rankings that have it: places can be compared where cosines and
ranks of words cannot. Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
Learning Methods", SIGIR 2009, which is also where the 60 is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

DAMPING: Final = 60
ORDERED_BY: Final = 5
"""Elements of :attr:`RankedRow.order`."""

Key = tuple[str, str, str | None]
"""Project, trace, and the span, which is None for a row that is a whole trace."""


class NearRow(NamedTuple):
    """A row that is near: ``ts`` is the start of the span that was compared, ``text`` the same for equal texts."""

    key: Key
    ts: datetime
    similarity: float
    text: bytes = b""


@dataclass(slots=True)
class RankedRow:
    """A row and how it was found: its places from 1, and the cosine of the nearest vector."""

    key: Key
    ts: datetime
    """Start of the span that was found; for a trace, of its best span."""
    similarity: float | None = None
    meaning_place: int | None = None
    search_place: int | None = None
    score: float = 0.0
    same_text: int = 0
    """Number of further rows that are as near because their text is the same, word for word."""

    @property
    def order(self) -> tuple[Any, ...]:
        """The sort key: the best row first, of equal ones the newest."""
        return (-self.score, -self.ts.timestamp(), *self.key[:2], self.key[2] or "")

    def shown(self) -> dict[str, Any]:
        """Return the keys that a row of the list gets."""
        found_by = [name for name, place in (("meaning", self.meaning_place), ("search", self.search_place)) if place]
        return {
            "rank": self.score,
            "found_by": found_by,
            "similarity": self.similarity,
            "meaning_place": self.meaning_place,
            "search_place": self.search_place,
            "same_text": self.same_text,
        }


def fused(near: Sequence[Sequence[NearRow]], found: Sequence[tuple[Key, datetime]], *, folds: bool) -> list[RankedRow]:
    """Return the rows of all rankings, the best first.

    ``near``: a ranking by meaning for each model, whose rows do not overlap. ``found``: that by words. ``folds``: of
    rows of a project that say the same, only the newest has a place; it counts the others.
    """
    rows: dict[Key, RankedRow] = {}
    stands_for: dict[Key, RankedRow] = {}
    for ranking in near:
        place = 0
        first_of: dict[tuple[str, bytes], RankedRow] = {}
        for item in ranking:
            if item.key in rows:
                continue  # a trace of which a nearer span came before
            first = first_of.get((item.key[0], item.text)) if item.text else None
            if first is not None:
                first.same_text += 1
                if folds:
                    stands_for[item.key] = first
                    continue
            place += 1
            row = RankedRow(item.key, item.ts, item.similarity, place, score=1 / (DAMPING + place))
            rows[item.key] = row
            if item.text and first is None:
                first_of[item.key[0], item.text] = row
    place = 0
    for key, ts in found:
        row = stands_for.get(key) or rows.setdefault(key, RankedRow(key, ts))
        if row.search_place is None:
            place += 1
            row.search_place = place
            row.score += 1 / (DAMPING + place)
    if len(near) == 1 and not found:
        return list(rows.values())  # in order already
    return sorted(rows.values(), key=lambda row: row.order)
