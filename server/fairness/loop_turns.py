"""Turns of the event loop: the tenant that has used least of it goes first.

Handlers run on one event loop, some tenths of a millisecond at a time, in the order in which they become ready. A
tenant with many of them ready makes everybody else wait for all of these, at each step of each request. So each step of
a task is timed and charged to the party that the task works for (:mod:`server.fairness.party`). Once a tenant has used
much of the loop lately while others are about, its steps are put aside instead of being run: one of them runs whenever
the loop has been round with everything else, and the one of the tenant that has used least comes first. Nothing is lost
by that, as the loop never rests while a step waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine, Generator
from contextvars import Context
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from server.fairness.party import current_party, projects_of
from server.fairness.usage import Usage

T = TypeVar("T")

HALF_LIFE_SECONDS: Final = 1.0
MUCH: Final = 0.05
"""A tenant that used a larger part of the loop's time may have to let others go first."""
ABOUT_SECONDS: Final = 2.0
"""Another tenant is about for so long after its last step."""
_FORGET_SECONDS: Final = 5.0
_JUDGE_SECONDS: Final = 0.05
_JUDGE_PART: Final = 0.02
"""At most so much of the loop's time is spent on judging, however many tenants there are."""
_MUCH_SECONDS: Final = MUCH * HALF_LIFE_SECONDS / math.log(2)
"""What a steady use of this part comes to."""


class _Project:
    """What all tenants with one project in their set have used."""

    __slots__ = ("__weakref__", "usage")

    def __init__(self) -> None:
        self.usage = Usage(HALF_LIFE_SECONDS)


class _Tenant:
    """One set of projects: its uses, and its steps that are put aside."""

    __slots__ = ("aside", "fresh", "gives_way", "last_seen", "projects", "used")

    def __init__(self, projects: tuple[_Project, ...], now: float) -> None:
        self.projects = projects
        self.fresh = 0.0
        """Seconds since it was judged last."""
        self.used = 0.0
        self.gives_way = False
        self.last_seen = now
        self.aside: deque[asyncio.Future[None]] = deque()


class LoopTurns:
    """The turns of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.tenants: dict[str, _Tenant] = {}
        self._projects: WeakValueDictionary[str, _Project] = WeakValueDictionary()
        self._aside: dict[_Tenant, None] = {}
        self._judge_at = 0.0
        self._is_due = False

    def start(self) -> None:
        """Time the steps of all tasks that are made from now on."""
        self._loop.set_task_factory(self._task)

    def _task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        steps: Any = _Steps(self, coroutine) if isinstance(coroutine, Coroutine) else coroutine
        return asyncio.Task(steps, loop=loop, context=context, **options)

    def put_aside(self, tenant: _Tenant) -> asyncio.Future[None]:
        """Return what a task of the tenant has to wait for before its next step."""
        turn = self._loop.create_future()
        tenant.aside.append(turn)
        self._aside[tenant] = None
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._after_others)
        return turn

    def charge(self, name: str, began: float, ended: float) -> None:
        """Count a step of the tenant called ``name``; moments of ``perf_counter``."""
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = _Tenant(self._uses_of(name), ended)
        tenant.fresh += ended - began
        tenant.last_seen = ended
        if ended > self._judge_at:
            self._judge(ended)

    def _uses_of(self, tenant_name: str) -> tuple[_Project, ...]:
        found = []
        for name in projects_of(tenant_name):
            project = self._projects.get(name)
            if project is None:
                project = self._projects[name] = _Project()
            found.append(project)
        return tuple(found)

    def _judge(self, now: float) -> None:
        """Work out who has used how much, and who has to give way."""
        for name, tenant in list(self.tenants.items()):
            if now - tenant.last_seen > _FORGET_SECONDS and not tenant.aside:
                del self.tenants[name]
            elif tenant.fresh:
                for project in tenant.projects:
                    project.usage.add(tenant.fresh / len(tenant.projects), now)
                tenant.fresh = 0.0
        about = 0
        for tenant in self.tenants.values():
            tenant.used = sum(project.usage.at(now) for project in tenant.projects) / len(tenant.projects)
            about += now - tenant.last_seen < ABOUT_SECONDS
        heavy = sorted((tenant for tenant in self.tenants.values() if tenant.used > _MUCH_SECONDS), key=_used)
        for tenant in self.tenants.values():
            tenant.gives_way = False
        # Of several, the one that used least does not: each step that is put aside waits for a round of the loop.
        for tenant in heavy[1:] if len(heavy) > 1 else heavy if about > 1 else ():
            tenant.gives_way = True
        ended = perf_counter()
        self._judge_at = ended + max(_JUDGE_SECONDS, (ended - now) / _JUDGE_PART)

    def _after_others(self) -> None:
        """Let everything run that was ready by now."""
        self._loop.call_soon(self._let_one_go)

    def _let_one_go(self) -> None:
        """Run the step of the tenant that has used least."""
        self._is_due = False
        while self._aside:
            tenant = min(self._aside, key=_used)
            turn = tenant.aside.popleft()
            if not tenant.aside:
                del self._aside[tenant]
            if not turn.done():  # its task was cancelled
                turn.set_result(None)
                break
        if self._aside:
            self._is_due = True
            self._loop.call_soon(self._after_others)


def _used(tenant: _Tenant) -> float:
    return tenant.used


class _Steps(Coroutine[Any, Any, T]):
    """A coroutine whose steps are timed, and put aside where others go first."""

    __slots__ = ("_coroutine", "_turn", "_turns")

    def __init__(self, turns: LoopTurns, coroutine: Coroutine[Any, Any, T]) -> None:
        self._turns = turns
        self._coroutine = coroutine
        self._turn: asyncio.Future[None] | None = None

    def send(self, value: Any) -> Any:
        """Run the next step, or wait for its turn."""
        turns = self._turns
        if self._turn is None:
            tenant = turns.tenants.get(current_party.get().tenant)
            if tenant is not None and tenant.gives_way:
                turn = self._turn = turns.put_aside(tenant)
                turn._asyncio_future_blocking = True  # as __await__ of a future does
                return turn
        else:
            self._turn = None
        began = perf_counter()
        try:
            return self._coroutine.send(value)
        finally:
            name = current_party.get().tenant
            if name:
                turns.charge(name, began, perf_counter())

    def throw(self, kind: Any, failure: Any = None, trace: TracebackType | None = None) -> Any:
        """Hand an exception on at once, which is how a task ends early."""
        self._turn = None
        return self._coroutine.throw(kind) if failure is None else self._coroutine.throw(kind, failure, trace)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Await the coroutine."""
        return self._coroutine.__await__()
