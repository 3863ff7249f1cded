"""Reads from streaming replicas, as long as these are fresh enough; else from the primary.

A read first learns a *position*: how far the write-ahead log of the primary had been flushed at a moment. A replica
that has replayed the log up to there has every commit that was acknowledged before that moment, by whichever server
process. With ``staleness`` 0 the moment is the beginning of the read, so each write that was answered is seen, also by
another process and without Redis. With more, positions may be so old, but not older than the last commit of this
process to the projects that are read.

Positions are asked for by all waiting reads together. A watch per replica knows how far it is, and that it lives: a
replica that has not answered for a moment, whose server ended or that no longer receives the log is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from copy import copy
from typing import Any, Final, NamedTuple

import asyncpg

from server.errors import ApiError, PoolTimeout, ShareExhausted
from server.fairness.party import server_context
from server.storage.database import Database
from server.storage.read_source import read_source
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.telemetry.observations import ReadOpened, ReplicaBack, ReplicaLost, observe

WATCH_SECONDS: Final = 0.2
"""Pause between two looks at a replica."""
PATIENCE_SECONDS: Final = 0.5
"""A replica that takes longer to answer, or to open a read, is left out."""
LOOK_SECONDS: Final = 0.002
"""Pause between two looks while a read waits for the replica."""
CATCH_UP_SECONDS: Final = 0.1
"""Seconds that a read waits until a replica has replayed the log as far as it needs."""
NO_WAIT_SECONDS: Final = 1.0
"""Seconds after a wait in vain during which no read waits."""
RECONNECT_SECONDS: Final = 0.5

EVERY_PROJECT: Final = ""


class Position(NamedTuple):
    """How far the log of the primary had been flushed at ``moment`` (monotonic clock), in bytes."""

    moment: float
    flushed: int


class Primary:
    """The positions of the primary, and when this process wrote there last."""

    def __init__(self, database: Database) -> None:
        """``database`` needs one connection of its own, so that no position waits behind a slow question."""
        self.database = database
        self.system = 0
        """The identifier of the cluster, which its replicas share."""
        self._known: deque[Position] = deque(maxlen=64)
        self._asking = asyncio.Lock()
        self._written_at: dict[str, float] = {}

    def committed(self, projects: Iterable[str]) -> None:
        """Note a commit of this process: later reads of ``projects`` must see it."""
        now = time.monotonic()
        for project in tuple(projects) or (EVERY_PROJECT,):
            self._written_at[project] = now

    async def position(self, projects: Sequence[str], *, staleness: float) -> Position:
        """Return the oldest known position that is at most ``staleness`` seconds old and includes our own commits.

        Raises the database's errors if it has to be asked for.
        """
        written = (self._written_at.get(project, 0.0) for project in (EVERY_PROJECT, *projects))
        since = max(time.monotonic() - staleness, *written)
        found = self._since(since)
        while found is None:
            async with self._asking:  # those who waited here meanwhile need no question of their own
                found = self._since(since)
                if found is None:
                    await self._ask()
                    found = self._since(since)
        return found

    def _since(self, moment: float) -> Position | None:
        return next((known for known in self._known if known.moment >= moment), None)

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        async with self.database.plain() as connection:
            if not self.system:
                self.system = await connection.fetchval(statement("cluster_system"))
            flushed = await connection.fetchval(statement("primary_position"))
        self._known.append(Position(asked_at, flushed))


class Replica:
    """One replica: its pool, and a watch over a connection of its own."""

    def __init__(self, url: str, database: Database, primary: Primary, *, number: int) -> None:
        self.database = database
        self.number = number
        self.replayed = 0
        """How far it has replayed the log, in bytes; 0 while it is left out."""
        self.no_wait_until = 0.0
        self._url = url
        self._primary = primary
        self._connection: asyncpg.Connection | None = None
        self._wanted = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_here(self) -> bool:
        """Whether it may be read from, if it is far enough."""
        return self.replayed > 0

    async def open(self) -> None:
        """Open the pool and start the watch."""
        await self.database.open()
        self._task = asyncio.create_task(self._watch(), name=f"replica {self.number}", context=server_context())

    async def close(self) -> None:
        """Stop the watch and close all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.database.close()

    def leave_out(self) -> None:
        """Read nothing from it until it answers again."""
        if self.is_here:
            self.replayed = 0
            observe(ReplicaLost(self.number))

    async def looked(self) -> None:
        """Wait for the next look at it, which comes soon."""
        self._wanted.set()
        await self._looked.wait()

    async def _watch(self) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        replayed = await self._look()
                except (OSError, TimeoutError, ApiError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    self._disconnect()
                    replayed = 0
                self._is_at(replayed)
                await self._pause()
        finally:
            self._disconnect()

    def _is_at(self, replayed: int) -> None:
        if not replayed:
            self.leave_out()
        elif not self.is_here:
            observe(ReplicaBack(self.number))
        self.replayed = replayed
        self._looked.set()
        self._looked = asyncio.Event()

    async def _pause(self) -> None:
        if not self.is_here:
            await asyncio.sleep(RECONNECT_SECONDS)
            return
        if not self._wanted.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._wanted.wait()
        self._wanted.clear()
        await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> int:
        """Return how far it has replayed the log; 0 if it is not a replica of our primary, or receives nothing."""
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._url, server_settings={"application_name": "llm-observatory replica watch"}
            )
            # It may come back with less than it had: from here on nothing that we know of it counts.
            self._connection.add_termination_listener(lambda _: self.leave_out())
            self._primary.system = self._primary.system or await self._system_of_primary()
        ((system, replayed),) = await self._connection.fetch(statement("replica_position"))
        return replayed if system == self._primary.system else 0

    async def _system_of_primary(self) -> int:
        async with self._primary.database.plain() as connection:
            system: int = await connection.fetchval(statement("cluster_system"))
        return system

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class SpreadReads(Database):
    """The pool for reading, with replicas that take reads from it."""

    def __init__(self, primary: Primary, replicas: Sequence[Replica], *, staleness: float, **pool: Any) -> None:
        """``staleness`` in seconds; ``pool``: the arguments of :class:`Database`, for the primary."""
        super().__init__(**pool)
        self.primary = primary
        self._replicas = tuple(replicas)
        self._staleness = staleness
        self._turn = 0

    async def open(self) -> None:
        """Open the pools, and watch the replicas."""
        await super().open()
        await self.primary.database.open()
        for replica in self._replicas:
            await replica.open()

    async def close(self) -> None:
        """Close all of it."""
        for replica in self._replicas:
            await replica.close()
        await self.primary.database.close()
        await super().close()

    def on_primary(self) -> SpreadReads:
        """Return the same pool without its replicas: for what compares transaction numbers, which they lack."""
        twin = copy(self)
        twin._replicas = ()
        return twin

    def without_staleness(self) -> SpreadReads:
        """Return the same pools for reads that have to see every earlier commit."""
        twin = copy(self)
        twin._staleness = 0.0
        return twin

    @asynccontextmanager
    async def read(self, scope: RowScope, *, follows_index: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """Open a read-only transaction like :meth:`Database.read`, on a replica if one is fresh enough."""
        read = self._spread if self._replicas else super().read
        async with read(scope, follows_index=follows_index) as connection:
            yield connection

    @asynccontextmanager
    async def _spread(self, scope: RowScope, *, follows_index: bool) -> AsyncIterator[asyncpg.Connection]:
        note = read_source.get()
        async with AsyncExitStack() as stack:
            began = time.monotonic()
            position = await self._needed(scope)
            connection = None
            if position is not None:
                connection = await self._opened(stack, position, scope, follows_index=follows_index)
            if connection is None or position is None:
                connection = await stack.enter_async_context(super().read(scope, follows_index=follows_index))
                observe(ReadOpened("primary"))
                if note is not None:
                    note.note_primary()
            else:
                observe(ReadOpened("replica"))
                if note is not None:
                    note.note_replica(max(0.0, began - position.moment))
            yield connection

    async def _opened(
        self, stack: AsyncExitStack, position: Position, scope: RowScope, *, follows_index: bool
    ) -> asyncpg.Connection | None:
        """Open the read on a replica; None if there is none that is far enough and has a free connection."""
        for _ in self._replicas:
            replica = await self._far_enough(position.flushed)
            if replica is None:
                return None
            opening = stack.enter_async_context(replica.database.read(scope, follows_index=follows_index))
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await opening
            except (PoolTimeout, ShareExhausted):
                return None
            except (ApiError, TimeoutError):
                replica.leave_out()
        return None

    async def _needed(self, scope: RowScope) -> Position | None:
        """Return the position that a replica must have; None if the primary does not report one, and then has to answer
        the read.
        """
        try:
            return await self.primary.position(scope.projects, staleness=self._staleness)
        except ApiError:
            return None

    async def _far_enough(self, position: int) -> Replica | None:
        """Return a replica that has replayed ``position``, by turns; wait a moment for one that is about to."""
        self._turn += 1
        first = self._turn % len(self._replicas)
        here = [item for item in (*self._replicas[first:], *self._replicas[:first]) if item.is_here]
        for replica in here:
            if replica.replayed >= position:
                return replica
        for replica in here:
            if time.monotonic() < replica.no_wait_until:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    while replica.is_here:
                        await replica.looked()
                        if replica.replayed >= position:
                            return replica
            replica.no_wait_until = time.monotonic() + NO_WAIT_SECONDS
            return None
        return None
