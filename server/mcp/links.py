"""Links that a person can open: a dashboard of the configured Grafana, else the page of the API with the question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from server.mcp.inner_request import Question
from server.queries.filters.span_fields import FIELDS
from server.settings import Settings

_VARIABLES: Final[Mapping[str, str]] = {
    "project_id": "project",
    "environment": "environment",
    "service": "service",
    "model": "model",
    "user_id": "user",
    "search": "search",
    "meaning": "meaning",
    "like": "like",
    "group_by": "group_by",
    "trace_id": "trace_id",
}
"""Parameters for which dashboards have a variable, and its name. A variable that a dashboard lacks changes nothing."""
_NOT_NARROWING: Final = frozenset({"metric", "interval", "limit", "sort_by"})
"""Parameters that a dashboard may do without and still shows what the answer is about."""


def links_of(settings: Settings, board: str, question: Question, **more: str) -> list[str]:
    """Return the last lines of an answer: where a person and where a program can ask ``question`` again.

    ``board`` is the dashboard about it; ``more`` are further parameters for that. A question with a filter that no
    dashboard accepts leads to the page of the API.
    """
    address = settings.base_url + question.address
    page = f"{settings.base_url}/docs#ask={quote(question.address, safe='')}"
    shown = _dashboard(settings.dashboards_url, board, {**question.params, **more})
    return [f"Link: {shown or page}", f"API: {address}"]


def _dashboard(base_url: str, board: str, params: Mapping[str, Any]) -> str:
    if not base_url:
        return ""
    try:
        query = [("from", params.get("from") or "now-24h"), ("to", params.get("to") or "now"), *_variables(params)]
    except LookupError:
        return ""
    return f"{base_url}/d/{board}?{urlencode(query)}"


def _variables(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield variables of the dashboard. Raises LookupError for a parameter that cannot be one."""
    for name, value in params.items():
        if value is None or name in ("from", "to", *_NOT_NARROWING):
            continue
        values = value if isinstance(value, list) else [value]
        if name in _VARIABLES:
            yield from ((f"var-{_VARIABLES[name]}", item) for item in values)
            continue
        field = _FIELD_OF.get(name)
        if field is None or len(values) != 1 or not isinstance(values[0], str) or set(values[0]) & set("|,"):
            raise LookupError(name)
        yield "var-filters", f"{field}|=|{values[0]}"


_FIELD_OF: Final = {item.parameter: item.name for item in FIELDS.values() if item.parameter and "eq" in item.operators}
"""Fields by the parameter that compares them: free filters of a dashboard."""
