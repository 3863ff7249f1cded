"""Makes the databases of tests ahead of them and drops them behind them, on one connection a worker."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")


class Databases:
    """Clones of template databases. While a test uses one, the next one is made.

    All of it happens on a thread of its own, because each test has an event loop of its own, which a connection would
    not outlive.
    """

    def __init__(self, owner_url: str) -> None:
        self._owner_url = owner_url
        self._numbers = itertools.count()
        self._spare: dict[str, Future[str]] = {}
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._dropped: list[Future[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="databases", daemon=True)
        self._thread.start()

    async def take(self, template: str) -> str:
        """Return the name of a clone of ``template`` that nobody has used, and begin with the next."""
        ready = self._spare.pop(template, None) or self._begin(self._clone(template))
        name = await asyncio.wrap_future(ready)
        self._spare[template] = self._begin(self._clone(template))
        return name

    def drop(self, name: str) -> None:
        """Begin to drop a database, whoever is still connected to it."""
        self._dropped.append(self._begin(self._execute(f"DROP DATABASE {name} WITH (FORCE)")))

    def close(self) -> None:
        """Finish what was begun and end the thread; raise what could not be dropped."""
        self._begin(self._disconnect()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for dropped in self._dropped:
            dropped.result()

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _clone(self, template: str) -> str:
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    async def _execute(self, command: str) -> None:
        async with self._turn:
            if self._connection is None:
                self._connection = await asyncpg.connect(self._owner_url)
            await self._connection.execute(command)

    async def _disconnect(self) -> None:
        async with self._turn:
            if self._connection is not None:
                await self._connection.close()
