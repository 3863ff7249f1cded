"""Group commit: requests that wait at the same time share one transaction.

A commit costs a disk flush however many rows it holds. A writer takes the rows that have arrived since the last commit
ended, without waiting for more; so a lone request is not delayed, and under load one flush serves dozens of requests.
Each request is answered after the COMMIT that holds its rows.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from server.errors import ApiError, DatabaseUnavailable, InternalError, Overloaded
from server.ingest.writing.prepared_span import PreparedSpan
from server.ingest.writing.span_defects import span_defect
from server.ingest.writing.span_writer import SpanWriter
from server.telemetry.observations import SpansStored, observe

logger = logging.getLogger("observatory.ingest")

_MOST_ROWS = 1000
_ROWS_FOR_ANOTHER = 400
"""Rows that must be waiting before another writer starts: one large transaction is cheaper than two small ones."""
_MOST_BYTES = 16 * 1024 * 1024
_CONFLICT_TRIES = 4
_LOST_CONNECTION_TRIES = 3

# The batch is at fault: PostgreSQL or the driver refuses a value in it.
_VALUE_STATES = ("22", "23", "54")
_VALUE_ERRORS = (asyncpg.exceptions.DataError, OverflowError, TypeError, UnicodeError, ValueError)
# Two transactions conflicted; the next attempt finds the other one finished.
_CONFLICT_STATES = {"40001": 1, "40P01": 1, "55P03": 2}
"""Weight of each: a lock that was waited for in vain (55P03) has taken a second, so it is tried only twice."""
_LOST_STATES = ("08", "57P01", "57P02")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A span that was not stored, and the reason."""

    span: PreparedSpan
    reason: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    stored: int
    refusals: list[Refusal]


