"""``/api/v1/analytics/coding-agents``: daily figures of Claude Code, Codex, Gemini CLI and Copilot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidParameter
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.ingest.mapping.agent_metrics import FIGURES
from server.queries.records.agent_figures import MAX_ROWS, SPLITS, list_agent_figures

coding_agents = Blueprint("coding_agents")

PARAMETERS: Final[dict[str, str]] = {
    "from": "First day (UTC): RFC 3339 with a zone, epoch seconds or ms, or relative (now-7d); default now-30d.",
    "to": "Last day (UTC), included; default now.",
    "project_id": "Projects to read; default: all that the credential grants.",
    "figure": f"Figures, of {', '.join(FIGURES)}; default all. `cost_usd` needs costs:read.",
    "group_by": f"Columns to split the figures by, of {', '.join(SPLITS)}; default day.",
}
_RANGE: Final = timedelta(days=30)


@coding_agents.get("/api/v1/analytics/coding-agents", name="figures")
@requires("metrics:read", cost=2)
async def show_figures(request: Request) -> HTTPResponse:
    """Return figures of coding agents, one row for each figure and group; at most 10,000, oldest day first."""
    params = RequestParams.of(request)
    now = datetime.now(UTC)
    projects = params.texts("project_id")
    figures = _names("figure", params.texts("figure"), FIGURES)
    split = _names("group_by", params.texts("group_by"), SPLITS) or ["day"]
    given = params.window(now=now)
    params.finish()
    end = given.end or now
    start = given.start or end - _RANGE
    if end <= start:
        raise InvalidParameter.named("to", "must be later than from")
    if "costs:read" not in request.ctx.principal.scopes:
        if "cost_usd" in figures:
            raise InvalidParameter.named("figure", "cost_usd needs the scope costs:read")
        figures = figures or [name for name in FIGURES if name != "cost_usd"]
    scope = await row_scope(request, projects)
    rows = await list_agent_figures(
        services_of(request).reads, scope, start=start, end=end, figures=figures, split=split
    )
    return success(request, rows, meta_fields={"from": start, "to": end, "is_complete": len(rows) < MAX_ROWS})


def _names(parameter: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InvalidParameter.named(parameter, f"expected some of {', '.join(known)}")
    return list(given)
