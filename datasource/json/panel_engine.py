"""The engine that answers the targets of a panel: concurrently, within limits, each question once.

* All panels of a process share a few places at the database, fairly by tenant, so that fifty open dashboards leave
connections for all other questions of their tenant. A dashboard sends the questions of all its panels at once, so these
may wait longer than other questions; one that waits too long is answered 504. * Equal questions share one answer: while
one is being computed (here and in other processes, by
  :class:`~server.cache.result_cache.ResultCache`), and afterwards until data of its window changes.
* Windows that move with now are moved in ticks of one to five seconds, so that the viewers of one
  dashboard ask equal questions; within a tick an answer is computed again only if data was deleted, not if data was
  added.
* If some targets fail, each becomes a notice; if all fail, the request fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, NamedTuple

import orjson
from cachetools import TLRUCache
from sanic import Request

from datasource.json.evaluation import FAMILIES
from datasource.json.variables import ValuesQuestion, read_values
from datasource.panels.frames import Notice, frame_size, notice_frame
from datasource.panels.panel_request import PanelRequest, PanelTarget
from datasource.panels.target_question import TargetQuestion, read_target
from datasource.targets.core import Core
from datasource.targets.spans import RANKINGS
from server.access.principal import Principal
from server.cache.freshness import Freshness
from server.cache.result_cache import Answer, CacheQuestion, ResultCache
from server.errors import ApiError, QueryTimeout, QueryTooLarge
from server.fairness.fair_queue import FairQueue
from server.fairness.party import current_party
from server.fairness.presence import THIS_PROCESS
from server.fairness.processors import THIS_MACHINE
from server.queries.filters.time_range import BoundedRange
from server.queries.records.project_list import ProjectList
from server.semantic.meaning_search import MeaningSearch
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import ceil_to
from server.text.json_text import dumps

LONGEST_TICK_SECONDS: Final = 5
MAX_RECENT: Final = 200
MAX_RECENT_BYTES: Final = 256 * 1024
MAX_ANSWER_BYTES: Final = 5_000_000
"""Most values of all targets of one panel together: a browser cannot draw more."""
_TOO_LARGE: Final = "the panel has too many values: choose fewer groups, a shorter range or a wider interval"


class _Recent(NamedTuple):
    """An answer about a window that moves with now."""

    seconds: float
    """The tick for which the answer is valid."""
    deletions: tuple[Any, ...]
    """The freshness tokens read before it was computed."""
    answer: bytes


class PanelEngine:
    """Shared by all requests of a process."""

    def __init__(
        self,
        database: Database,
        projects: ProjectList,
        cache: ResultCache,
        freshness: Freshness,
        *,
        concurrency: int,
        timeout: float,
        meaning: MeaningSearch | None = None,
    ) -> None:
        """``concurrency``: most questions that use the database at the same time. ``timeout``: seconds per question,
        waiting included."""
        self._database = database
        self._projects = projects
        self._cache = cache
        self._timeout = timeout
        self._meaning = meaning
        self._places = FairQueue(
            "panel places",
            concurrency,
            patience=timeout,
            exhausted=lambda: QueryTimeout(self._too_long),
            rests_while=THIS_MACHINE.are_busy,
            presence=THIS_PROCESS,
        )
        self._freshness = freshness
        self._recent: TLRUCache[str, _Recent] = TLRUCache(MAX_RECENT, lambda _, recent, now: now + recent.seconds)
        freshness.on_edit(self._recent.clear)

    async def check(self) -> None:
        """Check that the database answers. Raises the API's error for a failure of the driver."""
        async with self._database.plain() as connection:
            await connection.fetch(statement("list_project_ids"))

    async def values(self, asked: ValuesQuestion, principal: Principal) -> list[tuple[str, int | None]]:
        """Return the values of a field with counts, for variables and menus; cached like panels."""
        principal.require(asked.question.definition.permission)
        projects = asked.question.projects
        scope = principal.scope(projects, await self._projects.ids(principal.expected(projects)))
        window = align(asked.question.time_range, LONGEST_TICK_SECONDS)
        asked = replace(asked, question=replace(asked.question, time_range=window))
        question = CacheQuestion(
            kind="values",
            scope=scope,
            document={"field": asked.field, "search": asked.search, **asked.question.canonical()},
            window_end=window.end,
        )

        async def compute() -> Answer:
            async with self._in_time():
                return Answer(await read_values(self._database, scope, asked))

        found = (await self._cache.answer(question, compute)).data
        return [(value, count) for value, count in orjson.loads(found)]

    async def answer(self, request: PanelRequest, principal: Principal) -> bytes:
        """Return the body of ``/query``: a JSON array of frames in the order of the targets."""
        outcomes = await asyncio.gather(
            *(self._answer_target(target, request, principal) for target in request.targets),
            return_exceptions=True,
        )
        parts: list[bytes] = []
        failures: list[tuple[PanelTarget, ApiError]] = []
        size = 0
        for target, outcome in zip(request.targets, outcomes, strict=True):
            if isinstance(outcome, ApiError):
                failures.append((target, outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            elif size + len(outcome) > MAX_ANSWER_BYTES:
                failures.append((target, QueryTooLarge(_TOO_LARGE)))
            elif outcome != b"[]":
                parts.append(outcome[1:-1])
                size += len(outcome)
        if failures and len(failures) == len(request.targets):
            raise failures[0][1]
        # Notices are last, because some panels only use the first frame.
        for target, error in failures:
            notice = Notice(f"Query {target.ref_id} failed: {error.detail}", "error")
            parts.append(dumps(notice_frame(target.ref_id, notice)))
        return b"[" + b",".join(parts) + b"]"

    async def _answer_target(self, target: PanelTarget, request: PanelRequest, principal: Principal) -> bytes:
        return await self.answer_question(read_target(target, request), principal)

    async def answer_question(self, question: TargetQuestion, principal: Principal) -> bytes:
        """Return the frames of one question as a JSON array; authorise first, even if the answer is cached."""
        existing = await self._projects.ids(principal.expected(question.projects))
        scope = principal.scope(question.projects, existing)
        family = FAMILIES[question.definition.family]
        principal.require(question.definition.permission)
        for permission, what in sorted(family.permissions(question).items()):
            principal.require(permission, what)
        tick = tick_seconds(question)
        question = replace(question, time_range=align(question.time_range, tick))
        asked = CacheQuestion(
            kind="panel",
            scope=scope,
            document=question.canonical(),
            window_end=question.time_range.end,
            trace_id=question.values.get("trace_id"),
        )
        key = asked.key
        deletions = await self._freshness.deletions(scope.projects) if question.time_range.is_relative else None
        remembered = self._recent.get(key)
        if remembered is not None and deletions == remembered.deletions:
            return remembered.answer

        async def compute() -> Answer:
            frames = await self._compute(question, scope)
            # Vectors come in the background, without a word to the cache.
            is_kept = all(question.values.get(name) is None for name in RANKINGS)
            return Answer(frames, values=sum(map(frame_size, frames)), is_complete=is_kept)

        found = (await self._cache.answer(asked, compute)).data
        if deletions is not None and len(found) <= MAX_RECENT_BYTES:
            self._recent[key] = _Recent(tick, deletions, found)
        return found

    async def _compute(self, question: TargetQuestion, scope: RowScope) -> list[dict[str, Any]]:
        family = FAMILIES[question.definition.family]
        async with self._in_time():
            return await family.evaluate(Core(self._database, scope, self._meaning), question)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Take one of the places; wait for the database longer than other questions do, but with a limit."""
        current_party.set(replace(current_party.get(), patience=self._timeout))
        try:
            async with asyncio.timeout(self._timeout), self._places.hold():
                yield
        except TimeoutError:
            raise QueryTimeout(self._too_long) from None

    @property
    def _too_long(self) -> str:
        return f"This panel took longer than {self._timeout:g} s: choose a shorter range or fewer groups."


def tick_seconds(question: TargetQuestion) -> int:
    """Return the step by which windows that move with now are moved: a quarter of a bucket, one to five seconds."""
    return min(max(question.step_seconds // 4, 1), LONGEST_TICK_SECONDS)


def align(time_range: BoundedRange, tick: int) -> BoundedRange:
    """Return a window that moves with now, moved forward to the next tick (so that no new data is cut off); any other
    window unchanged.
    """
    if not time_range.is_relative:
        return time_range
    width = timedelta(seconds=tick)
    return replace(time_range, start=ceil_to(time_range.start, width), end=ceil_to(time_range.end, width))


def panels_of(request: Request) -> PanelEngine:
    """Return the engine of the app that handles ``request``."""
    panels: PanelEngine = request.app.ctx.panels
    return panels
