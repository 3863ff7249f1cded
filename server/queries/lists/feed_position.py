"""A position in the feed of stored spans, as text that a client keeps and sends to continue.

A reader that goes by a number or a time misses a transaction that began earlier and committed later. So a position is a
snapshot of the database (``pg_snapshot``: the transactions that it shows), and everything that this snapshot does not
show comes next. Within a batch the position is two snapshots, the one before the batch and the one that it was read
with, and the last span that was taken from it.
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
    """The position after everything that ``after`` shows and, with ``until``, after a part of what only ``until``
    shows."""

    after: str
    until: str = ""
    seq: int = 0
    """The last row of the feed that was read within ``until``."""
    place: int = 0
    """Number of that row's spans that were taken."""

    def behind(self, seq: int, place: int, until: str) -> FeedPosition:
        """Return the position after the first ``place`` spans of the row ``seq``, read with the snapshot ``until``."""
        return FeedPosition(self.after, until, seq, place)

    @property
    def newest_transaction(self) -> int:
        """The first transaction that is unknown to its snapshots."""
        return int((self.until or self.after).split(":")[1])

    def text(self, seconds: int) -> str:
        """Return the position as text, with the moment at which it was valid, in epoch ``seconds``."""
        if not self.until:
            return f"{seconds}/{self.after}"
        return f"{seconds}/{self.after}/{self.until}/{self.seq}/{self.place}"


def parse_position(text: str) -> tuple[int, FeedPosition]:
    """Return the moment and the position that :meth:`FeedPosition.text` wrote. Raises ValueError for anything else."""
    match = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise ValueError("is not an id of an event of this stream")
    seconds, after, until, seq, place = match.groups()
    return int(seconds), FeedPosition(after, until or "", int(seq or 0), int(place or 0))
