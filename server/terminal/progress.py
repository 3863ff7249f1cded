"""Progress on the terminal: one line that is rewritten, or, in a log, a new line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR_WIDTH = 30
REDRAW_SECONDS = 0.1
LOG_STEP_PERCENT = 20


class Progress:
    """Counts up to ``total`` and shows it."""

    def __init__(self, label: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = max(total, 1)
        self._unit = unit
        self._stream = stream or sys.stderr
        self._done = 0
        self._started = time.monotonic()
        self._drawn_at = 0.0
        self._next_percent = LOG_STEP_PERCENT

    def advance(self, count: int) -> None:
        """Count ``count`` more as done."""
        self._done += count
        percent = min(100, self._done * 100 // self._total)
        if self._stream.isatty():
            now = time.monotonic()
            if now - self._drawn_at >= REDRAW_SECONDS:
                self._drawn_at = now
                self._draw(percent)
        elif percent >= self._next_percent:
            self._next_percent = percent + LOG_STEP_PERCENT
            self._write(f"{self._label}: {percent} %\n")

    def finish(self) -> None:
        """Show the end and how long it took."""
        seconds = time.monotonic() - self._started
        if self._stream.isatty():
            self._draw(100)
            self._write("\n")
        self._write(f"{self._label}: {self._done:,} {self._unit} in {seconds:.0f} s\n")

    def _draw(self, percent: int) -> None:
        filled = BAR_WIDTH * percent // 100
        bar = "█" * filled + "░" * (BAR_WIDTH - filled)
        self._write(f"\r{self._label} {bar} {percent:3d} %  {self._done:,} {self._unit} ")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
