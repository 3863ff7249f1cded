"""A budget of tokens for each minute, for work that can wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MINUTE: Final = 60.0


class TokenBudget:
    """Refills evenly, up to what a minute has. A batch may overdraw it; then the next waits until it is paid."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_minute`` 0: without limit."""
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._at = clock()

    def spend(self, tokens: int) -> None:
        """Take ``tokens`` that have already been used."""
        self._refill()
        self._left -= tokens

    def wait_seconds(self) -> float:
        """Return how long to wait before the next batch; 0: not at all."""
        if not self._per_minute:
            return 0.0
        self._refill()
        return 0.0 if self._left > 0 else (1 - self._left) * MINUTE / self._per_minute

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / MINUTE)
        self._at = now
