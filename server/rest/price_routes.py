"""Prices over HTTP: overrides, re-pricing of what is stored, models without a price; and deletion of traces."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidBody, InvalidParameter, NotFound, TraceNotFound
from server.http.audit_trail import audit_event, noting
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import decimal_of, is_flag, is_instant, is_number, is_object, is_text, read_object
from server.http.path_value import path_value
from server.http.repeatable import repeatable
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.http.target_project import target_project
from server.ingest.dialects.canonical_names import canonical_provider
from server.ingest.pricing.price_book import UNPRICED_REASONS
from server.ingest.writing.reprice import RepriceDifference, RepriceQuestion, reprice
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.time_range import TimeRange
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import parse_instant

prices = Blueprint("prices", url_prefix="/api/v1")

_RATES: Final = ("input_usd_per_mtok", "output_usd_per_mtok", "cache_read_usd_per_mtok", "cache_write_usd_per_mtok")
_OPTIONAL_RATES: Final = _RATES[2:]
_SHOWN: Final = ("project_id", "provider", "model", "valid_from", *_RATES, "created_at", "created_by")
_ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)
_UNPRICED_RANGE: Final = timedelta(days=30)


PRICE_FIELDS: Final = {
    "provider": is_text,
    "model": is_text,
    "valid_from": is_instant,
    **dict.fromkeys(_RATES, is_number),
}
REPRICE_FIELDS: Final = {
    "from": is_instant,
    "to": is_instant,
    "filter": is_object,
    "dry_run": is_flag,
}


@prices.get("/prices", name="list")
@requires("costs:read")
async def list_prices(request: Request) -> HTTPResponse:
    """List the price overrides of the caller's projects."""
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    params.finish()
    scope = await row_scope(request, projects)
    rows: list[dict[str, Any]] = []
    async with services_of(request).reads.read(scope) as connection:
        for project_id in scope.projects:
            found = await connection.fetch(statement("list_price_overrides"), project_id)
            rows += [{"project_id": project_id, **dict(row)} for row in found]
    return success(request, [{name: row[name] for name in _SHOWN} for row in rows])


@prices.post("/prices", name="store")
@requires("costs:write")
@repeatable
async def store_price(request: Request) -> HTTPResponse:
    """Set a price from a moment on; 201 if it is new, 200 if it replaces one. Stored spans keep their price until they
    are repriced.
    """
    services, project_id = services_of(request), await target_project(request, "project_id")
    body = read_object(request, PRICE_FIELDS, required=("provider", "model", *_RATES[:2]))
    provider, model = canonical_provider(body["provider"]), body["model"].strip().lower()
    for name, value in (("provider", provider), ("model", model)):
        if not 1 <= len(value) <= 200:
            raise InvalidBody.at(f"/{name}", "must be 1 to 200 characters long")
    valid_from = _instant(body, "valid_from") or _ALWAYS
    rates = [_rate(body, name) for name in _RATES]
    async with services.writes.write([project_id]) as connection:
        row = await connection.fetchrow(
            statement("store_price_override"),
            project_id, provider, model, valid_from, *rates, request.ctx.principal.subject,
        )  # fmt: skip
        target = f"{provider}/{model}"
        await noting(request, "price.set", projects=[project_id], target_type="price", target_id=target)(connection)
    services.ingestion.prices.forget(project_id)
    stored = dict(row or {})
    return success(request, {name: stored[name] for name in _SHOWN}, status=201 if stored["is_new"] else 200)


@prices.delete("/prices", name="delete")
@requires("costs:write")
async def delete_price(request: Request) -> HTTPResponse:
    """Delete a price override, named by ``provider``, ``model`` and ``valid_from``."""
    services, params = services_of(request), RequestParams.of(request)
    named = {name: params.text(name) for name in ("provider", "model")}
    valid_from = params.read("valid_from", lambda text: parse_instant(text, now=datetime.now(UTC)), _ALWAYS)
    for name, value in named.items():
        if value is None:
            raise InvalidParameter.named(name, "is required")
    project_id = await target_project(request, "project_id", known=("provider", "model", "valid_from"))
    provider, model = canonical_provider(named["provider"] or ""), (named["model"] or "").strip().lower()
    async with services.writes.write([project_id]) as connection:
        gone = await connection.fetchval(statement("delete_price_override"), project_id, provider, model, valid_from)
        if gone is None:
            raise NotFound()
        target = f"{provider}/{model}"
        await noting(request, "price.delete", projects=[project_id], target_type="price", target_id=target)(connection)
    services.ingestion.prices.forget(project_id)
    return success(request, {"provider": provider, "model": model, "valid_from": valid_from, "deleted": True})


