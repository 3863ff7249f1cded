"""Budgets as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import asyncpg

from server.errors import BudgetNotFound, Conflict
from server.storage.database import Database, Step
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_BUDGETS: Final = 200
PERIODS: Final = ("day", "week", "month", "quarter", "year")
BUDGET_DIMENSIONS: Final = ("user", "model", "provider", "service", "environment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """``amount_usd`` for each calendar ``period`` of ``time_zone``, for the whole project or for one ``value`` of
    ``dimension``. Its state is warning at ``warning_pct`` percent of the amount, and critical at ``critical_pct``.
    """

    project_id: str
    budget_id: str
    name: str
    amount_usd: Decimal
    period: str
    time_zone: str = "UTC"
    dimension: str | None = None
    value: str | None = None
    warning_pct: Decimal = Decimal(80)
    critical_pct: Decimal = Decimal(100)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by: str = ""


async def list_budgets(database: Database, scope: RowScope) -> list[Budget]:
    """Return all budgets of the scope's projects, at most 200 per project."""
    if not scope.projects:
        return []
    async with database.read(scope) as connection:
        rows = await connection.fetch(
            statement("list_budgets"), list(scope.projects), MOST_BUDGETS * len(scope.projects)
        )
    return [_budget(row) for row in rows]


async def find_budget(database: Database, scope: RowScope, project_id: str, budget_id: str) -> Budget:
    """Return one budget. Raises :class:`BudgetNotFound`, also for a budget outside the scope."""
    if project_id not in scope.projects:
        raise BudgetNotFound
    async with database.read(scope) as connection:
        row = await connection.fetchrow(statement("find_budget"), project_id, budget_id)
    if row is None:
        raise BudgetNotFound
    return _budget(row)


async def put_budget(database: Database, budget: Budget, note: Step | None = None) -> tuple[Budget, bool]:
    """Create or replace ``budget``; the second value is whether it is new. ``note`` runs in the same transaction.

    Raises :class:`Conflict` above 200.
    """
    async with database.write((budget.project_id,)) as connection:
        row = await connection.fetchrow(
            statement("put_budget"),
            budget.project_id,
            budget.budget_id,
            budget.name,
            budget.amount_usd,
            budget.period,
            budget.time_zone,
            budget.dimension,
            budget.value,
            budget.warning_pct,
            budget.critical_pct,
            budget.created_by,
        )
        assert row is not None  # noqa: S101 - INSERT … DO UPDATE always returns its row
        if (
            not row["replaced"]
            and await connection.fetchval(statement("count_budgets"), budget.project_id) > MOST_BUDGETS
        ):
            raise Conflict(f"The project has {MOST_BUDGETS} budgets, which is the limit.")
        if note is not None:
            await note(connection)
    return _budget(row), not row["replaced"]


async def delete_budget(database: Database, project_id: str, budget_id: str, note: Step) -> None:
    """Remove a budget, and run ``note`` in the same transaction. Raises :class:`BudgetNotFound`."""
    async with database.write((project_id,)) as connection:
        if await connection.fetchval(statement("delete_budget"), project_id, budget_id) is None:
            raise BudgetNotFound
        await note(connection)


def _budget(row: asyncpg.Record) -> Budget:
    return Budget(**{name: row[name] for name in Budget.__dataclass_fields__})
