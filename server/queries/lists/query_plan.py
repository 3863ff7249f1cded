"""The database's work for a statement: for administrators who send ``explain=1``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import asyncpg
import orjson

from server.storage.statements import fragment


async def explain_statement(connection: asyncpg.Connection, statement: str, params: Sequence[Any]) -> dict[str, Any]:
    """Return the plan of ``statement`` with actual figures, and a summary: the indexes used and the rows read."""
    text = await connection.fetchval(fragment("explain_analyze").format(statement=statement.rstrip(" \n;")), *params)
    plan = orjson.loads(text)[0]
    indexes: set[str] = set()
    scanned = 0
    pending = [plan["Plan"]]
    while pending:
        node = pending.pop()
        if on_nodes := list(_plans_in(node.pop("Distributed Query", None))):
            node["Plans"] = [*node.get("Plans", []), *on_nodes]
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


def _plans_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the plans of the nodes of a cluster: the plan of its coordinator holds them in a form of their own."""
    if isinstance(value, list):
        for item in value:
            yield from _plans_in(item)
    elif isinstance(value, dict):
        if "Plan" in value:
            yield value["Plan"]
        else:
            yield from _plans_in(list(value.values()))


def explained(connection: asyncpg.Connection, plans: list[dict[str, Any]] | None) -> asyncpg.Connection:
    """Return ``connection``, wrapped so that the database's work for each fetched statement is added to ``plans``.

    Readers with many statements need no change for it. Every statement runs twice.
    """
    return connection if plans is None else cast(asyncpg.Connection, _Explained(connection, plans))


class _Explained:
    """The part of a connection that readers use."""

    def __init__(self, connection: asyncpg.Connection, plans: list[dict[str, Any]]) -> None:
        self._connection = connection
        self._plans = plans

    async def fetch(self, statement: str, *params: Any) -> list[asyncpg.Record]:
        """Return the rows of ``statement``."""
        rows: list[asyncpg.Record] = await self._connection.fetch(statement, *params)
        self._plans.append(await explain_statement(self._connection, statement, params))
        return rows

    async def execute(self, statement: str) -> str:
        """Run a statement without rows, such as a setting, which has no plan to show."""
        status: str = await self._connection.execute(statement)
        return status
