"""Rests of work that can wait, while others need the machine's processors.

A low priority alone does not leave them to the servers: two processors are often two threads of one core, and a process
on the second one slows the first down by a quarter, whatever its priority.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from server.fairness.processors import BUSY_SHARE, SHORTEST_MEASUREMENT, Times, processor_times

WORK_SHARE: Final = 0.03
"""Share of one processor that this process takes on a busy machine."""
LONGEST_SECONDS: Final = 10.0
"""Longest rest: that the machine is calm again is noticed only after it."""


class BusyMachine:
    """Says how long to rest. Where the system does not tell what its processors do, never."""

    def __init__(
        self,
        *,
        read: Callable[[], Times | None] | None = None,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        """``own``: seconds of processors that this process took."""
        self._read = processor_times if read is None else read
        self._own = own
        self._before = self._now()
        self.is_busy = False
        """Whether others used so much when :meth:`rest_seconds` last looked."""
        self._paid = own()
        """Seconds of processors of this process after which it has rested."""

    def rest_seconds(self) -> float:
        """Return how long to rest after the work since the last rest; 0: not at all."""
        now = self._now()
        if now is not None and self._before is not None:
            worked, passed = now[0] - self._before[0], now[1] - self._before[1]
            if passed >= SHORTEST_MEASUREMENT:
                self.is_busy = worked > BUSY_SHARE * passed
                self._before = now
        used, self._paid = self._own() - self._paid, self._own()
        return min(used * (1 - WORK_SHARE) / WORK_SHARE, LONGEST_SECONDS) if self.is_busy else 0.0

    def _now(self) -> Times | None:
        """Return the times of the processors, without what this process took."""
        times = self._read()
        return None if times is None else (times[0] - self._own(), times[1])
