"""The values that the interned dimensions of projects have ever had."""

from __future__ import annotations

from collections.abc import Sequence

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement


async def read_dimension_values(
    database: Database, scope: RowScope, columns: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return, for each column of llm_traces that rollups know, its values, sorted, without the empty one."""
    async with database.read(scope) as connection:
        rows = await connection.fetch(statement("list_dimension_values"), list(scope.projects), list(columns))
    known = {row["dimension"]: tuple(row["known"]) for row in rows}
    return {column: known.get(column, ()) for column in columns}
