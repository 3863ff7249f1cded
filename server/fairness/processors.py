"""Whether the machine's processors are busy: whoever works while they are takes time from everybody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

BUSY_SHARE: Final = 0.7
"""Share of all processors that is in use on a busy machine."""
SHORTEST_MEASUREMENT: Final = 0.25
"""Seconds below which times of processors, which the kernel counts in hundredths, say too little."""
_STAT: Final = Path("/proc/stat")
_IDLE, _WAITING = 3, 4
"""Places of the times, in a line of that file, in which no processor works (proc_stat(5))."""

Times = tuple[float, float]
"""Seconds that all processors worked, and all their seconds, since the machine started."""


class Processors:
    """The processors of this machine, as they were in the last quarter of a second or longer."""

    def __init__(self, read: Callable[[], Times | None] | None = None, now: Callable[[], float] = monotonic) -> None:
        """``read`` returns the times so far, or None where the system does not tell them."""
        self._read = processor_times if read is None else read
        self._now = now
        self._before = self._read()
        self._looked_at = now()
        self._are_busy = False

    def are_busy(self) -> bool:
        """Return whether more than :data:`BUSY_SHARE` of them was in use; False where the system does not tell."""
        now = self._now()
        if now - self._looked_at >= SHORTEST_MEASUREMENT:
            self._looked_at = now
            times = self._read()
            if times is not None and self._before is not None:
                worked, passed = times[0] - self._before[0], times[1] - self._before[1]
                self._are_busy = worked > BUSY_SHARE * passed
            self._before = times
        return self._are_busy


def processor_times() -> Times | None:
    """Return the times of Linux, or None elsewhere."""
    try:
        with _STAT.open("rb") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[_IDLE] - ticks[_WAITING]) / second, sum(ticks) / second


THIS_MACHINE: Final = Processors()
