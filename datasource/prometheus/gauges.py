"""Gauges: what is true at a moment, worked out from the store for each moment that is asked about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from datasource.prometheus.budget_gauges import BUDGET_LABELS, own, projected, spending, used
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.values import Ints, Labels, Vector, empty_vector, labels_of
from server.queries.metrics.active_reader import LONGEST_ACTIVE_MS, read_active
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.metric_catalog import DIMENSIONS, ActorKind, Permission
from server.queries.metrics.unpriced_reader import LONGEST_UNPRICED_MS, read_unpriced
from server.queries.metrics.window_sums import SCORE_UNIT
from server.storage.database import Database
from server.storage.row_scope import RowScope

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

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


async def _unpriced(database: Database, scope: RowScope, times: Ints) -> Vector:
    """Return the calls of the day before that used tokens and have no price, where there are any."""
    if int(times.max() - times.min()) > LONGEST_UNPRICED_MS:
        raise ExecutionError("llm_unpriced_calls is counted from spans: ask for at most a month at a time")
    counted = await read_unpriced(database, scope, times, DAY_MS)
    if not counted:
        return empty_vector(len(times))
    names = ("project", "provider", "model")
    values = np.array(list(counted.values()), dtype=np.float64)
    return Vector([labels_of(zip(names, key, strict=True)) for key in counted], values, values > 0)


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
            labels=BUDGET_LABELS,
            permission="costs:read",
            read=spending(used),
        ),
        Gauge(
            name="llm_budget_projected_ratio",
            help="Share of a budget's amount that its period will have spent at the rate so far.",
            unit="ratio",
            labels=BUDGET_LABELS,
            permission="costs:read",
            read=spending(projected),
        ),
        Gauge(
            name="llm_budget_warning_ratio",
            help="Share of a budget's amount from which on it is at its warning threshold.",
            unit="ratio",
            labels=BUDGET_LABELS,
            permission="costs:read",
            read=own(lambda budget: budget.warning_pct / 100),
        ),
        Gauge(
            name="llm_budget_critical_ratio",
            help="Share of a budget's amount from which on it is at its critical threshold.",
            unit="ratio",
            labels=BUDGET_LABELS,
            permission="costs:read",
            read=own(lambda budget: budget.critical_pct / 100),
        ),
        Gauge(
            name="llm_unpriced_calls",
            help="Model calls of the day before that used tokens and have no price.",
            labels=("project", "provider", "model"),
            permission="costs:read",
            read=_unpriced,
        ),
    )
}
