"""Group commit: requests that wait at the same time share one transaction.

A commit costs a disk flush however many rows it holds. A writer takes the rows that have arrived since the last commit
ended, without waiting for more; so a lone request is not delayed, and under load one flush serves dozens of requests.
Each request is answered after the COMMIT that holds its rows.

Projects are served fairly: next comes the one that has taken least of the writers' time lately. While several projects
send, a transaction takes fewer rows of each, a project has rows in one transaction only, and a project with few rows is
not put into a transaction with one that has many.
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

from server.errors import ApiError, DatabaseUnavailable, InternalError, Overloaded, ShareExhausted
from server.fairness.party import server_context
from server.fairness.usage import Usage
from server.ingest.writing.prepared_span import PreparedSpan
from server.ingest.writing.span_defects import span_defect
from server.ingest.writing.span_writer import SpanWriter
from server.telemetry.observations import SpansStored, observe

logger = logging.getLogger("observatory.ingest")

_MOST_ROWS = 1000
_ROWS_FOR_ANOTHER = 400
"""Rows that must be waiting before another writer starts: one large transaction is cheaper than two small ones."""
_MOST_BYTES = 16 * 1024 * 1024
_SHARED_ROWS = 250
"""Most rows of one project at a time while several send: about 40 ms of work."""
_FEW_ROWS = 50
_ALONE_PART, _SHARED_PART = 0.8, 0.4
"""Part of the waiting room that one project may fill: while no other sends, and while others do."""
_ABOUT_SECONDS = 10.0
_FORGET_SECONDS = 60.0
_CONFLICT_TRIES = 4
_LOST_CONNECTION_TRIES = 3

# The batch is at fault: PostgreSQL or the driver refuses a value in it.
_VALUE_STATES = ("22", "23", "54")
_VALUE_ERRORS = (asyncpg.exceptions.DataError, OverflowError, TypeError, UnicodeError, ValueError)
# Two transactions conflicted; the next attempt finds the other one finished.
_CONFLICT_STATES = {"40001": 1, "40P01": 1, "55P03": _CONFLICT_TRIES}
"""Weight of each: who waited for a lock in vain (55P03) has taken four seconds of a sender's ten, so that is the only
try.
"""
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


@dataclass(slots=True, eq=False)
class _Project:
    """The requests of one project that wait, and the writing time it has used."""

    waiting: deque[_Submission] = field(default_factory=deque)
    waiting_rows: int = 0
    pending_rows: int = 0
    """Rows that wait or are being stored."""
    pending_bytes: int = 0
    is_written: bool = False
    usage: Usage = field(default_factory=Usage)
    """Seconds of writers."""
    last_seen: float = 0.0

    def is_quiet(self, now: float) -> bool:
        """Return whether the project has sent nothing for a while."""
        return not self.pending_rows and now - self.last_seen > _ABOUT_SECONDS

    def is_over(self, now: float) -> bool:
        """Return whether the project may be forgotten."""
        return not self.pending_rows and now - self.last_seen > _FORGET_SECONDS

    def take(self, most_rows: int, most_bytes: int) -> list[_Submission]:
        """Take the oldest requests that wait, up to these bounds, but at least one."""
        batch: list[_Submission] = []
        rows = size = 0
        while self.waiting:
            submission = self.waiting[0]
            if batch and (rows + len(submission.spans) > most_rows or size + submission.size > most_bytes):
                break
            batch.append(self.waiting.popleft())
            rows += len(submission.spans)
            size += submission.size
        self.waiting_rows -= rows
        return batch


@dataclass(slots=True)
class _Submission:
    spans: list[PreparedSpan]
    size: int
    project: _Project
    done: asyncio.Future[list[Refusal]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommit:
    """The waiting room in front of a :class:`SpanWriter`, served by ``writers`` tasks."""

    def __init__(
        self,
        writer: SpanWriter,
        *,
        writers: int,
        most_pending_rows: int,
        most_pending_bytes: int,
        apart: bool = False,
    ) -> None:
        """The two limits bound the spans that may wait for a commit; beyond them :meth:`submit` raises Overloaded.

        ``apart``: each project has transactions of its own, which go to its node of a cluster and fail with that alone.
        """
        self._writer = writer
        self._apart = apart
        self._writers = writers
        self._most_rows = most_pending_rows
        self._most_bytes = most_pending_bytes
        self._projects: dict[str, _Project] = {}
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
        project = self._project(spans[0].key[0])
        part = _SHARED_PART if self._is_shared(time.monotonic()) else _ALONE_PART
        if project.pending_rows and (
            project.pending_rows + len(spans) > self._most_rows * part
            or project.pending_bytes + size > self._most_bytes * part
        ):
            raise ShareExhausted(
                "Too many spans of the project wait to be stored; try again.", headers={"Retry-After": "1"}
            )
        submission = _Submission(spans, size, project)
        self._count(submission, 1)
        project.waiting.append(submission)
        project.waiting_rows += len(spans)
        self._wake()
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._serve(n), name=f"span writer {n}", context=server_context())
                for n in range(self._writers)
            ]
        try:
            return await asyncio.shield(submission.done)
        finally:
            del spans, submission  # its error would hold this frame, and this frame the rows

    async def close(self) -> None:
        """Store waiting spans, and stop."""
        self._closed = True
        self._wake()
        if self._tasks:
            await asyncio.gather(*self._tasks)

    def _project(self, name: str) -> _Project:
        now = time.monotonic()
        project = self._projects.get(name)
        if project is None:
            idle = [key for key, item in self._projects.items() if item.is_over(now)]
            for key in idle:
                del self._projects[key]
            project = self._projects[name] = _Project()
        project.last_seen = now
        return project

    def _count(self, submission: _Submission, sign: int) -> None:
        """Count what is pending: ``sign`` 1 when it comes, -1 when it is done."""
        for holder in (self, submission.project):
            holder.pending_rows += sign * len(submission.spans)
            holder.pending_bytes += sign * submission.size

    async def _serve(self, number: int) -> None:
        """Commit what waits; a writer after the first helps out where enough waits, or somebody else's is at work."""
        while True:
            batch = self._take(number)
            if batch:
                await self._commit(batch)
                continue
            if self._closed and not self._waiting_projects():
                return
            arrived = self._arrived[number]
            arrived.clear()
            await arrived.wait()

    def _wake(self) -> None:
        for arrived in self._arrived:
            arrived.set()

    def _is_shared(self, now: float) -> bool:
        """Return whether several projects send."""
        return sum(not project.is_quiet(now) for project in self._projects.values()) > 1

    def _waiting_projects(self) -> list[_Project]:
        return [project for project in self._projects.values() if project.waiting]

    def _take(self, number: int) -> list[_Submission]:
        """Take the requests that writer ``number`` stores next; none where it had better wait."""
        now = time.monotonic()
        waiting = self._waiting_projects()
        is_shared = self._is_shared(now)
        if is_shared:
            waiting = [project for project in waiting if not project.is_written]
        elif not self._closed and sum(item.waiting_rows for item in waiting) < number * _ROWS_FOR_ANOTHER:
            return []
        if not waiting:
            return []
        lead = min(waiting, key=lambda project: project.usage.at(now))
        batch = lead.take(_SHARED_ROWS if is_shared else _MOST_ROWS, _MOST_BYTES)
        rows = sum(len(submission.spans) for submission in batch)
        size = sum(submission.size for submission in batch)
        for other in sorted([] if self._apart else waiting, key=lambda project: project.waiting_rows):
            # As small as the lead, or so small that it hardly makes a difference.
            most = min(max(rows, _FEW_ROWS), _MOST_ROWS - rows)
            if other is not lead and other.waiting_rows <= most and (more := other.take(most, _MOST_BYTES - size)):
                batch += more
                rows += sum(len(submission.spans) for submission in more)
                size += sum(submission.size for submission in more)
        return batch

    async def _commit(self, batch: Sequence[_Submission]) -> None:
        spans = [span for submission in batch for span in submission.spans]
        projects = {id(submission.project): submission.project for submission in batch}.values()
        for project in projects:
            project.is_written = True
        started = time.perf_counter()
        try:
            outcome = await self._store(spans)
        except Exception as error:
            problem = error if isinstance(error, ApiError) else InternalError()
            if problem is not error or isinstance(error, InternalError):
                logger.exception("a batch of %d spans could not be stored", len(spans))
            for submission in batch:
                _settle(submission, problem.with_traceback(None))  # else it holds this frame, and so the submission
        else:
            unchanged = len(spans) - outcome.stored - len(outcome.refusals)
            observe(SpansStored(len(batch), outcome.stored, unchanged, time.perf_counter() - started))
            by_span = {id(refusal.span): refusal for refusal in outcome.refusals}
            for submission in batch:
                _settle(submission, [by_span[id(span)] for span in submission.spans if id(span) in by_span])
        finally:
            now, seconds = time.monotonic(), time.perf_counter() - started
            for project in projects:
                project.is_written = False
            for submission in batch:
                self._count(submission, -1)
                submission.project.usage.add(seconds * len(submission.spans) / len(spans), now)
            self._wake()

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
                if isinstance(error, DatabaseUnavailable) and error.absent:
                    raise
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
