"""A steady pace for callers who repeat requests that cost the server much and bring nothing.

A refusal costs about as much as a small answer, and a question whose caller goes away before its answer may cost far
more; no limit bounds how many a caller may have. A caller that repeats them without pause, from a few connections,
would take a large part of the event loop. So each caller gets some of them at once, and any more at a steady pace;
meanwhile its connection costs nothing.

Nobody waits longer than a bound. A caller with more connections than the pace lets through within it has all the others
wait about that long, spread evenly: if they ended together, their answers would hold up the event loop.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import Final

from cachetools import TTLCache

from server.errors import RateLimited
from server.telemetry.observations import RateLimitHit, observe

LONGEST_SECONDS: Final = 2.0
"""The longest wait for one answer, in seconds."""
_MOST_CALLERS: Final = 10_000
_GOLDEN: Final = 0.618033988749895
"""Steps of this length, modulo one, spread any number of points evenly (a sequence of Kronecker's)."""


class Pace:
    """The pace of one kind of request, by caller; one object per process."""

    def __init__(self, at_once: int, a_second: float, longest: float = LONGEST_SECONDS) -> None:
        """``at_once``: number of requests before a caller has to wait. ``a_second``: the steady pace. ``longest``: the
        longest wait in seconds."""
        self._at_once, self._a_second, self._longest = at_once, a_second, longest
        self._due: TTLCache[str, float] = TTLCache(_MOST_CALLERS, ttl=60, timer=monotonic)
        """Moment at which the caller's next request is due at the steady pace."""
        self._phase = 0.0
        self._last_due = 0.0
        """The latest of these moments. After it nobody has to wait, and nobody is looked up: the table costs a
        remembered answer 2 % of its time."""

    def count(self, caller: str) -> None:
        """Note a request of ``caller``."""
        now = monotonic()
        due = max(self._due.get(caller, 0.0), now - self._at_once / self._a_second) + 1 / self._a_second
        self._due[caller] = due = min(due, now + self._longest)
        self._last_due = max(self._last_due, due)

    async def wait(self, caller: str) -> None:
        """Wait until ``caller`` may repeat its request."""
        if self._last_due <= monotonic():
            return
        seconds = self._seconds_until_due(caller)
        if self._is_beyond(seconds):
            self._phase = (self._phase + _GOLDEN) % 1
            seconds = self._longest * (1 + self._phase) / 2
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def take_turn(self, caller: str, kind: str) -> None:
        """Note a request of ``caller``, and wait until it is due.

        Raises RateLimited where that is later than the longest wait, and counts it as a limit on ``kind``.
        """
        if self._is_beyond(self._seconds_until_due(caller)):
            observe(RateLimitHit(kind))
            raise RateLimited(headers={"Retry-After": str(math.ceil(self._longest))})
        self.count(caller)
        await self.wait(caller)

    def _seconds_until_due(self, caller: str) -> float:
        return self._due.get(caller, 0.0) - monotonic()

    def _is_beyond(self, seconds: float) -> bool:
        """Return whether as many requests wait as the pace lets through within the longest wait."""
        return seconds > self._longest - 1 / self._a_second
