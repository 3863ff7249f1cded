"""Transactions on PostgreSQL that see the rows of their projects, with failures translated into the API's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

import asyncpg

from server.distribution_settings import CONNECTION_SETTINGS, NONE
from server.errors import ApiError, DatabaseUnavailable
from server.storage.commit_note import commit_note
from server.storage.connection_pool import ConnectionPool, Loan
from server.storage.driver_errors import translated
from server.storage.node_errors import absent_projects, cause_on_node, error_of_node
from server.storage.openings import BEGIN, BEGINNINGS, opening_of
from server.storage.project_connection import NodeConnection
from server.storage.read_source import read_source
from server.storage.row_scope import RowScope

Step = Callable[[asyncpg.Connection], Awaitable[None]]
"""Something that is done through the connection, and so in the transaction, of somebody else."""

LOCK_MILLISECONDS: Final = 4000
"""How long a statement waits for a lock; at most half of its time-out."""


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
            # Ranges of time choose the partitions. Holding the other constraints of each against a question as well
            # takes a fifth of a plan's time and leaves none of them out.
            "constraint_exclusion": "off",
            **CONNECTION_SETTINGS[distribution],
        }
        if role is not None:
            server_settings["role"] = role
        self.size = size
        self.distribution = distribution
        self.on_commit: Callable[[Sequence[str]], None] | None = None
        """Is told the projects of each transaction of :meth:`write` that was committed, none meaning any."""
        self._pool = ConnectionPool(
            url,
            size=size,
            acquire_timeout=acquire_timeout,
            statement_timeout=statement_timeout,
            server_settings=server_settings,
        )

    async def open(self) -> None:
        """Make the pool; no connection is opened yet."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections, waiting at most five seconds for those in use."""
        await self._pool.close()

    @property
    def raw_pool(self) -> asyncpg.Pool[asyncpg.Record] | None:
        """The asyncpg pool, for its figures (size, idle connections)."""
        return self._pool.raw

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection without transaction or project: for tables outside the tenant wall."""
        async with self._borrow() as loan:
            yield loan.connection

    @asynccontextmanager
    async def read(self, scope: RowScope, *, follows_index: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """Open a read-only transaction that sees the rows of ``scope``'s projects and no others.

        Nobody waits for its end, because nothing can fail there. ``follows_index``: the statements read an index in its
        order whatever their values are, so their plan is made once
        (docs/decisions/0032-reads-plan-for-their-values.md).
        """
        begin = BEGINNINGS[self.distribution, follows_index]
        if self.distribution != NONE and len(scope.projects) > 1 and (note := read_source.get()) is not None:
            note.is_one_snapshot = False
        async with self._transaction(scope.projects, begin, is_read=True) as connection:
            yield connection

    @asynccontextmanager
    async def write(self, projects: Sequence[str]) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction that may read and write rows of ``projects``; it commits unless an exception passes."""
        async with self._transaction(projects, BEGIN) as connection:
            yield connection
        if self.on_commit is not None:
            self.on_commit(projects)

    @asynccontextmanager
    async def unscoped(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction that names no project: it sees every row if the pool's role is observatory_worker, else
        none.
        """
        async with self._transaction((), BEGIN) as connection:
            yield connection

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[Loan]:
        try:
            async with self._pool.borrow() as loan:
                yield loan
        except ApiError:
            raise  # it keeps its own cause, which says whether to try again
        except Exception as error:
            raise translated(error) from error

    @asynccontextmanager
    async def _transaction(
        self, projects: Sequence[str], begin: str, *, is_read: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        opening = opening_of(begin, projects, self.distribution)
        async with self._borrow() as loan:
            connection = loan.connection
            await connection.execute(opening)
            try:
                yield self._on_nodes(connection, projects, opening)
            except (TimeoutError, asyncio.CancelledError, GeneratorExit):
                raise  # nobody would receive a ROLLBACK, or it is sent while nobody waits
            except BaseException as error:
                await self._roll_back(connection, projects, error)
                raise
            if is_read:
                self._pool.end_later(loan)
            else:
                await _commit(connection)

    async def _roll_back(self, connection: asyncpg.Connection, projects: Sequence[str], error: BaseException) -> None:
        """Undo the transaction. Raises what ``error`` was on its node, where that is not ``error`` itself."""
        if connection.is_closed():
            return
        await connection.execute("ROLLBACK")
        if self.distribution != NONE:
            told = await cause_on_node(connection, error, projects)
            if told is not error:
                raise told from error

    def _on_nodes(self, connection: asyncpg.Connection, projects: Sequence[str], opening: str) -> asyncpg.Connection:
        """Return ``connection`` in the form for a transaction on nodes, which ``opening`` has opened."""
        if self.distribution == NONE or not projects:
            return connection

        async def begin_again() -> None:
            await connection.execute("ROLLBACK")
            if absent := await absent_projects(connection, projects):
                raise DatabaseUnavailable(absent=absent)
            await connection.execute(opening)

        project = projects[0] if len(projects) == 1 else None
        return cast(asyncpg.Connection, NodeConnection(connection, project, begin_again))


async def _commit(connection: asyncpg.Connection) -> None:
    """Commit. Raises the error of a node, where one kept the coordinator from it."""
    if (note := commit_note.get()) is not None:
        note.is_begun = True
    try:
        await connection.execute("COMMIT")
    except asyncpg.InternalServerError as error:
        if (told := error_of_node(error)) is error:
            raise
        raise told from error
