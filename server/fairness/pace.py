"""A steady pace for callers who repeat requests that cost the server much and bring nothing.

A refusal costs about as much as a small answer, and a question whose caller goes away before its answer may cost far
more; no limit bounds how many a caller may have. A caller that repeats them without pause, from a few connections,
would take a large part of the event loop. So each caller gets some of them at once, and any more at a steady pace;
meanwhile its connection costs nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from cachetools import TTLCache

LONGEST_SECONDS: Final = 2.0
"""The longest wait for one answer, in seconds."""
_MOST_CALLERS: Final = 10_000


class Pace:
    """The pace of one kind of request, by caller; one object per process."""

    def __init__(self, at_once: int, a_second: float) -> None:
        """``at_once``: number of requests before a caller has to wait. ``a_second``: the steady pace."""
        self._at_once, self._a_second = at_once, a_second
        self._due: TTLCache[str, float] = TTLCache(_MOST_CALLERS, ttl=60, timer=monotonic)
        """Moment at which the caller's next request is due at the steady pace."""

    def count(self, caller: str) -> None:
        """Note a request of ``caller``."""
        now = monotonic()
        due = max(self._due.get(caller, 0.0), now - self._at_once / self._a_second) + 1 / self._a_second
        self._due[caller] = min(due, now + LONGEST_SECONDS)

    async def wait(self, caller: str) -> None:
        """Wait until ``caller`` may repeat its request."""
        seconds = self._due.get(caller, 0.0) - monotonic()
        if seconds > 0:
            await asyncio.sleep(seconds)
