"""Prices that operators set over the catalogue's, as they are stored; and models that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

RATES: Final = ("input_usd_per_mtok", "output_usd_per_mtok", "cache_read_usd_per_mtok", "cache_write_usd_per_mtok")
"""US dollars for a million tokens of each kind."""


@dataclass(frozen=True, slots=True)
class PriceName:
    """What an override is stored under: a model of a provider, from a moment on."""

    project_id: str
    provider: str
    model: str
    valid_from: datetime


async def list_price_overrides(database: Database, scope: RowScope) -> list[dict[str, Any]]:
    """Return the overrides of the scope's projects."""
    rows: list[dict[str, Any]] = []
    async with database.read(scope) as connection:
        for project_id in scope.projects:
            found = await connection.fetch(statement("list_price_overrides"), project_id)
            rows += [{"project_id": project_id, **dict(row)} for row in found]
    return rows


async def store_price_override(
    connection: asyncpg.Connection, name: PriceName, rates: Sequence[Decimal | None], created_by: str
) -> dict[str, Any]:
    """Store one override, its ``rates`` in the order of :data:`RATES`; return its row with ``is_new``."""
    row = await connection.fetchrow(
        statement("store_price_override"),
        name.project_id,
        name.provider,
        name.model,
        name.valid_from,
        *rates,
        created_by,
    )
    return dict(row or {})


async def delete_price_override(connection: asyncpg.Connection, name: PriceName) -> bool:
    """Delete one override; return False when there is none."""
    gone = await connection.fetchval(
        statement("delete_price_override"), name.project_id, name.provider, name.model, name.valid_from
    )
    return gone is not None


async def list_unpriced_models(
    database: Database, scope: RowScope, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Return the models whose calls have tokens and no price, most calls first."""
    rows: list[dict[str, Any]] = []
    async with database.read(scope) as connection:
        for project_id in scope.projects:
            rows += map(dict, await connection.fetch(statement("list_unpriced_models"), project_id, start, end))
    return sorted(rows, key=lambda row: -row["calls"])
