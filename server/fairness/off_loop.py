"""Long computations of one request beside the event loop, in threads that tenants share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from server.errors import Overloaded
from server.fairness.fair_queue import FairQueue

T = TypeVar("T")

SMALL: Final = 2000
"""So many values are worked out on the event loop, in some 5 ms; a thread costs it more than that saves."""
_THREADS: Final = 2
_PATIENCE_SECONDS: Final = 20.0
_QUICK_SECONDS: Final = 0.25

_threads = FairQueue(
    "computing threads",
    _THREADS,
    patience=_PATIENCE_SECONDS,
    exhausted=lambda: Overloaded("too many answers are being worked out"),
    quick_seconds=_QUICK_SECONDS,
)


async def off_loop(values: int, work: Callable[[], T]) -> T:
    """The result of ``work``, which handles about so many ``values``: at once when they are few, else from a thread.

    Raises ShareExhausted or Overloaded when no thread gets free in time.
    """
    if values <= SMALL:
        return work()
    async with _threads.hold():
        return await asyncio.to_thread(work)
