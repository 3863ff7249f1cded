"""What the database did for a statement: for administrators who ask ``explain=1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from server.queries.filter_sql import fragment


async def explain_statement(connection: asyncpg.Connection, statement: str, params: Sequence[Any]) -> dict[str, Any]:
    """The plan of ``statement`` with what it really did, and in short which indexes and how many rows."""
    text = await connection.fetchval(fragment("explain_analyze").format(statement=statement), *params)
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
