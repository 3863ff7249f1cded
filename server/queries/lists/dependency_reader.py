"""Calls between services: the edges of the dependency graph."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_EDGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Dependency:
    """``calls`` spans of service ``child`` had a span of service ``parent`` as their parent."""

    parent: str
    child: str
    calls: int


async def read_dependencies(database: Database, scope: RowScope, start: datetime, end: datetime) -> list[Dependency]:
    """Return the calls between services from ``start`` (included) to ``end``, most frequent first, at most 1,000
    edges.
    """
    if not scope.projects:
        return []
    async with database.read(scope) as connection:
        await connection.execute(statement("plan_dependencies"))
        rows = await connection.fetch(statement("service_dependencies"), list(scope.projects), start, end, MOST_EDGES)
    return [Dependency(row["parent"], row["child"], row["calls"]) for row in rows]
