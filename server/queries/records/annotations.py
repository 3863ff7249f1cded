"""Annotations of charts: added by people, or derived from stored data.

Three sources: custom annotations (table ``annotations``), the first sighting of service versions, models and prompt
versions (``first_sightings``, kept by the span writer), and price changes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import asyncpg

from server.storage.database import Database, Step
from server.storage.row_scope import RowScope
from server.storage.statements import statement

SIGHTING_KINDS: Final = ("service_version", "model", "prompt_version")
MAX_ROWS: Final = 1000

# Dimension → the kind of sighting that has its values, and whether the value is the sighting's owner.
_SIGHTED: Final = {
    "model": ("model", False),
    "provider": ("model", True),
    "service": ("service_version", True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A remark about a moment, or about the range up to ``end_ts``."""

    project_id: str
    annotation_id: str
    ts: datetime
    end_ts: datetime | None
    title: str
    text: str
    tags: tuple[str, ...]
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first time that ``value`` (of the service, provider or prompt ``owner_name``) was seen."""

    project_id: str
    kind: str
    owner_name: str
    value: str
    first_ts: datetime


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A price in US dollars per million tokens and when it came into force; ``former_*`` is None for the first one."""

    project_id: str
    provider: str
    model: str
    valid_from: datetime
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    former_input_usd_per_mtok: Decimal | None
    former_output_usd_per_mtok: Decimal | None


def _annotation(row: asyncpg.Record) -> Annotation:
    return Annotation(**{**dict(row), "tags": tuple(row["tags"])})


async def add_annotation(
    database: Database,
    project_id: str,
    *,
    ts: datetime,
    end_ts: datetime | None,
    title: str,
    text: str,
    tags: Sequence[str],
    created_by: str,
    note: Callable[[Annotation], Step],
) -> Annotation:
    """Store a remark and return it with its new id. The step that ``note`` returns runs in the same transaction."""
    async with database.write((project_id,)) as connection:
        row = await connection.fetchrow(
            statement("add_annotation"),
            project_id, secrets.token_hex(8), ts, end_ts, title, text, list(tags), created_by,
        )  # fmt: skip
        assert row is not None  # noqa: S101 - INSERT … RETURNING returns its row
        stored = _annotation(row)
        await note(stored)(connection)
    return stored


async def delete_annotation(
    database: Database, projects: Sequence[str], annotation_id: str, note: Callable[[Annotation], Step]
) -> Annotation | None:
    """Remove a remark of one of ``projects`` and return it; None if there is no such remark. The step that ``note``
    returns runs in the same transaction.
    """
    async with database.write(projects) as connection:
        for project_id in projects:
            row = await connection.fetchrow(statement("delete_annotation"), project_id, annotation_id)
            if row is not None:
                deleted = _annotation(row)
                await note(deleted)(connection)
                return deleted
    return None


async def list_annotations(
    database: Database,
    scope: RowScope,
    start: datetime,
    end: datetime,
    *,
    tags: Sequence[str] = (),
    limit: int = MAX_ROWS,
) -> list[Annotation]:
    """Return remarks that overlap ``[start, end)``, newest first; with ``tags``, those that have any of them."""
    async with database.read(scope) as connection:
        rows = await connection.fetch(
            statement("list_annotations"), list(scope.projects), start, end, list(tags), limit
        )
    return [_annotation(row) for row in rows]


async def list_sightings(
    database: Database, scope: RowScope, start: datetime, end: datetime, kinds: Sequence[str] = SIGHTING_KINDS
) -> list[Sighting]:
    """Return first sightings within ``[start, end)``, newest first, at most 1,000."""
    async with database.read(scope) as connection:
        rows = await connection.fetch(
            statement("list_sightings"), list(scope.projects), start, end, list(kinds), MAX_ROWS
        )
    return [Sighting(**dict(row)) for row in rows]


async def list_first_seen(database: Database, scope: RowScope, dimension: str) -> list[str]:
    """Return the values of ``model``, ``provider`` or ``service`` in the order in which they were first seen.

    Empty for every other dimension, because its first sightings are not recorded.
    """
    kind = _SIGHTED.get(dimension)
    if kind is None:
        return []
    async with database.read(scope) as connection:
        rows = await connection.fetch(statement("list_first_seen"), list(scope.projects), *kind, MAX_ROWS)
    return [row["seen"] for row in rows]


async def first_data_at(database: Database, scope: RowScope) -> datetime | None:
    """Return when the earliest model or version of the scope's projects was first seen; None if there is none."""
    async with database.read(scope) as connection:
        found: datetime | None = await connection.fetchval(statement("first_data_at"), list(scope.projects))
    return found


async def list_price_changes(database: Database, scope: RowScope, start: datetime, end: datetime) -> list[PriceChange]:
    """Return operator prices that came into force within ``[start, end)``, newest first, at most 1,000."""
    async with database.read(scope) as connection:
        rows = await connection.fetch(statement("list_price_changes"), list(scope.projects), start, end, MAX_ROWS)
    return [PriceChange(**dict(row)) for row in rows]