@prices.post("/costs/reprice", name="reprice")
@requires("costs:write", cost=20)
@repeatable
async def reprice_costs(request: Request) -> HTTPResponse:
    """Reprice the model calls of a range. Without ``"dry_run": false`` only the difference is computed."""
    services, project_id = services_of(request), await target_project(request, "project_id")
    body = read_object(request, REPRICE_FIELDS, required=("from",))
    now = datetime.now(UTC)
    start, end = _instant(body, "from"), _instant(body, "to", round_up=True) or now
    if start is None or start >= end:
        raise InvalidBody.at("/from", "must be before the end of the range")
    question = RepriceQuestion(
        project_id=project_id,
        window=TimeRange(start, end),
        filter=parse_filter(body["filter"], now=now) if "filter" in body else None,
        dry_run=body.get("dry_run", True),
    )
    services.ingestion.prices.forget(project_id)
    book = await services.ingestion.prices.of(project_id)
    if not question.dry_run:
        # Recorded first: a request that breaks off half way has changed prices all the same.
        detail = {"from": start.isoformat(), "to": end.isoformat()}
        await services.access.audit.record(
            audit_event(
                request,
                "costs.reprice",
                projects=[project_id],
                target_type="project",
                target_id=project_id,
                detail=detail,
            )
        )
    difference = await reprice(services.writes, services.freshness, book, question)
    return success(request, {"dry_run": question.dry_run, **rendered(difference)})


@prices.get("/costs/unpriced", name="unpriced")
@requires("costs:read", cost=2)
async def list_unpriced(request: Request) -> HTTPResponse:
    """List models whose calls have tokens and no price, most calls first; for the last 30 days unless ``from`` is
    given.
    """
    params, now = RequestParams.of(request), datetime.now(UTC)
    projects, window = params.texts("project_id"), params.window(now=now)
    params.finish()
    scope = await row_scope(request, projects)
    start, end = window.start or (window.end or now) - _UNPRICED_RANGE, window.end or now
    rows: list[dict[str, Any]] = []
    async with services_of(request).reads.read(scope) as connection:
        for project_id in scope.projects:
            found = await connection.fetch(statement("list_unpriced_models"), project_id, start, end)
            rows += map(dict, found)
    for row in rows:
        prices = await services_of(request).ingestion.prices.of(row["project_id"])
        code = prices.why_unpriced(row["provider"], row["model"], row["last_seen"])
        row.update(reason=code, detail=UNPRICED_REASONS[code])
    rows.sort(key=lambda row: -row["calls"])
    return success(request, rows, meta_fields={"from": start, "to": end})


@prices.delete("/traces/<trace_id:str>", name="delete_trace")
@requires("traces:delete")
async def remove_trace(request: Request, trace_id: str) -> HTTPResponse:
    """Delete a trace with its scores; sums and metrics are without it at once."""
    services, trace_id = services_of(request), path_value(trace_id, "trace_id").lower()
    project_id = await _project_of_trace(request, trace_id)
    note = noting(request, "trace.delete", projects=[project_id], target_type="trace", target_id=trace_id)
    spans = await delete_trace(services.writes, services.freshness, project_id, trace_id, note)
    if not spans:
        raise TraceNotFound()
    return success(request, {"trace_id": trace_id, "project_id": project_id, "deleted_spans": spans})


async def _project_of_trace(request: Request, trace_id: str) -> str:
    """Return the one project of the caller that holds the trace. Raises TraceNotFound, or InvalidParameter for
    several.
    """
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    params.finish()
    scope = await row_scope(request, projects)
    async with services_of(request).reads.read(RowScope(scope.projects)) as connection:
        found = [
            project_id
            for project_id in scope.projects
            if await connection.fetchval(statement("trace_exists"), project_id, trace_id)
        ]
    if not found:
        raise TraceNotFound()
    if len(found) > 1:
        raise InvalidParameter.named("project_id", "several projects have a trace of that id: name one")
    return found[0]


def rendered(difference: RepriceDifference) -> dict[str, Any]:
    """Return ``difference`` as an answer, largest change first."""
    models = sorted(difference.models.values(), key=lambda item: -abs(item.new_cost_usd - item.old_cost_usd))
    rows: list[dict[str, Any]] = [
        {
            "provider": item.provider,
            "model": item.model,
            "calls": item.calls,
            "changed": item.changed,
            "unpriced": item.unpriced,
            "old_cost_usd": item.old_cost_usd,
            "new_cost_usd": item.new_cost_usd,
            "difference_usd": item.new_cost_usd - item.old_cost_usd,
        }
        for item in models
    ]
    totals: dict[str, Any] = {
        name: sum(row[name] for row in rows)
        for name in ("calls", "changed", "unpriced", "old_cost_usd", "new_cost_usd", "difference_usd")
    }
    return {"models": rows, "total": totals, "continue_from": difference.continue_from}


def _instant(body: Mapping[str, Any], name: str, *, round_up: bool = False) -> datetime | None:
    if name not in body:
        return None
    try:
        return parse_instant(body[name], now=datetime.now(UTC), round_up=round_up)
    except ValueError as error:
        raise InvalidBody.at(f"/{name}", str(error)) from error


def _rate(body: Mapping[str, Any], name: str) -> Decimal | None:
    if name not in body and name in _OPTIONAL_RATES:
        return None
    rate = decimal_of(body[name])
    if rate is None:
        raise InvalidBody.at(f"/{name}", "expected a number with at most 20 decimal places")
    if not 0 <= rate < 1_000_000:
        raise InvalidBody.at(f"/{name}", "must be between 0 and 1000000")
    return rate
