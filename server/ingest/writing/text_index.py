"""Upkeep of the text index: its pending list is kept short beside the writers instead of within their commits.

A GIN index collects new entries in a list, which is cheap, and somebody has to move them into the index in the end. By
default, whichever writer fills the list has to flush it: one commit in fifty then takes a second. Here a list of some
length is flushed as soon as the writers pause, and while they do not, once it is long enough to slow down a search.
Moving an entry takes more processor time than writing it: in the middle of a burst the senders would wait for that.

Many entries at once are moved for less. The places of a word are stored as one list, which is written again, into the
WAL too, however few are added. So a short list waits for more: a search reads it in no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.statements import statement

PAUSE_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 30.0
"""After this time it is flushed in any case, by one of the processes: other programs write too."""
LEAST_WORDS: Final = 50_000
"""Entries of all processes together that are flushed in a pause: 1.4 MB, which cost a search less than half a ms."""
MOST_WORDS: Final = 4_000_000
"""The most entries of all processes together. A search reads the whole list: 4 million entries are 112 MB or some 6,000
spans of long texts, and cost it about 30 ms.
"""
MOST_SHARED_WORDS: Final = 250_000
"""The same where content is stored once: a tenth of the words comes in, and the file keeps the room of the longest
list, which would be larger than the index.
"""


class TextIndexUpkeep:
    """Background work; processes that run one at the same time leave the work to the first."""

    def __init__(
        self,
        worker: Database,
        *,
        written: Callable[[], int],
        pending: Callable[[], int],
        most: int = MOST_WORDS,
        processes: int = 1,
    ) -> None:
        """``worker``: a pool of the role observatory_worker. ``written``: number of words this process has written for
        the index since it started; ``pending``: number of spans on their way. ``most``: words that may wait, which
        ``processes`` share.
        """
        self._worker = worker
        self._written = written
        self._pending = pending
        self._most = most // processes
        self._least = min(LEAST_WORDS, most) // processes
        self._longest = LONGEST_SECONDS * processes
        self._seen = 0
        self._settled = 0
        self._settled_at = -self._longest
        self.task = PeriodicTask(
            "text index",
            self.settle_if_due,
            first_pause=0.0,
            pause=PAUSE_SECONDS,
            next_pause=lambda took: max(PAUSE_SECONDS, took),
        )

    async def settle(self) -> int:
        """Move pending entries into the index; return the number of pages. Raises the errors of :class:`Database`."""
        async with self._worker.unscoped() as connection:
            return int(await connection.fetchval(statement("settle_text_index")))

    def is_due(self) -> bool:
        """Return whether to flush now: some words are waiting, and the writers pause (nothing is on its way and nothing
        came since the last call); or many are; or it is long ago. True at first, because of entries that others left.
        """
        written = self._written()
        is_quiet, self._seen = written == self._seen and not self._pending(), written
        waiting = written - self._settled
        is_overdue = time.monotonic() - self._settled_at >= self._longest
        return is_overdue or waiting >= self._most or (is_quiet and waiting >= self._least)

    async def settle_if_due(self) -> None:
        """Call :meth:`settle` if :meth:`is_due`."""
        if self.is_due():
            written = self._seen
            await self.settle()
            self._settled, self._settled_at = written, time.monotonic()
