"""Connections to PostgreSQL: bounded, scoped, and with their failures translated.

The pool is `databases` over asyncpg. Three rules of this module come from measured traps:

* Never ``Database.transaction()``: a request that is cancelled during BEGIN or COMMIT loses its pool slot for
  good. Nor ``Database.connection()``: it belongs to the task, is shared by nested uses, and is useless for the
  rest of the task's life once a release has failed, as happens when the backend died. This module uses the pool
  below them.
* The pool waits without end for a free connection, first come, first served; here the wait has a deadline, and no
  tenant can take all connections.
* Rows are visible only to transactions that name their projects (``SET LOCAL app.projects``), which
  row-level security checks. The value is written as a literal, because parameters cannot be used in SET
  and ``set_config()`` does not reach the workers of a distributed engine.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import databases

from server.distribution_settings import CITUS, CONNECTION_SETTINGS, NONE
from server.errors import (
    ApiError,
    Conflict,
    DatabaseUnavailable,
    InternalError,
    InvalidParameter,
    PoolTimeout,
    QueryTimeout,
    QueryTooLarge,
)
from server.fairness.fair_queue import FairQueue
from server.fairness.processors import THIS_MACHINE
from server.fairness.tenants import Place
from server.storage.commit_note import commit_note
from server.storage.node_errors import error_of_node
from server.storage.project_connection import NodeConnection
from server.storage.read_source import read_source
from server.storage.row_scope import RowScope
from server.storage.statements import statement

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Step = Callable[[asyncpg.Connection], Awaitable[None]]
"""Something that is done through the connection, and so in the transaction, of somebody else."""

QUICK_SECONDS: Final = 0.1
"""A use of a connection that takes longer counts as slow."""

PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

# Maps a SQLSTATE, or its first two characters, to the error that the caller sees. The longest match wins.
SQLSTATE_ERRORS: dict[str, type[ApiError]] = {
    "08": DatabaseUnavailable,
    "22": InvalidParameter,
    "23505": Conflict,
    "23503": Conflict,
    "25006": DatabaseUnavailable,
    "40": DatabaseUnavailable,
    "53": DatabaseUnavailable,
    "53400": QueryTooLarge,
    "54": QueryTooLarge,
    "55P03": DatabaseUnavailable,
    "57014": QueryTimeout,
    "57P": DatabaseUnavailable,
    "58": DatabaseUnavailable,
}

LOCK_MILLISECONDS: Final = 4000
"""How long a statement waits for a lock; at most half of its time-out."""

RECOVERY_SECONDS: Final = 5.0
"""Time for a connection to answer after its statement was cancelled; then it is given up."""

_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A plan for the actual values prunes partitions, uses partial indexes and knows how rare a word is. After five runs of
# a prepared statement PostgreSQL would try one plan for all values.
_BEGIN_PLANNED_READ: Final = f"{_BEGIN_READ}; SET LOCAL plan_cache_mode = force_custom_plan"
# One plan for all values, made once per connection. It knows nothing about the values and may rest on old statistics,
# so it must be the right one whatever they are: it follows an index.
_BEGIN_INDEX_READ: Final = "; ".join(
    (
        _BEGIN_READ,
        "SET LOCAL plan_cache_mode = force_generic_plan",
        *(f"SET LOCAL enable_{step} = off" for step in ("seqscan", "bitmapscan", "sort")),
    )
)


_SET_LOCAL: Final = re.compile(r"SET LOCAL (\w+) = (\w+)")


async def _nothing_to_reset(_: asyncpg.Connection) -> None:
    """Replace asyncpg's RESET ALL and the like, which cost a round trip for each use of a connection.

    All settings here are SET LOCAL, and locks and cursors end with their transaction. The remains of
    a cancelled task are cleared before its connection goes back (:meth:`Database._recover_later`).
    """


class Database:
    """One pool of connections that all run as one database role.

    Opening never fails: while PostgreSQL is down each use raises :class:`DatabaseUnavailable`, and works again as soon
    as PostgreSQL is back.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str | None,
        size: int,
        acquire_timeout: float,
        statement_timeout: float,
        application_name: str,
        distribution: str = NONE,
    ) -> None:
        """``role`` is taken on when connecting (None: stay the login role). Time-outs are in seconds; the server
        enforces ``statement_timeout``, so that an abandoned query really ends. Tenants share the connections fairly
        (:mod:`server.fairness.fair_queue`). ``distribution``: how tables are spread
        (:mod:`server.distribution_settings`).
        """
        server_settings = {
            "application_name": application_name,
            "statement_timeout": str(int(statement_timeout * 1000)),
            # A migration holds tables for a moment: whoever waits through it has an answer instead of a 503.
            "lock_timeout": str(min(LOCK_MILLISECONDS, int(statement_timeout * 500))),
            "idle_in_transaction_session_timeout": "10000",
            "timezone": "UTC",
            "jit": "off",
            **CONNECTION_SETTINGS[distribution],
        }
        if role is not None:
            server_settings["role"] = role
        self.size = size
        self.distribution = distribution
        self._ending: set[asyncio.Task[None]] = set()
        self._acquire_timeout = acquire_timeout
        self._places = FairQueue(
            "database connections",
            size,
            patience=acquire_timeout,
            exhausted=PoolTimeout,
            quick_seconds=QUICK_SECONDS,
            rests_while=THIS_MACHINE.are_busy,
        )
        self._held: dict[asyncpg.Connection, Place] = {}
        self.on_commit: Callable[[Sequence[str]], None] | None = None
        """Is told the projects of each transaction of :meth:`write` that was committed, none meaning any."""
        self._pool = databases.Database(
            url,
            min_size=0,
            max_size=size,
            timeout=acquire_timeout + 4,
            command_timeout=statement_timeout + 2,
            server_settings=server_settings,
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
            pool = self.raw_pool
            if pool is not None:
                pool.terminate()

    @property
    def raw_pool(self) -> asyncpg.Pool[asyncpg.Record] | None:
        """The asyncpg pool, for its figures (size, idle connections)."""
        return cast("asyncpg.Pool[asyncpg.Record] | None", getattr(self._pool._backend, "_pool", None))

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection without transaction or project: for tables outside the tenant wall."""
        try:
            connection = await self._acquire()
            is_ours = True
            try:
                yield connection
            except TimeoutError:
                connection.terminate()
                raise
            except (asyncio.CancelledError, GeneratorExit):
                is_ours = False
                self._recover_later(connection)
                raise
            finally:
                if is_ours:
                    await self._release(connection)
        except ApiError:
            raise  # it keeps its own cause, which says whether to try again
        except Exception as error:
            raise translated(error) from error

    @asynccontextmanager
    async def read(self, scope: RowScope, *, follows_index: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """Open a read-only transaction that sees the rows of ``scope``'s projects and no others.

        Nobody waits for its end, because nothing can fail there. ``follows_index``: the statements read an index in its
        order whatever their values are, so their plan is made once
        (docs/decisions/0032-reads-plan-for-their-values.md).
        """
        # Citus needs the project's value to know its node: one plan for all values has none.
        has_one_plan = follows_index and self.distribution == NONE
        begin = _BEGIN_INDEX_READ if has_one_plan else _BEGIN_PLANNED_READ
        if self.distribution != NONE and len(scope.projects) > 1 and (note := read_source.get()) is not None:
            note.is_one_snapshot = False
        async with self._transaction(scope.projects, begin, is_read=True) as connection:
            yield connection

    @asynccontextmanager
    async def write(self, projects: Sequence[str]) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction that may read and write rows of ``projects``; it commits unless an exception passes."""
        async with self._transaction(projects, "BEGIN") as connection:
            yield connection
        if self.on_commit is not None:
            self.on_commit(projects)

    @asynccontextmanager
    async def unscoped(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction that names no project: it sees every row if the pool's role is observatory_worker, else
        none.
        """
        async with self._transaction((), "BEGIN") as connection:
            yield connection

    def _on_nodes(self, connection: asyncpg.Connection, projects: Sequence[str], opening: str) -> asyncpg.Connection:
        """Return ``connection`` in the form for a transaction on nodes, which ``opening`` has opened."""
        if self.distribution == NONE or not projects:
            return connection

        async def begin_again() -> None:
            await connection.execute("ROLLBACK")
            if absent := await _absent(connection, projects):
                raise DatabaseUnavailable(absent=absent)
            await connection.execute(opening)

        project = projects[0] if len(projects) == 1 else None
        return cast(asyncpg.Connection, NodeConnection(connection, project, begin_again))

    @asynccontextmanager
    async def _transaction(
        self, projects: Sequence[str], begin: str, *, is_read: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        opening = opening_of(begin, projects, self.distribution)
        try:
            connection = await self._acquire()
            is_ours = True
            try:
                await connection.execute(opening)
                try:
                    yield self._on_nodes(connection, projects, opening)
                except (TimeoutError, asyncio.CancelledError, GeneratorExit):
                    raise  # nobody would receive a ROLLBACK, or it is sent while nobody waits
                except BaseException as error:
                    if not connection.is_closed():
                        await connection.execute("ROLLBACK")
                        if self.distribution != NONE:
                            told = await _of_node(connection, error, projects)
                            if told is not error:
                                raise told from error
                    raise
                if is_read:
                    is_ours = False
                    self._end_later(connection)
                else:
                    if (note := commit_note.get()) is not None:
                        note.is_begun = True
                    await _commit(connection)
            except TimeoutError:
                # The server's own time-out is shorter. If even that does not arrive, the server is frozen or cut off,
                # and would never confirm the cancellation that releasing a connection waits for.
                connection.terminate()
                raise
            except (asyncio.CancelledError, GeneratorExit):
                if is_ours:
                    is_ours = False
                    self._recover_later(connection)
                raise
            finally:
                if is_ours:
                    await self._release(connection)
        except ApiError:
            raise  # it keeps its own cause, which says whether to try again
        except Exception as error:
            raise translated(error) from error

    def _recover_later(self, connection: asyncpg.Connection) -> None:
        """Return the connection of a cancelled task to the pool once nothing of its statement is left."""
        self._keep(asyncio.create_task(self._recover(connection)))

    async def _recover(self, connection: asyncpg.Connection) -> None:
        """Clear what a cancelled statement left behind.

        asyncpg prepares a statement without a Sync. A task that is cancelled before the statement runs leaves an
        implicit transaction that asyncpg does not know of, and the next BEGIN fails. The simple query protocol ends it.
        """
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
                await self._release(connection)

    def _keep(self, ending: asyncio.Task[None]) -> None:
        self._ending.add(ending)  # the loop keeps no reference itself
        ending.add_done_callback(self._ending.discard)

    def _end_later(self, connection: asyncpg.Connection) -> None:
        """End the read on ``connection`` and return it to the pool, while its caller goes on."""
        self._keep(asyncio.create_task(self._end(connection)))

    async def _end(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute("COMMIT")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            # The rows that were read count. A connection that cannot even end a transaction is not used again.
            connection.terminate()
        finally:
            with suppress(asyncpg.InterfaceError, OSError):
                await self._release(connection)

    async def _acquire(self) -> asyncpg.Connection:
        pool = self.raw_pool
        if pool is None:
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
        self._held[connection] = place
        return connection

    async def _release(self, connection: asyncpg.Connection) -> None:
        pool = self.raw_pool
        place = self._held.pop(connection)
        try:
            if pool is not None:
                await pool.release(cast("PoolConnectionProxy[asyncpg.Record]", connection))
        finally:
            self._places.give_back(place)


async def _commit(connection: asyncpg.Connection) -> None:
    """Commit. Raises the error of a node, where one kept the coordinator from it."""
    try:
        await connection.execute("COMMIT")
    except asyncpg.InternalServerError as error:
        if (told := error_of_node(error)) is error:
            raise
        raise told from error


async def _of_node(connection: asyncpg.Connection, error: BaseException, projects: Sequence[str]) -> BaseException:
    """Return what ``error`` was on its node; where that was lost, the error that names those of ``projects`` whose node
    does not answer.
    """
    told = error_of_node(error)
    if not isinstance(told, asyncpg.PostgresConnectionError):
        return told
    return DatabaseUnavailable(absent=await _absent(connection, projects))


async def _absent(connection: asyncpg.Connection, projects: Sequence[str]) -> list[str]:
    """Return those of ``projects`` whose node does not answer."""
    rows = await connection.fetch(statement("list_projects_of_absent_nodes"), list(projects))
    return [row["project_id"] for row in rows]


def opening_of(begin: str, projects: Sequence[str], distribution: str) -> str:
    """Return the one message that opens a transaction of ``projects``; ``begin`` is BEGIN and settings for planning."""
    if not projects:
        return begin
    if distribution != CITUS:
        return f"{begin}; {project_setting(projects)}"
    # Citus sends a node the whole text of the message in which it finds a SET LOCAL, BEGIN and all. A block's steps
    # are texts of their own. Settings for planning are for the coordinator: set_config() goes no further.
    opened, *settings = begin.split("; ")
    steps = [_SET_LOCAL.sub(r"PERFORM set_config('\1', '\2', true)", each) for each in settings]
    return f"{opened}; DO $open$BEGIN {'; '.join((*steps, project_setting(projects)))}; END$open$"


def project_setting(projects: Sequence[str]) -> str:
    """Return the SET LOCAL statement that opens the tenant wall for ``projects``.

    Raises ValueError for anything that is not a project id: this text becomes SQL.
    """
    for project in projects:
        if not PROJECT_ID.fullmatch(project):
            raise ValueError("not a project id")
    return f"SET LOCAL app.projects = '{','.join(projects)}'"


def translated(error: Exception) -> Exception:
    """Return the API's error for a driver's ``error``; other exceptions are returned unchanged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state: Any = getattr(error, "sqlstate", None) or ""
        for length in (5, 3, 2):
            kind = SQLSTATE_ERRORS.get(state[:length])
            if kind is not None:
                return kind()
        return InternalError()
    if isinstance(error, TimeoutError):
        return QueryTimeout()
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
        return DatabaseUnavailable()
    return error
