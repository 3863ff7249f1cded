"""Tokens that tell every server process which cached answers are stale.

An answer is stored together with the *tokens* of the data it depends on. A commit replaces these tokens, and an answer
whose tokens differ from the current ones is not used. Redis has three kinds of token per project:

    live    changes with every commit: answers whose window ends less than an hour ago
    closed  changes when a commit touched spans older than that hour: answers of older windows
    traces  changes when a commit had too many traces to name each; else there is one token per trace
    gone    changes when something was deleted: answers that may be some seconds old, but must not show deleted content

A token is random and outlives every answer that was stored under it, so it may expire: afterwards "no token" is again a
state that no stored answer shares.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from server.fairness.party import server_context
from server.storage.redis_line import Command
from server.storage.redis_store import RedisStore, RedisUnavailable

CLOSED_AFTER: Final = timedelta(hours=1)
"""A window that ended this long ago is closed: new spans in it are the exception."""

LONGEST_TTL_SECONDS: Final = 300
TOKEN_SECONDS: Final = 2 * LONGEST_TTL_SECONDS
COALESCE_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 0.5
GONE_PATIENCE_SECONDS: Final = 2.5
"""Seconds that a deletion waits for a failing Redis: just longer than the circuit breaker stays open."""
MAX_NAMED_TRACES: Final = 1000
_GONE_PAUSE_SECONDS: Final = 0.05

# Allowance for clocks of two machines that differ: a commit counts as older than an hour this much earlier.
_CLOCK_MARGIN: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Touched:
    """Changes of one commit in one project: the span times and the traces."""

    min_ts: datetime
    max_ts: datetime
    trace_ids: frozenset[str]
    has_deleted: bool = False
    """Whether content was deleted."""

    def merged(self, other: Touched) -> Touched:
        """Return both changes as one."""
        return Touched(
            min(self.min_ts, other.min_ts),
            max(self.max_ts, other.max_ts),
            self.trace_ids | other.trace_ids,
            self.has_deleted or other.has_deleted,
        )


def window_is_closed(window_end: datetime | None, now: datetime | None = None) -> bool:
    """Return whether a window ended more than an hour ago; ``None`` means "until now"."""
    return window_end is not None and window_end <= (now or datetime.now(UTC)) - CLOSED_AFTER


def window_keys(projects: Iterable[str], *, closed: bool) -> list[str]:
    """Return the Redis keys of the tokens that an answer about a window of ``projects`` depends on."""
    kind = "closed" if closed else "live"
    return [f"obs:fresh:{project}:{kind}" for project in projects]


def trace_keys(projects: Iterable[str], trace_id: str) -> list[str]:
    """Return the Redis keys of the tokens that an answer about one trace depends on."""
    name = _trace_name(trace_id)
    return [key for project in projects for key in (f"obs:fresh:{project}:traces", f"obs:fresh:{project}:t:{name}")]


def gone_keys(projects: Iterable[str]) -> list[str]:
    """Return the Redis keys of the tokens that change with every deletion in ``projects``."""
    return [f"obs:fresh:{project}:gone" for project in projects]


def _trace_name(trace_id: str) -> str:
    return hashlib.blake2b(trace_id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class Freshness:
    """Writes new tokens after each commit. Shared by all requests of a process."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._pending: dict[str, Touched] = {}
        self._pending_since = 0.0
        self._next_write_at = 0.0
        self._writing = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None
        self._edit_watchers: list[Callable[[], None]] = []
        self._edits = 0
        self._commit_watchers: list[Callable[[Iterable[str]], None]] = []

    def on_edit(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` whenever a person edits data through this process."""
        self._edit_watchers.append(watcher)

    def on_commit(self, watcher: Callable[[Iterable[str]], None]) -> None:
        """Call ``watcher`` with the projects of every commit of this process, without delay."""
        self._commit_watchers.append(watcher)

    async def edited(self, project_id: str, start: datetime, end: datetime) -> None:
        """Mark an edit by a person between ``start`` and ``end``, like :meth:`touched`, but at once: its author looks
        at the result next."""
        self._tell()
        await self.touched({project_id: Touched(start, end, frozenset())})

    async def deleted(self, project_id: str, change: Touched) -> None:
        """Mark a deletion. Call after COMMIT, and answer the caller only afterwards.

        Unlike other changes it is written at once: when this returns, no process answers with the deleted content any
        more. There is one exception: if Redis fails for longer than this waits, nothing can be read from it meanwhile,
        but a process that reaches it first may answer with deleted content for half a second.
        """
        self._tell()
        self._remember({project_id: replace(change, has_deleted=True)})
        attempts = int(GONE_PATIENCE_SECONDS / _GONE_PAUSE_SECONDS) if self._store.redis is not None else 0
        try:
            while not await self._write() and attempts > 0:
                attempts -= 1
                await asyncio.sleep(_GONE_PAUSE_SECONDS)
        finally:
            self._write_soon()

    async def deletions(self, projects: Sequence[str]) -> tuple[Any, ...]:
        """Return a value that changes with every deletion in ``projects``; while Redis is down, only with those of this
        process.
        """
        edits = self._edits
        try:
            return (edits, *await self._store.values(gone_keys(projects)))
        except RedisUnavailable:
            return (edits,)

    async def touched(self, changes: Mapping[str, Touched]) -> None:
        """Make cached answers about ``changes`` (by project) stale. Call after COMMIT; Redis failures never raise.

        The first call writes at once; calls within the next 0.2 s are written together at the end of that time. So a
        busy project costs Redis five writes per second, and its live answers can still be shared for a moment.
        """
        if not changes:
            return
        for watcher in self._commit_watchers:
            watcher(changes)
        self._remember(changes)
        if self._later is not None:
            return
        if time.monotonic() >= self._next_write_at and await self._write():
            return
        self._write_soon()

    async def close(self) -> None:
        """Write pending tokens, and stop."""
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
            await asyncio.gather(later, return_exceptions=True)
        await self._write()

    def _tell(self) -> None:
        self._edits += 1
        for watcher in self._edit_watchers:
            watcher()

    def _remember(self, changes: Mapping[str, Touched]) -> None:
        if not self._pending:
            self._pending_since = time.monotonic()
        for project, change in changes.items():
            known = self._pending.get(project)
            self._pending[project] = change if known is None else known.merged(change)

    def _write_soon(self) -> None:
        if self._pending and self._later is None:
            self._later = asyncio.create_task(self._write_later(), context=server_context())

    async def _write_later(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._next_write_at - time.monotonic()))
            while self._pending and not await self._write():
                # An invalidation that could not be written within the life of an answer is no longer needed.
                if time.monotonic() - self._pending_since > LONGEST_TTL_SECONDS:
                    self._pending = {}
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            if self._later is asyncio.current_task():
                self._later = None
        self._write_soon()

    async def _write(self) -> bool:
        """Write all pending tokens. Return False, losing nothing, if Redis is down."""
        async with self._writing:  # a write in progress may fail, and its tokens are then pending again
            changes, self._pending = self._pending, {}
            if not changes:
                return True
            since = self._pending_since
            self._next_write_at = time.monotonic() + COALESCE_SECONDS
            keys = [key for project, change in changes.items() for key in _keys_of(project, change)]

            is_told = False
            try:
                commands: list[Command] = [["SET", key, secrets.token_hex(8), "EX", TOKEN_SECONDS] for key in keys]
                replies = await self._store.ask(*commands)
                is_told = all(reply == b"OK" for reply in replies)
            except RedisUnavailable:
                return False
            finally:
                # Also after a cancellation: repeating an invalidation is harmless; losing one is not.
                if not is_told:
                    self._remember(changes)
                    self._pending_since = since
            return is_told


def _keys_of(project: str, change: Touched) -> Sequence[str]:
    keys = window_keys([project], closed=False)
    if change.min_ts < datetime.now(UTC) - CLOSED_AFTER + _CLOCK_MARGIN:
        keys += window_keys([project], closed=True)
    if change.has_deleted:
        keys += gone_keys([project])
    if len(change.trace_ids) > MAX_NAMED_TRACES:
        keys.append(f"obs:fresh:{project}:traces")
    else:
        keys += [f"obs:fresh:{project}:t:{_trace_name(trace_id)}" for trace_id in change.trace_ids]
    return keys
