"""A bounded pool of connections to PostgreSQL, shared fairly, from which a cancelled task takes nothing away.

The pool is `databases` over asyncpg. Two rules come from measured traps:

* Never ``Database.transaction()`` of `databases`: a request that is cancelled during BEGIN or COMMIT loses its pool
  slot for good. Nor its ``Database.connection()``: it belongs to the task, is shared by nested uses, and is useless for
  the rest of the task's life once a release has failed, as happens when the backend died. This module uses the pool
  below them.
* The pool waits without end for a free connection, first come, first served; here the wait has a deadline, and no
  tenant can take all connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import databases

from server.errors import DatabaseUnavailable, PoolTimeout
from server.fairness.fair_queue import FairQueue
from server.fairness.presence import THIS_PROCESS
from server.fairness.processors import THIS_MACHINE
from server.fairness.tenants import Place

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

SHARE_PATIENCE: Final = 4.0
"""Times the time-out of a connection that a tenant waits where only its own share is in use."""
QUICK_SECONDS: Final = 0.1
"""A use of a connection that takes longer counts as slow."""

RECOVERY_SECONDS: Final = 5.0
"""Time for a connection to answer after its statement was cancelled; then it is given up."""


@dataclass
class Loan:
    """A connection in somebody's hands."""

    connection: asyncpg.Connection
    place: Place
    is_over: bool = False
    """A task of the pool returns it, and nobody else may."""


async def _nothing_to_reset(_: asyncpg.Connection) -> None:
    """Replace asyncpg's RESET ALL and the like, which cost a round trip for each use of a connection.

    All settings here are SET LOCAL, and locks and cursors end with their transaction. The remains of a cancelled task
    are cleared before its connection goes back.
    """


class ConnectionPool:
    """Lends connections. Opening never fails: while PostgreSQL is down, lending does."""

    def __init__(
        self,
        url: str,
        *,
        size: int,
        acquire_timeout: float,
        statement_timeout: float,
        server_settings: Mapping[str, str],
    ) -> None:
        """Time-outs are in seconds. ``server_settings`` are those of each connection."""
        self._acquire_timeout = acquire_timeout
        self._ending: set[asyncio.Task[None]] = set()
        self._places = FairQueue(
            "database connections",
            size,
            patience=acquire_timeout,
            exhausted=PoolTimeout,
            quick_seconds=QUICK_SECONDS,
            rests_while=THIS_MACHINE.are_busy,
            share_patience=SHARE_PATIENCE * acquire_timeout,
            presence=THIS_PROCESS,
        )
        self._pool = databases.Database(
            url,
            min_size=0,
            max_size=size,
            timeout=acquire_timeout + 4,
            command_timeout=statement_timeout + 2,
            server_settings=dict(server_settings),
            max_inactive_connection_lifetime=300,
            reset=_nothing_to_reset,
        )

    async def open(self) -> None:
        """Make the pool; no connection is opened yet."""
        await self._pool.connect()

    async def close(self) -> None:
        """Close all connections, waiting at most five seconds for those in use."""
        try:
            await asyncio.wait_for(self._pool.disconnect(), timeout=5)
        except TimeoutError:
            if (pool := self.raw) is not None:
                pool.terminate()

    @property
    def raw(self) -> asyncpg.Pool[asyncpg.Record] | None:
        """The asyncpg pool, for its figures (size, idle connections)."""
        return cast("asyncpg.Pool[asyncpg.Record] | None", getattr(self._pool._backend, "_pool", None))

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Loan]:
        """Lend a connection, and take it back when the block ends, however it ends.

        Raises DatabaseUnavailable, PoolTimeout, or what the driver raises.
        """
        loan = await self._acquire()
        try:
            yield loan
        except TimeoutError:
            # The server's own time-out is shorter. If even that does not arrive, the server is frozen or cut off, and
            # would never confirm the cancellation that releasing a connection waits for.
            loan.connection.terminate()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if not loan.is_over:
                self._later(loan, self._recover(loan))
            raise
        finally:
            if not loan.is_over:
                await self._release(loan)

    def end_later(self, loan: Loan) -> None:
        """Commit the read on ``loan`` and take it back, while its borrower goes on."""
        self._later(loan, self._end(loan))

    def _later(self, loan: Loan, ending: Coroutine[Any, Any, None]) -> None:
        loan.is_over = True
        task = asyncio.create_task(ending)
        self._ending.add(task)  # the loop keeps no reference itself
        task.add_done_callback(self._ending.discard)

    async def _recover(self, loan: Loan) -> None:
        """Clear what a cancelled statement left behind, then take the connection back.

        asyncpg prepares a statement without a Sync. A task that is cancelled before the statement runs leaves an
        implicit transaction that asyncpg does not know of, and the next BEGIN fails. The simple query protocol ends it.
        """
        connection = loan.connection
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                with suppress(asyncpg.PostgresError):  # also in a transaction that failed, which is rolled back next
                    await connection.execute("SELECT 1")
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            connection.terminate()
        finally:
            with suppress(asyncpg.InterfaceError, OSError):
                await self._release(loan)

    async def _end(self, loan: Loan) -> None:
        try:
            await loan.connection.execute("COMMIT")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            # The rows that were read count. A connection that cannot even end a transaction is not used again.
            loan.connection.terminate()
        finally:
            with suppress(asyncpg.InterfaceError, OSError):
                await self._release(loan)

    async def _acquire(self) -> Loan:
        if (pool := self.raw) is None:
            raise DatabaseUnavailable()
        place = await self._places.take()
        try:
            async with asyncio.timeout(self._acquire_timeout):
                connection = cast(asyncpg.Connection, await pool.acquire())
        except TimeoutError as error:
            self._places.give_back(place)
            raise PoolTimeout() from error
        except BaseException:
            self._places.give_back(place)
            raise
        return Loan(connection, place)

    async def _release(self, loan: Loan) -> None:
        try:
            if (pool := self.raw) is not None:
                await pool.release(cast("PoolConnectionProxy[asyncpg.Record]", loan.connection))
        finally:
            self._places.give_back(loan.place)
