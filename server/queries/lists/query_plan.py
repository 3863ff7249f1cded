"""What the database did for a statement: for administrators who ask ``explain=1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import asyncpg
import orjson

from server.queries.filters.filter_sql import fragment


async def explain_statement(connection: asyncpg.Connection, statement: str, params: Sequence[Any]) -> dict[str, Any]:
    """The plan of ``statement`` with what it really did, and in short which indexes and how many rows."""
    text = await connection.fetchval(fragment("explain_analyze").format(statement=statement.rstrip(" \n;")), *params)
    plan = orjson.loads(text)[0]
    indexes: set[str] = set()
    scanned = 0
    pending = [plan["Plan"]]
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        if "Index Name" in node:
            indexes.add(node["Index Name"])
        if "Relation Name" in node:
            scanned += round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    return {
        "indexes": sorted(indexes),
        "rows_scanned": scanned,
        "planning_ms": plan["Planning Time"],
        "execution_ms": plan["Execution Time"],
        "plan": plan["Plan"],
    }


def explained(connection: asyncpg.Connection, plans: list[dict[str, Any]] | None) -> asyncpg.Connection:
    """``connection``, but into ``plans`` goes what the database did for each statement that is fetched through it.

    For readers of many statements: they need not know. Every statement runs twice.
    """
    return connection if plans is None else cast(asyncpg.Connection, _Explained(connection, plans))


class _Explained:
    """As much of a connection as readers use."""

    def __init__(self, connection: asyncpg.Connection, plans: list[dict[str, Any]]) -> None:
        self._connection = connection
        self._plans = plans

    async def fetch(self, statement: str, *params: Any) -> list[asyncpg.Record]:
        """The rows of ``statement``."""
        rows: list[asyncpg.Record] = await self._connection.fetch(statement, *params)
        self._plans.append(await explain_statement(self._connection, statement, params))
        return rows

    async def execute(self, statement: str) -> str:
        """Run what gives no rows: settings. There is no plan to show."""
        status: str = await self._connection.execute(statement)
        return status
