"""Errors of a cluster's nodes, known by their text: the coordinator passes some of them on without their SQLSTATE.

It does so within COPY, and if a connection to a node breaks. The texts are those of PostgreSQL and libpq in English.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import asyncpg

from server.errors import DatabaseUnavailable
from server.storage.statements import statement

_LOST: Final = (
    "server closed the connection unexpectedly",
    "connection marked as essential",
    "connection to the remote node",
    "terminating connection",
    "the database system is",
    "could not receive data from server",
    "could not send data to server",
    "no connection to the server",
    "connection not open",
    "lost synchronization with server",
)
_KINDS: Final[tuple[tuple[str, type[asyncpg.PostgresError]], ...]] = (
    ("duplicate key value violates unique constraint", asyncpg.UniqueViolationError),
    ("violates check constraint", asyncpg.CheckViolationError),
    ("violates not-null constraint", asyncpg.NotNullViolationError),
    ("no partition of relation", asyncpg.CheckViolationError),
    ("index row requires", asyncpg.ProgramLimitExceededError),
    ("exceeds btree version", asyncpg.ProgramLimitExceededError),
    ("canceling statement due to", asyncpg.QueryCanceledError),
    *((said, asyncpg.ConnectionFailureError) for said in _LOST),
)


_Error = TypeVar("_Error", bound=BaseException)


def error_of_node(error: _Error) -> _Error | asyncpg.PostgresError:
    """Return the error of the node if the text of ``error`` shows which one it was; else ``error`` itself."""
    if isinstance(error, asyncpg.InternalServerError):
        for said, kind in _KINDS:
            if said in str(error):
                return kind(str(error))
    return error


async def cause_on_node(connection: asyncpg.Connection, error: BaseException, projects: Sequence[str]) -> BaseException:
    """Return what ``error`` was on its node; where that was lost, the error that names those of ``projects`` whose node
    does not answer.
    """
    told = error_of_node(error)
    if not isinstance(told, asyncpg.PostgresConnectionError):
        return told
    return DatabaseUnavailable(absent=await absent_projects(connection, projects))


async def absent_projects(connection: asyncpg.Connection, projects: Sequence[str]) -> list[str]:
    """Return those of ``projects`` whose node does not answer."""
    rows = await connection.fetch(statement("list_projects_of_absent_nodes"), list(projects))
    return [row["project_id"] for row in rows]
