"""Answers that need no credential, and that cost more than asking for them.

Without a credential there is no tenant whose share could bound the work. So callers who ask at the same moment share
one answer, and at most ten answers a second are computed: in between, callers get the last one again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from server.fairness.party import server_context

T = TypeVar("T")

A_SECOND: Final = 10.0
AT_ONCE: Final = 10.0
"""Number of answers computed in a row after a pause, so that a caller who asks rarely gets the present state."""


class Spared(Generic[T]):
    """One such answer; one object per process."""

    def __init__(self) -> None:
        self._work: asyncio.Task[T] | None = None
        self._tokens = AT_ONCE
        self._counted_at = monotonic()

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``make``, or the result that it had for another caller a moment ago."""
        now = monotonic()
        self._tokens = min(AT_ONCE, self._tokens + (now - self._counted_at) * A_SECOND)
        self._counted_at = now
        if self._work is None or (self._work.done() and self._tokens >= 1):
            self._tokens -= 1
            self._work = asyncio.create_task(_made(make), context=server_context())
        return await asyncio.shield(self._work)


async def _made(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()
