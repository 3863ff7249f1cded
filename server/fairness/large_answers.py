"""A pace for large answers of one tenant beside others on a busy machine.

An answer that the cache has kept needs no connection and no thread, so no share bounds it. But it is read from Redis,
checked and sent by the event loop, and each megabyte of it takes about a millisecond of everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from server.fairness.pace import Pace
from server.fairness.presence import THIS_PROCESS, Presence
from server.fairness.processors import THIS_MACHINE

MEGABYTES_AT_ONCE: Final = 16
"""What a tenant may get before it waits: the panels of a large dashboard."""
MEGABYTES_A_SECOND: Final = 8
"""What it may get all the time."""


class LargeAnswers:
    """The large answers that tenants got lately; one object per process."""

    def __init__(self, presence: Presence = THIS_PROCESS, is_busy: Callable[[], bool] | None = None) -> None:
        """``presence``: the tenants for whom others wait. ``is_busy`` returns whether processors are scarce (default:
        those of this machine).
        """
        self._pace = Pace(MEGABYTES_AT_ONCE, MEGABYTES_A_SECOND)
        self._presence = presence
        self._is_busy = is_busy or THIS_MACHINE.are_busy

    def count(self, tenant: str, size: int) -> None:
        """Note an answer of ``size`` bytes to ``tenant``. Small ones need not be noted: their price is that of any
        request, which the rate limit bounds.
        """
        self._pace.count(tenant, size / 1e6)

    async def wait(self, tenant: str) -> None:
        """Wait until ``tenant`` may get the next answer, where others are about and the machine is busy."""
        if self._pace.is_due(tenant) or not self._presence.others_are_about(tenant, monotonic()):
            return
        if self._is_busy():
            await self._pace.wait(tenant)
