"""COPY that ends: asyncpg's own may wait forever if its backend dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

# As PostgreSQL says it in English (lc_messages of the nodes).
_ERRORS: Final[Mapping[str, type[asyncpg.PostgresError]]] = {
    "duplicate key value violates unique constraint": asyncpg.UniqueViolationError,
    "violates check constraint": asyncpg.CheckViolationError,
    "violates not-null constraint": asyncpg.NotNullViolationError,
    "no partition of relation": asyncpg.CheckViolationError,
    "index row requires": asyncpg.ProgramLimitExceededError,
    "exceeds btree version": asyncpg.ProgramLimitExceededError,
    "canceling statement due to": asyncpg.QueryCanceledError,
}


def error_of_node(error: asyncpg.InternalServerError) -> asyncpg.PostgresError:
    """Return the error that a node had, as far as the text of ``error`` tells; else ``error``."""
    for said, kind in _ERRORS.items():
        if said in str(error):
            return kind(str(error))
    return error


async def copy_rows(
    connection: asyncpg.Connection,
    table: str,
    rows: Iterable[Sequence[Any]],
    *,
    columns: Sequence[str],
    schema: str | None = None,
) -> None:
    """Copy ``rows`` into ``table``. Raises ConnectionDoesNotExistError if the backend dies, and the errors of COPY.

    The coordinator of a cluster hands the error of a node on as text, without its SQLSTATE; here it is itself again.
    """
    lost: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def on_termination(_connection: object) -> None:
        if not lost.done():
            lost.set_result(None)

    connection.add_termination_listener(on_termination)
    copying: asyncio.Future[object] = asyncio.ensure_future(
        connection.copy_records_to_table(table, schema_name=schema, records=rows, columns=columns)
    )
    try:
        await asyncio.wait([copying, lost], return_when=asyncio.FIRST_COMPLETED)
        if not copying.done():
            raise asyncpg.ConnectionDoesNotExistError("the connection was lost during COPY")
        copying.result()
    except asyncpg.InternalServerError as error:
        raise error_of_node(error) from error
    finally:
        if not copying.done():
            copying.cancel()
            await asyncio.wait([copying], timeout=1)
        if copying.done() and not copying.cancelled():
            copying.exception()
        lost.cancel()
        connection.remove_termination_listener(on_termination)
