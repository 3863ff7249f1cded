"""COPY that ends: asyncpg's own may wait forever if its backend dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg


async def copy_rows(
    connection: asyncpg.Connection,
    table: str,
    rows: Iterable[Sequence[Any]],
    *,
    columns: Sequence[str],
    schema: str | None = None,
) -> None:
    """Copy ``rows`` into ``table``. Raises ConnectionDoesNotExistError if the backend dies, and the errors of COPY."""
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
    finally:
        if not copying.done():
            copying.cancel()
            await asyncio.wait([copying], timeout=1)
        if copying.done() and not copying.cancelled():
            copying.exception()
        lost.cancel()
        connection.remove_termination_listener(on_termination)
