"""``explain=1`` on every route that reads spans or sums: for administrators, one form, never remembered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]

NOW = datetime.now(UTC)
DAY, MINUTES = ((NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ") for ago in (timedelta(days=1), timedelta(minutes=10)))
END = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
MEMBERS = {"indexes", "rows_scanned", "planning_ms", "execution_ms", "plan"}
# Path, body of a POST, a table that the plan must name.
ROUTES: tuple[tuple[str, dict[str, Any] | None, str], ...] = (
    ("/api/v1/traces", None, "llm_traces"),
    ("/api/v1/traces/search", {}, "llm_traces"),
    ("/api/v1/traces/t1", None, "llm_traces"),
    ("/api/v1/sessions", None, "session_summaries"),
    ("/api/v1/sessions?sort_by=total_cost_usd&user_id=u1", None, "session_summaries"),
    ("/api/v1/sessions/s1", None, "trace_summaries"),
    ("/api/v1/users", None, "user_summaries"),
    ("/api/v1/users/u1", None, "user_summaries"),
    ("/api/v1/facets/user_id", None, "llm_traces"),
    ("/api/v1/facets/model", None, "rollup_"),
    (f"/api/v1/metrics?metric=calls&group_by=model&from={DAY}&to={END}", None, "rollup_"),
    (f"/api/v1/metrics?metric=users&from={DAY}&to={END}", None, "actor_"),
    ("/api/v1/metrics/query", {"metrics": ["calls"], "from": MINUTES, "to": END, "group_by": ["user"]}, "llm_traces"),
)


@pytest.fixture
async def filled(app_server: AppServer, project: ProjectMaker) -> None:
    await project("alpha")
    spans = [
        make_span(trace_id=f"t{n}", session_id=f"s{n}", user_id="u1", model="m", ts=NOW - timedelta(minutes=n))
        for n in range(5)
    ]
    await store(app_server.services, "alpha", spans)


async def ask(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None, explain: Any) -> httpx.Response:
    if body is not None:
        return await client.post(path, json={**body, "explain": True} if explain else body)
    return await client.get(path, params={**httpx.URL(path).params, **({"explain": explain} if explain else {})})


def tables(plan: dict[str, Any]) -> set[str]:
    """Return all relations and indexes of a plan."""
    found = {str(plan[name]) for name in ("Relation Name", "Index Name") if name in plan}
    return found.union(*(tables(part) for part in plan.get("Plans", ())))


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("path", "body", "table"), ROUTES, ids=[path.partition("&from")[0] for path, _, _ in ROUTES])
async def test_explain_tells_administrators_what_the_database_did(
    client: httpx.AsyncClient, bearer: Bearer, path: str, body: dict[str, Any] | None, table: str
) -> None:
    client.headers.update(bearer("admin", ["alpha"]))
    refused = await ask(client, path, body, "1")
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope"), refused.text
    client.headers.update(bearer("admin", ["*"]))
    for explain in ("1", "true"):
        answer = await ask(client, path, body, explain)
        assert answer.status_code == 200, answer.text
        meta = answer.json()["meta"]
        assert meta["cached"] is False
        assert meta["explain"]
        assert all(plan.keys() == MEMBERS for plan in meta["explain"])
        assert any(table in name for plan in meta["explain"] for name in tables(plan["plan"])), meta["explain"]
    plain = await ask(client, path, body, None)
    assert "explain" not in plain.json()["meta"]
    assert plain.json()["data"] == answer.json()["data"]
