"""A project's settings for ingestion over HTTP: its rates, its redaction rules and its prices."""

from __future__ import annotations

from typing import Any, Final

import orjson
from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidBody
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import is_object, read_object
from server.http.path_value import path_value
from server.http.services import services_of
from server.ingest.pricing.project_prices import InvalidPrices, parse_project_prices
from server.ingest.project_settings import parse_ingest_settings
from server.ingest.redaction.redaction_rules import InvalidRule
from server.storage.statements import statement

ingest_settings = Blueprint("ingest_settings")

FIELDS: Final = {"ingest": is_object, "redaction": is_object, "prices": is_object}
_RATES: Final = ("spans_per_minute", "bytes_per_minute")
_MOST: Final = 1_000_000_000_000


@ingest_settings.get("/api/v1/projects/<project_id:str>/ingest-settings", name="read")
@requires("projects:manage")
async def read_settings(request: Request, project_id: str) -> HTTPResponse:
    """Return the rates, redaction rules and prices of a project; empty if the server's defaults apply."""
    project_id = await _named(request, project_id)
    async with services_of(request).reads.plain() as connection:
        text = await connection.fetchval(statement("project_ingest_settings"), project_id)
    document = orjson.loads(text or "{}")
    return success(request, {name: document.get(name) or {} for name in FIELDS})


@ingest_settings.put("/api/v1/projects/<project_id:str>/ingest-settings", name="replace")
@requires("projects:manage")
async def replace_settings(request: Request, project_id: str) -> HTTPResponse:
    """Replace rates, redaction rules and prices; omitted members return to the default. Every server process applies
    them within 10 seconds. Stored spans stay as they are.
    """
    services, project_id = services_of(request), await _named(request, project_id)
    body = read_object(request, FIELDS)
    _check_rates(body.get("ingest", {}))
    try:
        parse_ingest_settings(body, services.settings.jwt_secret.encode())
    except InvalidRule as error:
        raise InvalidBody.at("/redaction/rules", str(error)) from error
    try:
        parse_project_prices(body.get("prices", {}))
    except InvalidPrices as error:
        raise InvalidBody.at(f"/prices{error.pointer}", str(error)) from error
    documents = [orjson.dumps(body[name]).decode() if body.get(name) else None for name in FIELDS]
    async with services.writes.write(()) as connection:
        await connection.execute(statement("store_ingest_settings"), project_id, *documents)
        act = "project.ingest_settings"
        await noting(request, act, projects=[project_id], target_type="project", target_id=project_id)(connection)
    services.ingestion.projects.forget(project_id)
    services.ingestion.prices.forget(project_id)
    return success(request, {name: body.get(name) or {} for name in FIELDS})


async def _named(request: Request, project_id: str) -> str:
    """Return the project of the path. Raises ProjectForbidden if it does not exist or is not the caller's."""
    scope = await row_scope(request, [path_value(project_id, "project_id")])
    return scope.projects[0]


def _check_rates(rates: dict[str, Any]) -> None:
    for name, value in rates.items():
        if name not in _RATES:
            raise InvalidBody.at(f"/ingest/{name[:64]}", f"is unknown; expected {', '.join(_RATES)}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
            raise InvalidBody.at(f"/ingest/{name}", f"must be a whole number from 0 to {_MOST}")
