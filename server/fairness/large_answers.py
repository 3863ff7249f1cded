"""A pace for large answers of one tenant beside others on a busy machine.

An answer that the cache has kept needs no connection and no thread, so no share bounds it. But it is read from Redis,
checked and sent by the event loop, and each megabyte of it takes about a millisecond of everybody.

The size of an answer is known when it is there. Until then a question reserves as much as the tenant's last answers by
the same route had, so that many questions at once are not let through together.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from server.errors import ShareExhausted
from server.fairness.presence import THIS_PROCESS, Presence
from server.fairness.processors import THIS_MACHINE
from server.telemetry.observations import RateLimitHit, observe

LARGE_BYTES: Final = 64 * 1024
"""Answers up to this size are not counted: their price is that of any request, which the rate limit bounds, and any
connection may have that much waiting."""
MEGABYTES_AT_ONCE: Final = 16
"""What a tenant may get before it waits: the panels of a large dashboard."""
MEGABYTES_A_SECOND: Final = 8
"""What it may get all the time."""
LONGEST_SECONDS: Final = 20.0
"""The longest wait; a question that would wait longer is refused."""
_MOST_TENANTS: Final = 1000
"""Tenants beyond this many are kept only while they have more than the pace has made up for."""


@dataclass(slots=True)
class _Account:
    """Answers to one tenant, those that it had and those to come."""

    paid_at: float = 0.0
    """Moment at which the steady pace has made up for all of it."""
    expected: dict[str, float] = field(default_factory=dict)
    """Megabytes of the next answer by route, where those before were large."""


class LargeAnswers:
    """The large answers that tenants got lately; one object per process."""

    def __init__(self, presence: Presence = THIS_PROCESS, is_busy: Callable[[], bool] | None = None) -> None:
        """``presence``: the tenants for whom others wait. ``is_busy`` returns whether processors are scarce (default:
        those of this machine).
        """
        self._presence = presence
        self._is_busy = is_busy or THIS_MACHINE.are_busy
        self._accounts: dict[str, _Account] = {}

    async def reserve(self, tenant: str, route: str) -> float:
        """Wait until ``tenant`` may get its next answer by ``route``, where others are about and the machine is busy.
        Return the megabytes that are reserved for it: :meth:`settle` has to follow.

        Raises ShareExhausted if it would have to wait for too long.
        """
        account = self._accounts.get(tenant)
        expected = 0.0 if account is None else account.expected.get(route, 0.0)
        if account is None or not expected or not self._presence.others_are_about(tenant, monotonic()):
            return 0.0
        if not self._is_busy():
            return 0.0
        seconds = account.paid_at - monotonic()
        if seconds > LONGEST_SECONDS:
            observe(RateLimitHit("share of large answers"))
            raise ShareExhausted(
                "Your projects have many large answers to come; ask for less at once, or later.",
                headers={"Retry-After": str(math.ceil(seconds - LONGEST_SECONDS))},
            )
        _charge(account, expected)
        try:
            if seconds > 0:
                await asyncio.sleep(seconds)
        except BaseException:
            _charge(account, -expected)
            raise
        return expected

    def settle(self, tenant: str, route: str, size: int | None, reserved: float) -> None:
        """Count an answer of ``size`` bytes to ``tenant`` in place of what was ``reserved`` for it. None: there was no
        answer, or one whose size is not known.
        """
        account = self._accounts.get(tenant)
        if size is None:
            if reserved and account is not None:
                _charge(account, -reserved)
            return
        if account is None:
            if size <= LARGE_BYTES:
                return
            account = self._open(tenant)
        megabytes = size / 1e6 if size > LARGE_BYTES else 0.0
        # A small answer between large ones does not make the next seem small.
        expected = max(megabytes, account.expected.get(route, 0.0) / 2)
        if expected * 1e6 > LARGE_BYTES:
            account.expected[route] = expected
        else:
            account.expected.pop(route, None)
        if megabytes or reserved:
            _charge(account, megabytes - reserved)

    def _open(self, tenant: str) -> _Account:
        if len(self._accounts) >= _MOST_TENANTS:
            now = monotonic()
            for name in [name for name, account in self._accounts.items() if account.paid_at < now]:
                del self._accounts[name]
        account = self._accounts[tenant] = _Account()
        return account


def _charge(account: _Account, megabytes: float) -> None:
    earliest = monotonic() - MEGABYTES_AT_ONCE / MEGABYTES_A_SECOND
    account.paid_at = max(account.paid_at, earliest) + megabytes / MEGABYTES_A_SECOND