@dataclass(slots=True)
class _Submission:
    spans: list[PreparedSpan]
    size: int
    done: asyncio.Future[list[Refusal]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommit:
    """The waiting room in front of a :class:`SpanWriter`, served by ``writers`` tasks."""

    def __init__(self, writer: SpanWriter, *, writers: int, most_pending_rows: int, most_pending_bytes: int) -> None:
        """The two limits bound the spans that may wait for a commit; beyond them :meth:`submit` raises Overloaded."""
        self._writer = writer
        self._writers = writers
        self._most_rows = most_pending_rows
        self._most_bytes = most_pending_bytes
        self._waiting: deque[_Submission] = deque()
        self._waiting_rows = 0
        self._arrived = [asyncio.Event() for _ in range(writers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.pending_rows = 0
        self.pending_bytes = 0

    async def submit(self, spans: list[PreparedSpan]) -> list[Refusal]:
        """Store ``spans``; return, after COMMIT, the few that PostgreSQL refused.

        Raises Overloaded if too much is waiting already, DatabaseUnavailable if they cannot be stored now. Cancelling
        the caller does not undo it: accepted spans are stored.
        """
        if not spans:
            return []
        size = sum(span.size for span in spans)
        is_full = self.pending_rows + len(spans) > self._most_rows or self.pending_bytes + size > self._most_bytes
        if self._closed or (is_full and self.pending_rows):
            raise Overloaded("too many spans wait to be stored")
        submission = _Submission(spans, size)
        self.pending_rows += len(spans)
        self.pending_bytes += size
        self._waiting.append(submission)
        self._waiting_rows += len(spans)
        self._wake()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._serve(n), name=f"span writer {n}") for n in range(self._writers)]
        return await asyncio.shield(submission.done)

    async def close(self) -> None:
        """Store waiting spans, and stop."""
        self._closed = True
        self._wake()
        if self._tasks:
            await asyncio.gather(*self._tasks)

    async def _serve(self, number: int) -> None:
        """Commit waiting spans; a writer after the first helps out when enough are waiting."""
        while not (self._closed and not self._waiting):
            if self._waiting and (self._waiting_rows >= number * _ROWS_FOR_ANOTHER or self._closed):
                await self._commit(self._take())
                continue
            arrived = self._arrived[number]
            arrived.clear()
            await arrived.wait()

    def _wake(self) -> None:
        for arrived in self._arrived:
            arrived.set()

    def _take(self) -> list[_Submission]:
        batch: list[_Submission] = []
        rows = size = 0
        while self._waiting:
            submission = self._waiting[0]
            if batch and (rows + len(submission.spans) > _MOST_ROWS or size + submission.size > _MOST_BYTES):
                break
            batch.append(self._waiting.popleft())
            rows += len(submission.spans)
            size += submission.size
        self._waiting_rows -= rows
        return batch

    async def _commit(self, batch: Sequence[_Submission]) -> None:
        spans = [span for submission in batch for span in submission.spans]
        started = time.perf_counter()
        try:
            outcome = await self._store(spans)
        except Exception as error:
            problem = error if isinstance(error, ApiError) else InternalError()
            if problem is not error or isinstance(error, InternalError):
                logger.exception("a batch of %d spans could not be stored", len(spans))
            for submission in batch:
                _settle(submission, problem)
        else:
            unchanged = len(spans) - outcome.stored - len(outcome.refusals)
            observe(SpansStored(len(batch), outcome.stored, unchanged, time.perf_counter() - started))
            by_span = {id(refusal.span): refusal for refusal in outcome.refusals}
            for submission in batch:
                _settle(submission, [by_span[id(span)] for span in submission.spans if id(span) in by_span])
        finally:
            for submission in batch:
                self.pending_rows -= len(submission.spans)
                self.pending_bytes -= submission.size

    async def _store(self, spans: Sequence[PreparedSpan]) -> _Outcome:
        """Store all spans that can be stored.

        If PostgreSQL rejects a value, retry without the known-bad spans; if none is known, bisect.
        """
        try:
            return _Outcome(await self._store_whole(spans), [])
        except _RefusedValue as refused:
            defects = {id(span): defect for span in spans if (defect := span_defect(span)) is not None}
            if len(spans) == 1:
                defects.setdefault(id(spans[0]), refused.reason)
            if defects:
                logger.warning("spans were refused by the database", extra={"reasons": sorted(set(defects.values()))})
                sound = [span for span in spans if id(span) not in defects]
                outcome = await self._store(sound) if sound else _Outcome(0, [])
                found = [Refusal(span, defects[id(span)]) for span in spans if id(span) in defects]
                return _Outcome(outcome.stored, found + outcome.refusals)
            middle = len(spans) // 2
            first, second = await self._store(spans[:middle]), await self._store(spans[middle:])
            return _Outcome(first.stored + second.stored, first.refusals + second.refusals)

    async def _store_whole(self, spans: Sequence[PreparedSpan]) -> int:
        """Store ``spans`` in one transaction, again after a conflict or a lost connection; return the number of new and
        changed rows.
        """
        conflicts = losses = 0
        while True:
            try:
                return await self._writer.store(spans)
            except _VALUE_ERRORS as error:
                raise _RefusedValue("a value cannot be encoded") from error
            except ApiError as error:
                state = getattr(error.__cause__, "sqlstate", None) or ""
                if state.startswith(_VALUE_STATES):
                    raise _RefusedValue(f"the database refuses a value (SQLSTATE {state})") from error
                if isinstance(error.__cause__, _VALUE_ERRORS):
                    raise _RefusedValue("a value cannot be encoded") from error
                conflicts += _CONFLICT_STATES.get(state, 0)
                is_lost = state.startswith(_LOST_STATES) or isinstance(
                    error.__cause__, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError
                )
                # No answer in time (an OSError to Python): the sender has waited long enough.
                is_lost = is_lost and not isinstance(error.__cause__, TimeoutError)
                losses += is_lost
                if isinstance(error, InternalError):
                    raise
                may_retry = (state in _CONFLICT_STATES and conflicts < _CONFLICT_TRIES) or (
                    is_lost and losses < _LOST_CONNECTION_TRIES
                )
                if not may_retry:
                    raise DatabaseUnavailable("the spans cannot be stored at the moment") from error
            await asyncio.sleep(random.uniform(0.005, 0.05) * (conflicts + 2 * losses))  # noqa: S311


class _RefusedValue(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _settle(submission: _Submission, outcome: list[Refusal] | ApiError) -> None:
    if submission.done.done():
        return
    if isinstance(outcome, ApiError):
        submission.done.set_exception(outcome)
        # A caller that went away never retrieves it.
        submission.done.exception()
    else:
        submission.done.set_result(outcome)
