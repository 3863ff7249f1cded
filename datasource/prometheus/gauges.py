"""Gauges: what is true at a moment, worked out from the store for each moment that is asked about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.values import Floats, Ints, Labels, Vector, empty_vector, labels_of
from server.queries.metrics.active_reader import LONGEST_ACTIVE_MS, read_active
from server.queries.metrics.counter_reader import MONEY_UNIT, SCORE_UNIT, CounterQuestion, read_windows
from server.queries.metrics.metric_catalog import DIMENSIONS, ActorKind, Permission
from server.queries.records.budgets import Budget, list_budgets
from server.reports.budget_report import budget_filter, period_of
from server.storage.database import Database
from server.storage.row_scope import RowScope

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
_MOST_BUDGET_READS: Final = 100

Reader = Callable[[Database, RowScope, Ints], Awaitable[Vector]]
"""Returns the gauge at each of the times (ms) for the projects of a scope, without its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One gauge as Prometheus sees it."""

    name: str
    help: str
    unit: str = ""
    labels: tuple[str, ...]
    permission: Permission = "metrics:read"
    read: Reader


def _active(kind: ActorKind) -> Reader:
    async def read(database: Database, scope: RowScope, times: Ints) -> Vector:
        if int(times.max() - times.min()) > LONGEST_ACTIVE_MS:
            raise ExecutionError(f"llm_{kind}s_active is counted from spans: ask for at most a day at a time")
        rows = [
            await read_active(database, replace(scope, projects=(project,)), kind, times, HOUR_MS)
            for project in scope.projects
        ]
        labels: list[Labels] = [(("project", project),) for project in scope.projects]
        if not rows:
            return empty_vector(len(times))
        return Vector(labels, np.array(rows, dtype=np.float64), np.ones((len(rows), len(times)), dtype=bool))

    return read


async def _scores(database: Database, scope: RowScope, times: Ints) -> Vector:
    """Return the average of numeric and boolean scores of the day before."""
    names = ("score_name", "score_source", "project")
    counted = await read_windows(
        database,
        scope,
        CounterQuestion(
            family="scores",
            presence="score_values",
            counters=("score_values", "score_sum"),
            lows=times - DAY_MS,
            highs=times,
            dimensions=tuple(DIMENSIONS[name] for name in names),
            lingers=False,
        ),
    )
    number = counted.counters["score_values"]
    values = counted.counters["score_sum"] / SCORE_UNIT / np.maximum(number, 1)
    return Vector([labels_of(zip(names, key, strict=True)) for key in counted.groups], values, number > 0)


def _of_budgets(share: Callable[[Floats, Ints, Ints, Ints], Floats]) -> Reader:
    """Return a reader of budgets.

    ``share`` is computed from the money spent (US dollars), start and end of the period, and the moment.
    """

    async def read(database: Database, scope: RowScope, times: Ints) -> Vector:
        budgets = await list_budgets(database, scope)
        if len(budgets) > _MOST_BUDGET_READS and len(times) > 1:
            raise ExecutionError(f"more than {_MOST_BUDGET_READS} budgets over time: choose a project, or one moment")
        labels, rows = [], []
        for budget in budgets:
            begins, ends = _periods(budget, times)
            spent = await _spent(database, scope, budget, begins, times)
            labels.append(_budget_labels(budget))
            rows.append(share(spent, begins, ends, times) / float(budget.amount_usd))
        if not rows:
            return empty_vector(len(times))
        return Vector(labels, np.array(rows), np.ones((len(rows), len(times)), dtype=bool))

    return read


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


def _projected(spent: Floats, begins: Ints, ends: Ints, times: Ints) -> Floats:
    return np.asarray(spent / np.maximum(times - begins, 1000) * (ends - begins), dtype=np.float64)


_BUDGET_LABELS: Final = ("project", "budget", "budget_id", "period", "dimension", "value")

GAUGES: Final[Mapping[str, Gauge]] = {
    gauge.name: gauge
    for gauge in (
        Gauge(
            name="llm_users_active",
            help="Different users with a span in the hour before.",
            labels=("project",),
            read=_active("user"),
        ),
        Gauge(
            name="llm_sessions_active",
            help="Different sessions with a span in the hour before.",
            labels=("project",),
            read=_active("session"),
        ),
        Gauge(
            name="llm_score",
            help="Average of numeric and boolean scores (true is 1) given in the day before.",
            labels=("score_name", "score_source", "project"),
            read=_scores,
        ),
        Gauge(
            name="llm_budget_used_ratio",
            help="Share of a budget's amount that its period has spent so far.",
            unit="ratio",
            labels=_BUDGET_LABELS,
            permission="costs:read",
            read=_of_budgets(lambda spent, begins, ends, times: spent),
        ),
        Gauge(
            name="llm_budget_projected_ratio",
            help="Share of a budget's amount that its period will have spent at the rate so far.",
            unit="ratio",
            labels=_BUDGET_LABELS,
            permission="costs:read",
            read=_of_budgets(_projected),
        ),
    )
}
