"""The background work that makes vectors of stored spans, the newest first.

One process at a time does it (the row of ``embedding_lease``). New spans come from the feed that live tails read, so
ingest does nothing for it; all others are found by a walk (:mod:`server.semantic.stored_walk`) at the start, after
the backlog overflowed, and after a pause longer than the feed is kept.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection
from typing import Final

from server.embedding.embedder import Embedder, EmbedderFailed
from server.errors import ApiError, DatabaseUnavailable
from server.periodic_task import PeriodicTask
from server.queries.lists.change_reader import feed_now, read_feed
from server.queries.lists.feed_position import FeedPosition
from server.semantic.backlog import Backlog, SpanKey
from server.semantic.busy_machine import BusyMachine
from server.semantic.embedding_models import EmbeddingModel, EmbeddingModels
from server.semantic.stored_walk import StoredWalk
from server.semantic.token_budget import TokenBudget
from server.semantic.vector_writer import VectorWriter
from server.storage.database import Database
from server.storage.living_nodes import living_projects
from server.storage.statements import statement
from server.telemetry.observations import BackgroundWorkFailed, EmbedderLost, EmbeddingBacklog, observe

LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0
FEED_PAGE: Final = 1000
FEED_RELIED_ON_SECONDS: Final = 600.0
"""After a longer pause the feed may have been trimmed (:data:`server.live.live_tail.FEED_KEPT_SECONDS`)."""
IDLE_SECONDS: Final = 1.0
REST_SECONDS: Final = 30.0
"""How long the projects of a node that is away are left alone."""
LONGEST_REST: Final = 60.0
"""Longest pause after a failure of the embedder."""
_PROBE: Final = "length of a vector"


class VectorIndexer:
    """The work of one process."""

    def __init__(
        self,
        reads: Database,
        writes: Database,
        worker: Database,
        embedder: Embedder,
        *,
        model: str,
        batch: int,
        budget: TokenBudget,
        price: float = 0.0,
        backlog: Backlog | None = None,
        machine: BusyMachine | None = None,
    ) -> None:
        """``batch``: number of spans whose vectors are made together. ``price``: US dollars for a million tokens."""
        self._worker = worker
        self._embedder = embedder
        self._model_name = model
        self._batch = batch
        self._budget = budget
        self._models = EmbeddingModels(worker)
        self._writer = VectorWriter(reads, writes, embedder, price=price)
        self._walk = StoredWalk(worker)
        self._holder = secrets.token_hex(8)
        self._renewed_at = float("-inf")
        self._position: FeedPosition | None = None
        self._read_at = 0.0
        self._model: EmbeddingModel | None = None
        self._failures = 0
        self._resting: dict[str, float] = {}
        self.backlog = Backlog() if backlog is None else backlog
        self._machine = BusyMachine() if machine is None else machine
        self.task = PeriodicTask("embedding", self._work, pause=IDLE_SECONDS, first_pause=0.0)

    async def _work(self) -> None:
        """Work until nothing is left for the moment, or something fails."""
        while await self.step():
            wait = max(self._budget.wait_seconds(), self._machine.rest_seconds())
            if wait:
                observe(EmbeddingBacklog(len(self.backlog), not self._walk.is_over))
                await asyncio.sleep(min(wait, RENEW_SECONDS))

    async def step(self) -> bool:
        """Do one batch if there is one; return whether to go on at once. Raises the database's errors."""
        if not await self._has_lease():
            self._position = None
            return False
        try:
            model = self._model or await self._register()
            await self._hear()
            self._wake_rested()
            if self.backlog.let_go and self._walk.is_over:
                self.backlog.let_go = False
                await self._walk.begin()
            if not len(self.backlog) and not self._walk.is_over:
                await self._walk_on(model)
            if self._budget.wait_seconds():
                return True
            # Small ones on a busy machine: others feel no bursts.
            batch = self.backlog.take(max(1, self._batch // 8) if self._machine.is_busy else self._batch)
            await self._write(model, batch)
        except EmbedderFailed as failure:
            self._model = None  # it may be another one behind the same name, when it is back
            self._failures += 1
            observe(EmbedderLost(str(failure)))
            await asyncio.sleep(min(2.0**self._failures, LONGEST_REST) / 2)
            return False
        self._failures = 0
        observe(EmbeddingBacklog(len(self.backlog), not self._walk.is_over))
        return bool(batch) or not self._walk.is_over

    async def _write(self, model: EmbeddingModel, batch: list[tuple[SpanKey, bool]]) -> None:
        if not batch:
            return
        try:
            written = await self._writer.write(model, batch)
        except (EmbedderFailed, ApiError, asyncio.CancelledError):
            for key, is_update in batch:
                self.backlog.add(key, is_update=is_update)
            raise
        self._budget.spend(written.tokens)
        if written.absent:
            await self._let_rest(written.absent)
        for key, is_update in batch:
            if key.project_id in written.absent:
                self.backlog.add(key, is_update=is_update)

    async def _walk_on(self, model: EmbeddingModel) -> None:
        try:
            found = await self._walk.step(model.model_id)
        except DatabaseUnavailable as error:
            if not error.absent:
                raise
            await self._let_rest(error.absent)
        else:
            for key in found:
                self.backlog.add(key)

    async def _let_rest(self, found: Collection[str]) -> None:
        """Leave alone for a while the projects of nodes that are away; ``found`` are some of them."""
        observe(BackgroundWorkFailed(task=self.task.name, cause=DatabaseUnavailable.code))
        for project in (self._walk.projects | frozenset(found)) - await living_projects(self._worker):
            self._resting[project] = time.monotonic() + REST_SECONDS
            self.backlog.hold(project)
        self._walk.left_out = self._resting.keys()

    def _wake_rested(self) -> None:
        now = time.monotonic()
        for project in [name for name, until in self._resting.items() if until <= now]:
            del self._resting[project]
            self.backlog.release(project)

    async def _has_lease(self) -> bool:
        """Return whether this process does the work: only one does; another takes over half a minute after its last
        renewal.
        """
        now = time.monotonic()
        if now - self._renewed_at < RENEW_SECONDS:
            return True
        async with self._worker.unscoped() as connection:
            is_ours = await connection.fetchval(statement("take_embedding_lease"), self._holder, LEASE_SECONDS)
        self._renewed_at = now if is_ours else float("-inf")
        return bool(is_ours)

    async def _register(self) -> EmbeddingModel:
        answer = await self._embedder.embed([_PROBE], self._model_name)
        try:
            self._model = await self._models.register(self._model_name, answer.vectors.shape[1])
        except ValueError as error:
            raise EmbedderFailed(str(error)) from error
        return self._model

    async def _hear(self) -> None:
        """Add the spans of the feed to the backlog."""
        now = time.monotonic()
        if self._position is None or now - self._read_at > FEED_RELIED_ON_SECONDS:
            async with self._worker.unscoped() as connection:
                self._position = await feed_now(connection)
            await self._walk.begin()
        while True:
            async with self._worker.unscoped() as connection:
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                page = await read_feed(connection, self._position, most=FEED_PAGE)
            for change in page.changes:
                key = SpanKey(change.ts, change.project_id, change.trace_id, change.span_id)
                self.backlog.add(key, is_update=change.is_update)
            self._position = page.position
            if not page.has_more:
                break
        self._read_at = now
