"""A steady pace for whoever does again and again what costs the server and brings nothing.

A refusal costs about as much as a small answer, and a question whose caller goes away before its answer may cost far
more; no limit bounds how many a caller may have. One that repeats them at once, from a few connections, would take a
large part of the event loop. So each caller has some at once, and any more at a steady pace; meanwhile its connection
costs nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from cachetools import TTLCache

LONGEST_SECONDS: Final = 2.0
"""Nobody waits longer for one answer."""
_MOST_CALLERS: Final = 10_000


class Pace:
    """One such thing, by caller, in one process."""

    def __init__(self, at_once: int, a_second: float) -> None:
        """``at_once``: so many a caller may do before it has to wait. ``a_second``: the steady pace."""
        self._at_once, self._a_second = at_once, a_second
        self._due: TTLCache[str, float] = TTLCache(_MOST_CALLERS, ttl=60, timer=monotonic)
        """When the caller's next one would be due, at the steady pace."""

    def count(self, caller: str) -> None:
        """Note that ``caller`` did it."""
        now = monotonic()
        due = max(self._due.get(caller, 0.0), now - self._at_once / self._a_second) + 1 / self._a_second
        self._due[caller] = min(due, now + LONGEST_SECONDS)

    async def wait(self, caller: str) -> None:
        """Wait until ``caller`` may do it again."""
        seconds = self._due.get(caller, 0.0) - monotonic()
        if seconds > 0:
            await asyncio.sleep(seconds)
