"""``/api/v1/budgets``: limits on spending, and the spending so far."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from sanic import Blueprint, HTTPResponse, Request

from server.errors import BudgetNotFound, InvalidBody
from server.http.audit_trail import noting
from server.http.envelope import json_response, meta, success
from server.http.guard import requires, row_scope
from server.http.json_body import decimal_of, is_number, is_text, read_object
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.records.budgets import (
    BUDGET_DIMENSIONS,
    PERIODS,
    Budget,
    delete_budget,
    find_budget,
    list_budgets,
    put_budget,
)
from server.reports.budget_report import budget_state
from server.reports.report_window import ReportSource

budgets = Blueprint("budgets", url_prefix="/api/v1/budgets")

_BUDGET_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LARGEST: Final = Decimal(10) ** 9
_SMALLEST: Final = Decimal("1e-9")


MEMBERS: Final = {
    "name": is_text,
    "amount_usd": is_number,
    "period": is_text,
    "time_zone": is_text,
    "dimension": is_text,
    "value": is_text,
    "warning_pct": is_number,
    "critical_pct": is_number,
}


@budgets.get("", name="list")
@requires("costs:read", cost=2)
async def show_budgets(request: Request) -> HTTPResponse:
    """List all budgets with their state, one flat row each: Grafana can alert on ``used_pct`` and ``projected_pct``."""
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    params.finish()
    source = ReportSource(services_of(request).reads, await row_scope(request, projects))
    now = datetime.now(UTC)
    rows = [
        _row(budget, await budget_state(source, budget, now))
        for budget in await list_budgets(source.database, source.scope)
    ]
    return success(request, rows, pagination={"cursor": None, "has_more": False, "limit": len(rows)})


@budgets.get("/<project_id:str>/<budget_id:str>", name="show")
@requires("costs:read")
async def show_budget(request: Request, project_id: str, budget_id: str) -> HTTPResponse:
    """Return one budget with its state."""
    RequestParams.of(request).finish()
    source = ReportSource(services_of(request).reads, await row_scope(request))
    budget = await find_budget(source.database, source.scope, project_id, budget_id)
    return success(request, _row(budget, await budget_state(source, budget, datetime.now(UTC))))


@budgets.put("/<project_id:str>/<budget_id:str>", name="put")
@requires("costs:write")
async def set_budget(request: Request, project_id: str, budget_id: str) -> HTTPResponse:
    """Create or replace a budget: 201 for a new one, else 200."""
    RequestParams.of(request).finish()
    await row_scope(request, [project_id])
    if not _BUDGET_ID.fullmatch(budget_id):
        raise InvalidBody("The id of a budget must be 1 to 63 of a-z, 0-9, - and _ and start with a letter or digit.")
    members = read_object(request, MEMBERS, required=("name", "amount_usd", "period"))
    budget = _budget(project_id, budget_id, members, request.ctx.principal.subject)
    note = noting(request, "budget.set", projects=[project_id], target_type="budget", target_id=budget_id)
    stored, is_new = await put_budget(services_of(request).writes, budget, note)
    source = ReportSource(services_of(request).reads, await row_scope(request, [project_id]))
    state = await budget_state(source, stored, datetime.now(UTC))
    return success(request, _row(stored, state), status=201 if is_new else 200)


@budgets.delete("/<project_id:str>/<budget_id:str>", name="delete")
@requires("costs:write")
async def remove_budget(request: Request, project_id: str, budget_id: str) -> HTTPResponse:
    """Delete a budget."""
    RequestParams.of(request).finish()
    scope = await row_scope(request)
    if project_id not in scope.projects:
        raise BudgetNotFound
    note = noting(request, "budget.delete", projects=[project_id], target_type="budget", target_id=budget_id)
    await delete_budget(services_of(request).writes, project_id, budget_id, note)
    return json_response({"status": "success", "data": {"deleted": budget_id}, "meta": meta(request)})


def _row(budget: Budget, state: dict[str, Any]) -> dict[str, Any]:
    return {**asdict(budget), **state}


def _budget(project_id: str, budget_id: str, members: dict[str, Any], subject: str) -> Budget:
    name: str = members["name"]
    if not 1 <= len(name) <= 200:
        raise InvalidBody.at("/name", "has 1 to 200 characters")
    if members["period"] not in PERIODS:
        raise InvalidBody.at("/period", f"expected one of {', '.join(PERIODS)}")
    zone = members.get("time_zone", "UTC")
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidBody.at("/time_zone", "expected an IANA name such as Europe/Berlin") from error
    dimension, value = members.get("dimension"), members.get("value")
    if (dimension is None) != (value is None):
        raise InvalidBody.at("/value", "dimension and value must be given together")
    if dimension is not None and dimension not in BUDGET_DIMENSIONS:
        raise InvalidBody.at("/dimension", f"expected one of {', '.join(BUDGET_DIMENSIONS)}")
    if value is not None and not 1 <= len(value) <= 500:
        raise InvalidBody.at("/value", "has 1 to 500 characters")
    warning = _amount(members, "warning_pct", Decimal(80), Decimal(1000))
    critical = _amount(members, "critical_pct", Decimal(100), Decimal(1000))
    if critical < warning:
        raise InvalidBody.at("/critical_pct", "must not be below warning_pct")
    return Budget(
        project_id=project_id,
        budget_id=budget_id,
        name=name,
        amount_usd=_amount(members, "amount_usd", None, _LARGEST),
        period=members["period"],
        time_zone=zone,
        dimension=dimension,
        value=value,
        warning_pct=warning,
        critical_pct=critical,
        created_by=subject,
    )


def _amount(members: dict[str, Any], name: str, default: Decimal | None, largest: Decimal) -> Decimal:
    amount = decimal_of(members.get(name, default)) or Decimal(0)
    if not _SMALLEST <= amount < largest:
        raise InvalidBody.at(f"/{name}", f"expected a number of at least {_SMALLEST:f} and below {largest}")
    return amount
