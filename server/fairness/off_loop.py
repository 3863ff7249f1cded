"""Long computations of one request beside the event loop, in threads that tenants share.

A thread shares the interpreter with the event loop, which is slower while it works. So after each use that took long,
the tenant has no thread for as long as it had one, if other tenants use threads, and for three times as long if the
machine is busy and others do anything at all: half of the time, or three quarters, the loop has the interpreter to
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from time import thread_time
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from server.errors import Overloaded
from server.fairness.fair_queue import FairQueue
from server.fairness.presence import THIS_PROCESS
from server.fairness.processors import THIS_MACHINE
from server.fairness.tenants import Place

T = TypeVar("T")

SMALL: Final = 2000
"""Up to this number of values is handled on the event loop, in some 5 ms: a thread would cost more than it saves."""
_THREADS: Final = 2
_PATIENCE_SECONDS: Final = 20.0
_QUICK_SECONDS: Final = 0.25
_SHORT_SECONDS: Final = 0.005
"""Seconds of work up to which a thread does not rest."""
_REST: Final = 1.0
_BUSY_REST: Final = 3.0
"""Times the seconds of its work that a thread rests while others use threads, and on a busy machine."""
_LONGEST_REST_SECONDS: Final = 1.0

_executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="computing")
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, FairQueue] = WeakKeyDictionary()


async def off_loop(values: int, work: Callable[[], T]) -> T:
    """Return the result of ``work``, which handles about ``values`` values: run at once if they are few, else in a
    thread.

    Raises ShareExhausted or Overloaded when no thread gets free in time.
    """
    return work() if values <= SMALL else await in_thread(work)


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of ``work``, run in a thread because it takes long whatever it handles. Raises like
    :func:`off_loop`.

    A thread cannot be stopped, so it stays in use until ``work`` ends, even if the caller goes away before.
    """
    loop, queue = asyncio.get_running_loop(), _queue()
    place = await queue.take()
    use = _Use()
    try:
        result = loop.run_in_executor(_executor, partial(copy_context().run, use.timed, work))
    except BaseException:
        queue.give_back(place)
        raise

    def ended(result: asyncio.Future[T]) -> None:
        queue.give_back(place, min(use.seconds * _rest_after(use.seconds, place), _LONGEST_REST_SECONDS))
        if not result.cancelled():
            result.exception()  # the caller may be gone, and then nobody else would retrieve it

    result.add_done_callback(ended)
    try:
        return await asyncio.shield(result)
    finally:
        del result  # its error would hold this frame, and this frame the error, with all that was worked on


def _rest_after(seconds: float, place: Place) -> float:
    """Return how often its own ``seconds`` of work a thread rests."""
    queue = _queue()
    if seconds < _SHORT_SECONDS:
        return 0
    if queue.is_among_others(place) and THIS_MACHINE.are_busy():
        return _BUSY_REST
    return _REST if queue.is_shared(place) else 0


class _Use:
    """CPU time that a thread needed."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``."""
        began = thread_time()
        try:
            return work()
        finally:
            self.seconds = thread_time() - began


def _queue() -> FairQueue:
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _queues[loop] = FairQueue(
            "computing threads",
            _THREADS,
            patience=_PATIENCE_SECONDS,
            exhausted=lambda: Overloaded("too many answers are being worked out"),
            quick_seconds=_QUICK_SECONDS,
            presence=THIS_PROCESS,
        )
    return queue
