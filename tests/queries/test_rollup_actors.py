"""Packed users and sessions: exact money, merged days and weeks, estimates only where they are announced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import numpy as np
import pytest

from server.http.services import Services
from server.queries.metrics.actor_reader import choose_packs, count_actors, plan_actors
from server.queries.metrics.metric_question import Measure, MetricQuestion
from server.queries.metrics.metric_reader import query_metrics
from server.queries.metrics.source_plan import Timeline
from server.rollups.actor_fold import merge_past_actors
from server.rollups.actor_pack import COST_UNITS, Actors, merge_actors, unpack
from server.rollups.fold import fold_pending
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

SCOPE = RowScope(("alpha",))
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
MONDAY = TODAY - timedelta(days=TODAY.weekday() + 14)


def actors(ids: list[int], rows: list[list[int]]) -> Actors:
    return Actors(np.array(ids, dtype=np.int64), np.array(rows, dtype=np.int64).reshape(-1, 6))


def whole(start: datetime, end: datetime) -> Timeline:
    return Timeline(start, end, (start, end))


def test_money_adds_up_exactly_in_whole_dollars_and_the_rest() -> None:
    merged = merge_actors([actors([7], [[1, 1, 0, 5, 999_999_999, COST_UNITS - 1]])] * 3)
    assert merged.cost(0) == 3 * (Decimal(999_999_999) + Decimal(COST_UNITS - 1).scaleb(-10))
    back = merge_actors([merged, actors([7], [[-3, -3, 0, -15, -3_000_000_000, 3]])])
    assert back.ids.tolist() == []


def test_packing_keeps_ids_sorted_and_amounts_beside_them() -> None:
    merged = merge_actors(
        [actors([5, -9], [[1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]]), actors([5], [[4, 1, 1, 8, 0, 2]])]
    )
    again = unpack(*merged.packed())
    assert again.ids.tolist() == [-9, 5]
    assert again.amounts.tolist() == [[2, 0, 0, 0, 0, 0], [5, 1, 1, 8, 0, 2]]
    assert merge_actors([]).packed() == (b"", b"")


@pytest.fixture
async def two_weeks(services: Services, project: ProjectMaker) -> Services:
    """Each user of ten in every second hour of two past weeks, folded and merged."""
    await project("alpha")
    spans = [
        make_span(ts=MONDAY + timedelta(hours=2 * hour), user_id=f"user-{hour % 10}", session_id=f"s-{hour}")
        for hour in range(7 * 24)
    ]
    await store(services, "alpha", spans)
    await fold_pending(services.worker)
    await merge_past_actors(services.worker, datetime.now(UTC))
    return services


async def packs(services: Services, start: datetime, end: datetime) -> list[int]:
    plan = plan_actors(whole(start, end))
    assert plan is not None
    async with services.reads.read(SCOPE) as connection:
        return sorted((await choose_packs(connection, SCOPE, "user", plan)).hours)


async def distinct(services: Services, start: datetime, end: datetime) -> tuple[object, object]:
    question = MetricQuestion(measures=(Measure("users"), Measure("sessions")), start=start, end=end)
    (group,) = (await query_metrics(services.reads, SCOPE, question)).groups
    return group.values["users"][0], group.values["sessions"][0]


async def test_a_range_takes_weeks_then_days_then_hours(two_weeks: Services) -> None:
    start, end = MONDAY - timedelta(days=3), MONDAY + timedelta(days=9, hours=4)
    assert await packs(two_weeks, start, end) == [1, 1, 24, 24, 168]
    assert await distinct(two_weeks, start, end) == (10, 110)


async def test_a_late_span_makes_its_day_and_week_fall_back_to_hours(
    two_weeks: Services, owner: asyncpg.Connection
) -> None:
    week = (MONDAY, MONDAY + timedelta(days=7))
    assert await packs(two_weeks, *week) == [168]
    await store(two_weeks, "alpha", make_span(ts=MONDAY + timedelta(hours=5), user_id="late"))
    assert await distinct(two_weeks, *week) == (11, 84)
    # The fold itself merges past days again; without that, the reader takes the hours.
    await fold_pending(two_weeks.worker)
    assert await packs(two_weeks, *week) == [168]
    await owner.execute("DELETE FROM actor_pack WHERE hours = 168 OR hours = 24 AND bucket = $1", MONDAY)
    assert await packs(two_weeks, *week) == [1] * 13 + [24] * 6
    assert await distinct(two_weeks, *week) == (11, 84)


async def test_distinct_counts_beyond_the_exact_range_are_estimated_and_said_to_be(
    services: Services, project: ProjectMaker
) -> None:
    await project("alpha")
    moment = TODAY - timedelta(days=3)
    await store(services, "alpha", [make_span(ts=moment, user_id=f"user-{number}") for number in range(3000)])
    await fold_pending(services.worker)
    timeline = whole(moment, moment + timedelta(days=1))
    plan = plan_actors(timeline)
    assert plan is not None
    async with services.reads.read(SCOPE) as connection:
        exact, is_estimate, _ = await count_actors(connection, SCOPE, "user", plan, timeline)
        assert (exact, is_estimate) == ([3000], False)
        estimate, is_estimate, _ = await count_actors(connection, SCOPE, "user", plan, timeline, most_exact=800)
    assert is_estimate
    assert estimate[0] == pytest.approx(3000, rel=0.1)


async def test_top_users_name_the_rest_and_those_without_a_name(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    spans = [
        make_span(
            ts=TODAY - timedelta(days=2, hours=-user),
            user_id=f"user-{user}" if user else None,
            total_cost_usd=Decimal(user),
        )
        for user in range(5)
        for _ in range(user + 1)
    ]
    await store(services, "alpha", spans)
    await fold_pending(services.worker)
    question = MetricQuestion(
        measures=(Measure("cost"), Measure("calls")),
        start=TODAY - timedelta(days=3),
        end=TODAY,
        group_by=("user",),
        limit=2,
    )
    answer = await query_metrics(services.reads, SCOPE, question)
    found = {group.labels["user"]: (group.values["cost"][0], group.values["calls"][0]) for group in answer.groups}
    assert found == {"user-4": (20, 5), "user-3": (12, 4), "other": (8, 6)}
    assert (answer.meta.groups_total, answer.meta.source) == (5, "rollup")
    every = await query_metrics(services.reads, SCOPE, MetricQuestion(
        measures=(Measure("calls"),), start=question.start, end=question.end, group_by=("user",), descending=False
    ))  # fmt: skip
    assert [group.labels["user"] for group in every.groups] == [None, "user-1", "user-2", "user-3", "user-4"]
