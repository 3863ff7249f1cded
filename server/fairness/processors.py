"""Whether processors are scarce: whoever works while they are takes time from everybody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

BUSY_SHARE: Final = 0.7
"""Share of all processors that is in use on a busy machine. One of few processors is left: see :func:`busy_share`."""
BUSY_LOOP_SHARE: Final = 0.35
"""Part of the time in which the calling thread, the event loop, worked or waited for a processor, above which it is
scarce itself: whoever needs it then waits for others as often as not."""
STAYS_BUSY_SECONDS: Final = 5.0
"""Seconds for which a machine counts as busy after it was. Whoever rests then would otherwise end what it rests for,
and all would feel the time until that is noticed again."""
SHORTEST_MEASUREMENT: Final = 0.25
"""Seconds below which times of processors, which the kernel counts in hundredths, say too little."""
_STAT: Final = Path("/proc/stat")
_SCHEDULED: Final = Path("/proc/thread-self/schedstat")
_IDLE, _WAITING = 3, 4
"""Places of the times, in a line of that file, in which no processor works (proc_stat(5))."""

Times = tuple[float, float]
"""Seconds that all processors worked, and all their seconds, since the machine started."""


class Processors:
    """The processors of this machine, as they were in the last quarter of a second or longer."""

    def __init__(
        self,
        read: Callable[[], Times | None] | None = None,
        now: Callable[[], float] = monotonic,
        wanted: Callable[[], float | None] | None = None,
        count: int | None = None,
    ) -> None:
        """``read`` returns the times so far, ``wanted`` the seconds in which this thread worked or waited for a
        processor; each None where the system does not tell them. ``count``: number of processors."""
        self._read = processor_times if read is None else read
        self._now = now
        self._wanted = wanted_seconds if wanted is None else wanted
        self._share = busy_share(count or os.cpu_count() or 1)
        self._before = self._read()
        self._wanted_before: float | None = None
        self._looked_at = now()
        self._busy_until = self._looked_at

    def are_busy(self) -> bool:
        """Return whether the machine or the event loop, whose thread has to ask, was busy lately; False where the
        system does not tell."""
        now = self._now()
        passed = now - self._looked_at
        if passed >= SHORTEST_MEASUREMENT:
            self._looked_at = now
            # Both, so that each begins its next measurement now.
            if self._machine_was_busy() | self._loop_was_busy(passed):
                self._busy_until = now + STAYS_BUSY_SECONDS
        return now < self._busy_until

    def _machine_was_busy(self) -> bool:
        before, self._before = self._before, self._read()
        if before is None or self._before is None:
            return False
        worked, passed = self._before[0] - before[0], self._before[1] - before[1]
        return worked > self._share * passed

    def _loop_was_busy(self, passed: float) -> bool:
        before, self._wanted_before = self._wanted_before, self._wanted()
        if before is None or self._wanted_before is None:
            return False
        return self._wanted_before - before > BUSY_LOOP_SHARE * passed


def busy_share(count: int) -> float:
    """Return the share of ``count`` processors above which the machine is busy: where they are few, because less than
    one of them is idle, so that two that become ready at once wait for each other.
    """
    return min(BUSY_SHARE, max(0.5, 1 - 1 / count))


def processor_times() -> Times | None:
    """Return the times of Linux, or None elsewhere."""
    try:
        with _STAT.open("rb") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[_IDLE] - ticks[_WAITING]) / second, sum(ticks) / second


def wanted_seconds() -> float | None:
    """Return the seconds in which this thread worked or waited for a processor, or None where Linux does not tell."""
    try:
        worked, waited, _ = _SCHEDULED.read_bytes().split()
        return (int(worked) + int(waited)) / 1e9
    except (OSError, ValueError):
        return None


THIS_MACHINE: Final = Processors()
