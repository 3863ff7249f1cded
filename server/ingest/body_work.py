"""Where the work on a request's body is done: on the event loop in short turns, or in one of a few threads.

Decoding a large body takes long enough to delay other requests, so it runs in a thread. Mapping runs on the event loop,
some spans at a time: a thread would have to share the interpreter with the loop, which then waits for it at each answer
of the database. Tenants share turns and threads fairly (:mod:`server.fairness.fair_queue`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, TypeVar

from server.errors import Overloaded
from server.fairness.fair_queue import FairQueue
from server.fairness.tenants import Place
from server.ingest.otlp.decode import DecodeLimits, payload_encoding
from server.ingest.otlp.payload import DecodeError, TooLarge

D = TypeVar("D")
T = TypeVar("T")

_INLINE_BYTES: Final = 512 * 1024
_INLINE_LIMITS: Final = {
    "protobuf": DecodeLimits(512 * 1024, max_spans=1000, max_values=10_000, max_fields_per_span=4_000),
    "json": DecodeLimits(64 * 1024, max_spans=1000, max_values=2_000),
}
"""The limits of a body that is decoded on the event loop."""
_REST: Final = 4
"""A decoder rests so many times as long as it worked on a body that was refused."""
_LONGEST_REST_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.002
"""After each step, while other tenants are about and until one wants its turn: each step of theirs, in reads too, would
wait for one of ours. One sender then has a third of the loop; with steps and rests of two milliseconds, half of it, the
ingest of others took 1.5 times as long beside it (docs/benchmarks/fairness.md)."""
_PATIENCE_SECONDS: Final = 10.0
"""A request waits for its turn to be decoded for so long."""
_QUICK_DECODING_SECONDS: Final = 0.25


def _too_many_waiting() -> Overloaded:
    return Overloaded("too many requests wait to be decoded")


class BodyWork:
    """The decoders and turns of one process, which its requests share."""

    def __init__(self, limits: DecodeLimits, decoders: int) -> None:
        """``decoders``: threads, and so large bodies that are decoded at once."""
        self.limits = limits
        self._decoders = FairQueue(
            "decoders",
            decoders,
            patience=_PATIENCE_SECONDS,
            exhausted=_too_many_waiting,
            quick_seconds=_QUICK_DECODING_SECONDS,
        )
        self._turns = FairQueue("ingest turns", 1, patience=_PATIENCE_SECONDS, exhausted=_too_many_waiting)
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="otlp-decode")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    def decoder(self) -> AbstractAsyncContextManager[Place]:
        """Wait for a decoder, whose holder may call :meth:`in_thread`. Raises Overloaded, ShareExhausted."""
        return self._decoders.hold()

    def turn(self) -> AbstractAsyncContextManager[Place]:
        """Wait for a turn on the event loop, for some milliseconds of work. Raises Overloaded, ShareExhausted."""
        return self._turns.hold()

    async def decoded(
        self,
        decode: Callable[[bytes, str, str | None, DecodeLimits], D],
        body: bytes,
        content_type: str,
        content_encoding: str | None,
        read: Callable[[D], Awaitable[T]],
    ) -> T:
        """Return what ``read`` makes of the decoded body. Raises DecodeError, Overloaded, ShareExhausted.

        A body that turns out to be small is decoded at once; any other in a thread, which is kept until it is read: the
        number of threads bounds the memory that large bodies need.

        How large a body is shows only when it is decoded: two kilobytes of gzip may be half a million empty objects. So
        decoding it at once has limits of its own, under which it takes some 15 ms at most.
        """
        if len(body) <= _INLINE_BYTES:
            async with self.turn():
                limits = _INLINE_LIMITS[payload_encoding(content_type)]
                try:
                    decoded = decode(body, content_type, content_encoding, self.limits.within(limits))
                except TooLarge:
                    decoded = None  # perhaps only for here
            if decoded is not None:
                return await read(decoded)
        async with self.decoder():
            began = time.perf_counter()
            try:
                decoded = await self.in_thread(lambda: decode(body, content_type, content_encoding, self.limits))
            except DecodeError:
                # Of no use to anybody, and no rate counts it: whoever sends such bodies has less of a decoder.
                await asyncio.sleep(min(_REST * (time.perf_counter() - began), _LONGEST_REST_SECONDS))
                raise
            return await read(decoded)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``. A caller that goes away holds its decoder until the thread is free."""
        result = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            while not result.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([result])
            result.exception()  # nobody else retrieves it
            raise
        finally:
            # An error holds the frames that it passed, such as this one, and a future holds its error. As a circle they
            # would keep the body, and all that was decoded of it, until the collector looks at old objects.
            del result

    async def in_turns(self, steps: Generator[None, None, T]) -> T:
        """Return the result of ``steps``, run some milliseconds at a time: others go on in between."""
        place: Place | None = await self._turns.take()
        try:
            turn_ends = time.perf_counter() + _STEP_SECONDS
            while True:
                next(steps)
                if place is not None and time.perf_counter() >= turn_ends:
                    held, place = place, None  # while it is passed on, it is not ours to give back
                    place = await self._turns.pass_on(held, _REST_SECONDS)
                    turn_ends = time.perf_counter() + _STEP_SECONDS
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            if place is not None:
                self._turns.give_back(place)


def run_to_the_end(steps: Generator[None, None, T]) -> T:
    """Return the result of ``steps``, all at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
