"""The services that send spans, and the names of their spans."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_SERVICES: Final = 5000
LATEST_SPANS: Final = 20_000


async def list_services(database: Database, scope: RowScope) -> list[str]:
    """Return the names of all services, sorted."""
    if not scope.projects:
        return []
    async with database.read(scope) as connection:
        rows = await connection.fetch(statement("list_services"), list(scope.projects), MOST_SERVICES)
    return [row["service_name"] for row in rows]


async def list_operations(database: Database, scope: RowScope, service: str, since: datetime) -> list[str]:
    """Return the names of the latest 20,000 spans of ``service`` since ``since``, sorted."""
    names: set[str] = set()
    async with database.read(scope) as connection:
        for project in scope.projects:
            rows = await connection.fetch(statement("list_operations"), project, service, since, LATEST_SPANS)
            names.update(row["span_name"] for row in rows)
    return sorted(names)
