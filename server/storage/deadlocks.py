"""Repetition of a transaction that PostgreSQL ended because it and another one waited for each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from server.errors import ApiError

DEADLOCK: Final = "40P01"
"""SQLSTATE deadlock_detected (PostgreSQL's manual, appendix A)."""
_TRIES: Final = 4

_T = TypeVar("_T")


async def repeat_after_deadlock(work: Callable[[], Awaitable[_T]]) -> _T:
    """Return what ``work``, one whole transaction, returns; do it up to three times more after a deadlock.

    Writers of the same spans can meet in any order: each locks what its spans lead to, which it only learns from them.
    Raises the errors of ``work``, also that of the last deadlock.
    """
    for tries in range(1, _TRIES):
        try:
            return await work()
        except ApiError as error:
            if getattr(error.__cause__, "sqlstate", None) != DEADLOCK:
                raise
        await asyncio.sleep(random.uniform(0.005, 0.05) * tries)  # noqa: S311
    return await work()
