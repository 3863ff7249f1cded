"""The silence of a server process, and whether the process is frozen or only starved.

A process that serves tells so every second. One that does not may be frozen: its event loop is blocked, or it was
stopped. Or the machine has so much else to do that the process is ready to run and gets no processor; then a
replacement would get none either, and would first have to start. The kernel tells the two apart: it counts the time for
which each thread waited for a processor. That time is no silence, up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

FROZEN_TICKS: Final = 6.0
"""Watches without a word, and without waiting for a processor, after which a process is frozen. Counted in our own
watches rather than by a clock: after a suspended machine wakes up, everybody was silent.
"""
LONGEST_TICKS: Final = 60.0
"""Watches without a word after which a process is frozen even if it waited for a processor: it may be blocked, too."""


class Silence:
    """The silence of one process that serves."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._waited = waited_seconds(pid)
        self._ticks = self._unexcused = 0.0

    def end(self) -> None:
        """Note that the process has told that it serves."""
        self._ticks = self._unexcused = 0.0

    def is_frozen(self, seconds: float) -> bool:
        """Count one watch, ``seconds`` after the last, and return whether the process is taken for frozen."""
        waited = waited_seconds(self._pid)
        excused = min(1.0, max(0.0, waited - self._waited) / max(seconds, 1e-3))
        self._waited = waited
        self._ticks += 1
        self._unexcused += 1 - excused
        return self._unexcused > FROZEN_TICKS or self._ticks > LONGEST_TICKS


def waited_seconds(pid: int) -> float:
    """Return for how long all threads of a process have been ready to run and waited for a processor; 0 where the
    system does not tell.
    """
    return sum(_waited_nanoseconds(pid)) / 1e9


def _waited_nanoseconds(pid: int) -> Iterator[int]:
    with suppress(OSError):  # no such system, or the process has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                yield int((thread / "schedstat").read_text().split()[1])
