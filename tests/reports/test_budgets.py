"""Budgets: what was spent in the calendar period, where it leads, who may set them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import httpx
import pytest

from server.errors import InsufficientScope
from server.http.services import Services
from server.queries.records.budgets import Budget
from server.reports.budget_report import budget_state, period_of
from server.reports.report_window import ReportSource
from server.storage.row_scope import RowScope
from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]


def budget(period: str, zone: str = "UTC") -> Budget:
    return Budget(
        project_id="p", budget_id="b", name="b", amount_usd=Decimal(1), period=period, time_zone=zone, created_by="t"
    )


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("day", "2026-11-23", "2026-11-24"),
        ("week", "2026-11-23", "2026-11-30"),
        ("month", "2026-11-01", "2026-12-01"),
        ("quarter", "2026-10-01", "2027-01-01"),
        ("year", "2026-01-01", "2027-01-01"),
    ],
)
def test_periods_are_those_of_the_calendar(period: str, start: str, end: str) -> None:
    found = period_of(budget(period), datetime(2026, 11, 23, 13, 5, tzinfo=UTC))
    assert [moment.date().isoformat() for moment in found] == [start, end]


def test_a_day_of_a_clock_change_has_25_hours() -> None:
    start, end = period_of(budget("day", "Europe/Berlin"), datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert (end.astimezone(UTC) - start.astimezone(UTC)) == timedelta(hours=25)
    assert start.tzinfo == ZoneInfo("Europe/Berlin")


async def test_half_of_a_day_of_25_hours_is_half_of_its_budget(services: Services, project: ProjectMaker) -> None:
    await project("p")
    noon = datetime(2026, 10, 25, 10, 30, tzinfo=UTC)
    await store(services, "p", [make_span(ts=noon - timedelta(hours=1), total_cost_usd=Decimal("0.5"))])
    source = ReportSource(services.reads, RowScope(("p",)))
    state = await budget_state(source, budget("day", "Europe/Berlin"), noon)
    assert state["elapsed_pct"] == 50
    assert (state["projected_usd"], state["projected_pct"]) == (1, 100)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
async def test_an_amount_was_used_up_in_the_minute_that_brought_the_last_of_it(
    services: Services, project: ProjectMaker, zone: str
) -> None:
    await project("p")
    asked = datetime(2026, 10, 27, 12, tzinfo=UTC)
    spent = {"2026-10-05T10:00:00": "0.6", "2026-10-20T14:10:40": "0.3", "2026-10-20T14:31:20": "0.2"}
    spans = [
        make_span(ts=datetime.fromisoformat(f"{moment}+00:00"), total_cost_usd=Decimal(cost))
        for moment, cost in {**spent, "2026-10-20T14:50:00": "0.5", "2026-10-25T09:00:00": "2"}.items()
    ]
    await store(services, "p", spans)
    source = ReportSource(services.reads, RowScope(("p",)))
    state = await budget_state(source, budget("month", zone), asked)
    assert state["exhausted_at"] == datetime(2026, 10, 20, 14, 32, tzinfo=UTC)
    assert (await budget_state(source, replace(budget("month", zone), amount_usd=Decimal(5)), asked))[
        "exhausted_at"
    ] is None


@pytest.fixture
async def http(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Bearer
) -> httpx.AsyncClient:
    await project("alpha")
    await project("beta")
    now = datetime.now(UTC)
    spans = [
        make_span(ts=now - timedelta(seconds=1), model=model, total_cost_usd=Decimal(cost), cost_source="computed")
        for model, cost in (("mini", "1"), ("large", "7"))
    ]
    await store(app_server.services, "alpha", spans)
    client.headers.update(bearer("admin", ["alpha"]))
    return client


MONTH = {"name": "All models", "amount_usd": 10, "period": "year"}


async def test_a_budget_is_made_replaced_listed_and_deleted(http: httpx.AsyncClient) -> None:
    made = await http.put("/api/v1/budgets/alpha/total", json=MONTH)
    assert made.status_code == 201, made.text
    state = made.json()["data"]
    assert state["spent_usd"] == 8
    assert state["remaining_usd"] == 2
    assert state["used_pct"] == pytest.approx(80)
    assert (state["status"], state["status_level"]) == ("warning", 1)
    assert state["projected_usd"] >= 8
    replaced = await http.put("/api/v1/budgets/alpha/total", json={**MONTH, "amount_usd": "8"})
    assert replaced.status_code == 200
    assert replaced.json()["data"]["status"] == "critical"
    assert replaced.json()["data"]["exhausted_at"] is not None
    assert [row["budget_id"] for row in (await http.get("/api/v1/budgets")).json()["data"]] == ["total"]
    assert (await http.get("/api/v1/budgets/alpha/total")).status_code == 200
    assert (await http.delete("/api/v1/budgets/alpha/total")).status_code == 200
    assert (await http.get("/api/v1/budgets/alpha/total")).status_code == 404


async def test_a_budget_of_one_model_counts_that_model(http: httpx.AsyncClient) -> None:
    body = {**MONTH, "dimension": "model", "value": "mini"}
    state = (await http.put("/api/v1/budgets/alpha/mini", json=body)).json()["data"]
    assert state["spent_usd"] == 1
    assert state["status"] == "ok"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount_usd": 0}, "/amount_usd"),
        ({"amount_usd": "NaN"}, "/amount_usd"),
        ({"amount_usd": True}, "/amount_usd"),
        ({"amount_usd": 1e-30}, "/amount_usd"),
        ({"amount_usd": "1e-400"}, "/amount_usd"),
        ({"amount_usd": "1_000"}, "/amount_usd"),
        ({"amount_usd": "１２"}, "/amount_usd"),
        ({"warning_pct": "-5"}, "/warning_pct"),
        ({"period": "fortnight"}, "/period"),
        ({"time_zone": "Mars"}, "/time_zone"),
        ({"dimension": "model"}, "/value"),
        ({"dimension": "password", "value": "x"}, "/dimension"),
        ({"critical_pct": 10}, "/critical_pct"),
        ({"name": ""}, "/name"),
        ({"project_id": "beta"}, "/project_id"),
    ],
)
async def test_bad_budgets_are_400_with_a_pointer(
    http: httpx.AsyncClient, change: dict[str, object], pointer: str
) -> None:
    answer = await http.put("/api/v1/budgets/alpha/b", json={**MONTH, **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_what_a_budget_spent_is_money(services: Services, project: ProjectMaker) -> None:
    await project("p")
    source = ReportSource(services.reads, RowScope(("p",), may_read_costs=False))
    with pytest.raises(InsufficientScope, match=r"cost needs the scope costs:read"):
        await budget_state(source, budget("day"), datetime.now(UTC))


async def test_budgets_of_other_projects_are_out_of_reach(http: httpx.AsyncClient, bearer: Bearer) -> None:
    assert (await http.put("/api/v1/budgets/beta/b", json=MONTH)).status_code == 403
    assert (await http.put("/api/v1/budgets/unknown/b", json=MONTH)).status_code == 403
    assert (await http.delete("/api/v1/budgets/beta/b")).status_code == 404
    viewer = bearer("viewer", ["alpha"])
    assert (await http.put("/api/v1/budgets/alpha/b", json=MONTH, headers=viewer)).status_code == 403
    assert (await http.get("/api/v1/budgets", headers=viewer)).status_code == 200
