"""Gauges of budgets: their thresholds, and the money of their period at each moment that is asked about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import numpy as np

from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.values import Floats, Ints, Labels, Vector, empty_vector, labels_of
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.window_sums import MONEY_UNIT
from server.queries.records.budgets import Budget, list_budgets
from server.reports.budget_report import budget_filter, period_of
from server.storage.database import Database
from server.storage.row_scope import RowScope

BUDGET_LABELS: Final = ("project", "budget", "budget_id", "period", "dimension", "value")
_MOST_BUDGET_READS: Final = 100

_Reader = Callable[[Database, RowScope, Ints], Awaitable[Vector]]
Share = Callable[[Floats, Ints, Ints, Ints], Floats]
"""Money from money spent so far (US dollars), start and end of the period, and the moment."""


def used(spent: Floats, begins: Ints, ends: Ints, times: Ints) -> Floats:
    """Return the money spent so far."""
    return spent


def projected(spent: Floats, begins: Ints, ends: Ints, times: Ints) -> Floats:
    """Return the money that the period will have spent at the rate so far."""
    return np.asarray(spent / np.maximum(times - begins, 1000) * (ends - begins), dtype=np.float64)


def own(value: Callable[[Budget], Decimal]) -> _Reader:
    """Return a reader of what each budget says of itself: the same at every moment."""

    async def read(database: Database, scope: RowScope, times: Ints) -> Vector:
        budgets = await list_budgets(database, scope)
        rows = [np.full(len(times), float(value(budget))) for budget in budgets]
        return _vector([_budget_labels(budget) for budget in budgets], rows, len(times))

    return read


def spending(share: Share) -> _Reader:
    """Return a reader of ``share`` as a part of each budget's amount."""

    async def read(database: Database, scope: RowScope, times: Ints) -> Vector:
        budgets = await list_budgets(database, scope)
        if len(budgets) > _MOST_BUDGET_READS and len(times) > 1:
            raise ExecutionError(f"more than {_MOST_BUDGET_READS} budgets over time: choose a project, or one moment")
        rows = []
        for budget in budgets:
            begins, ends = _periods(budget, times)
            spent = await _spent(database, scope, budget, begins, times)
            rows.append(share(spent, begins, ends, times) / float(budget.amount_usd))
        return _vector([_budget_labels(budget) for budget in budgets], rows, len(times))

    return read


def _vector(labels: list[Labels], rows: list[Floats], steps: int) -> Vector:
    if not rows:
        return empty_vector(steps)
    return Vector(labels, np.array(rows), np.ones((len(rows), steps), dtype=bool))


def _periods(budget: Budget, times: Ints) -> tuple[Ints, Ints]:
    """Return start and end of the period of each moment, in ms."""
    found = [period_of(budget, datetime.fromtimestamp(time / 1000, UTC)) for time in times.tolist()]
    return (
        np.array([int(start.timestamp() * 1000) for start, _ in found], dtype=np.int64),
        np.array([int(end.timestamp() * 1000) for _, end in found], dtype=np.int64),
    )


async def _spent(database: Database, scope: RowScope, budget: Budget, begins: Ints, times: Ints) -> Floats:
    counted = await read_windows(
        database,
        replace(scope, projects=(budget.project_id,)),
        CounterQuestion(
            family="spans",
            presence="calls",
            counters=("total_cost",),
            lows=begins,
            highs=np.maximum(times, begins + 1),
            filter=budget_filter(budget),
            lingers=False,
        ),
    )
    return np.asarray(counted.counters["total_cost"].sum(axis=0) / MONEY_UNIT, dtype=np.float64)


def _budget_labels(budget: Budget) -> Labels:
    return labels_of(
        (
            ("project", budget.project_id),
            ("budget", budget.name),
            ("budget_id", budget.budget_id),
            ("period", budget.period),
            ("dimension", budget.dimension or ""),
            ("value", budget.value or ""),
        )
    )
