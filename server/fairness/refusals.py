"""The pace of refusals: who is refused again and again waits for each answer.

A refusal costs the server about as much as a small answer, and no limit bounds how many a caller may have. One that
repeats at once whatever is refused, from a few connections, would take a large part of the event loop. So each caller
has some refusals at once, and any more at a steady pace; meanwhile its connection costs nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from cachetools import TTLCache

AT_ONCE: Final = 200
A_SECOND: Final = 50
LONGEST_SECONDS: Final = 2.0
"""Nobody waits longer for one answer."""
_MOST_CALLERS: Final = 10_000


class Refusals:
    """The refusals of one process, by caller."""

    def __init__(self) -> None:
        self._due: TTLCache[str, float] = TTLCache(_MOST_CALLERS, ttl=60, timer=monotonic)
        """When the caller's next answer would be due, at the steady pace."""

    async def pace(self, caller: str) -> None:
        """Wait until ``caller`` may hear that it is refused."""
        now = monotonic()
        due = max(self._due.get(caller, 0.0), now - AT_ONCE / A_SECOND) + 1 / A_SECOND
        wait = min(due - now, LONGEST_SECONDS)
        self._due[caller] = now + wait
        if wait > 0:
            await asyncio.sleep(wait)
