"""``/metrics/projects/{project}``: what a Prometheus of yours scrapes."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from sanic import Blueprint, HTTPResponse, Request

from datasource.prometheus.exposition import OPENMETRICS, TEXT_FORMAT, exposition
from server.access.principal import Principal
from server.cache.result_cache import Answer, CacheQuestion
from server.http.guard import requires, row_scope
from server.http.path_value import path_value
from server.http.services import services_of

scrape = Blueprint("scrape", url_prefix="/metrics/projects")


@scrape.get("/<project:str>", name="project")
@requires("metrics:read", cost=2)
async def show_project_metrics(request: Request, project: str) -> HTTPResponse:
    """Return the counters and histograms of one project, with exemplars; the older text format where it is asked for.

    A project of somebody else and one that does not exist are refused alike (403).
    """
    project = path_value(project, "project")
    principal: Principal = request.ctx.principal
    scope = await row_scope(request, (project,))
    accepted = request.headers.get("accept", "")
    is_openmetrics = "openmetrics" in accepted or "text/plain" not in accepted
    services = services_of(request)

    async def compute() -> Answer:
        text = await exposition(
            services.reads, scope, principal.scopes, datetime.now(UTC), is_openmetrics=is_openmetrics
        )
        return Answer({"text": text})

    question = CacheQuestion("scrape", scope, {"openmetrics": is_openmetrics})
    found = await services.cache.answer(question, compute)
    return HTTPResponse(_text_of(found.data), content_type=OPENMETRICS if is_openmetrics else TEXT_FORMAT)


def _text_of(data: bytes) -> str:
    text: str = orjson.loads(data)["text"]
    return text
