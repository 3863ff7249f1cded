"""The recent use of a resource by one party."""

from __future__ import annotations

from typing import Final

HALF_LIFE_SECONDS: Final = 5.0


class Usage:
    """A sum that halves every five seconds."""

    __slots__ = ("_at", "_sum")

    def __init__(self) -> None:
        self._sum = 0.0
        self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        """Count ``amount``; ``now`` is a moment of ``time.monotonic()``."""
        self._sum = self.at(now) + amount
        self._at = now

    def at(self, now: float) -> float:
        """Return the sum at ``now``."""
        return self._sum and self._sum * 0.5 ** ((now - self._at) / HALF_LIFE_SECONDS)
