"""A place in the feed of stored spans, as text that a client can keep and come back with.

A reader that goes by a number or a time misses the transaction that began earlier and committed later. So a place is a
snapshot of the database (``pg_snapshot``: which transactions it shows): what comes next is whatever that snapshot does
not show yet. In the middle of a batch the place is two snapshots, the one before the batch and the one that it was
read with, and the last span of it that was taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 4096
_SNAPSHOT: Final = r"\d{1,20}:\d{1,20}:[\d,]{0,1900}"
_FORM: Final = re.compile(rf"(\d{{1,12}})/({_SNAPSHOT})(?:/({_SNAPSHOT})/(\d{{1,18}})/(\d{{1,6}}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """Behind all that ``after`` shows and, if there is an ``until``, behind a part of what that shows more."""

    after: str
    until: str = ""
    seq: int = 0
    """The last row of the feed that was read within ``until``."""
    place: int = 0
    """How many of that row's spans were taken."""

    def behind(self, seq: int, place: int, until: str) -> FeedPosition:
        """Return the place behind the first ``place`` spans of the row ``seq``, read with the snapshot ``until``."""
        return FeedPosition(self.after, until, seq, place)

    @property
    def newest_transaction(self) -> int:
        """The first transaction that its snapshots know nothing about."""
        return int((self.until or self.after).split(":")[1])

    def text(self, seconds: int) -> str:
        """Return the place as text, with the moment at which it was valid in ``seconds`` of the epoch."""
        if not self.until:
            return f"{seconds}/{self.after}"
        return f"{seconds}/{self.after}/{self.until}/{self.seq}/{self.place}"


def parse_position(text: str) -> tuple[int, FeedPosition]:
    """Return the moment and the place that :meth:`FeedPosition.text` wrote. Raises ValueError for anything else."""
    match = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise ValueError("not an id of this stream")
    seconds, after, until, seq, place = match.groups()
    return int(seconds), FeedPosition(after, until or "", int(seq or 0), int(place or 0))
