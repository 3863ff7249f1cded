"""Places that are held for hours, as those of streams are: nobody waits for one, so a newcomer has to find some free.

A tenant may hold four times as many as are free at that moment: alone 80 %, and the next tenant 80 % of the rest.
As in :mod:`server.fairness.fair_queue` a place counts in equal parts for each project of the tenant's set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final

from server.errors import ApiError, ShareExhausted
from server.fairness.party import current_party
from server.telemetry.observations import RateLimitHit, observe

_TIMES_FREE: Final = 4
_NONE: Final = Fraction(0)


class StandingPlaces:
    """The places of one process."""

    def __init__(self, name: str, capacity: int, *, exhausted: Callable[[], ApiError]) -> None:
        """``name`` of the places in the plural. ``exhausted`` makes the error for when all are taken."""
        self.name = name
        self.held = 0
        self._capacity = capacity
        self._exhausted = exhausted
        self._by_project: dict[str, Fraction] = {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a place for the current party inside.

        Raises :class:`ShareExhausted` when its tenant already holds its part, else the error of ``exhausted``.
        """
        projects, free = current_party.get().projects, self._capacity - self.held
        part = Fraction(1, len(projects))
        if free < 1:
            raise self._exhausted()
        if any(self._by_project.get(name, _NONE) + part > _TIMES_FREE * free for name in projects):
            observe(RateLimitHit(f"share of {self.name}"))
            raise ShareExhausted(f"Your project's share of {self.name} is in use.", headers={"Retry-After": "30"})
        self.held += 1
        for name in projects:
            self._by_project[name] = self._by_project.get(name, _NONE) + part
        try:
            yield
        finally:
            self.held -= 1
            for name in projects:
                left = self._by_project.pop(name) - part
                if left:
                    self._by_project[name] = left
