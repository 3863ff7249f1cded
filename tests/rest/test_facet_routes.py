"""GET /api/v1/facets/{field}: filters of lists, parameters, explain, caching."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
async def server(app_server: AppServer, project: ProjectMaker) -> AppServer:
    await project("alpha")
    await project("beta")
    start = datetime.now(UTC) - timedelta(hours=3)
    spans = [
        make_span(ts=start + timedelta(seconds=n), model=f"m{n % 3}", user_id=f"u{n % 2}", attributes={"team/x": "a"})
        for n in range(12)
    ]
    await store(app_server.services, "alpha", spans)
    await store(app_server.services, "beta", make_span(model="CANARY-B"))
    return app_server


async def test_values_come_with_counts_under_the_filters_of_a_list(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    headers = bearer("developer", ["alpha"])
    body = (await client.get("/api/v1/facets/model", headers=headers)).json()
    assert body["data"] == [{"value": f"m{n}", "count": 4} for n in range(3)]
    assert (body["meta"]["source"], body["meta"]["exact"], body["meta"]["distinct"]) == ("rollups", True, 3)
    body = (await client.get("/api/v1/facets/model?user_id=u0&model!=m1&from=now-1d", headers=headers)).json()
    assert body["data"] == [{"value": "m0", "count": 2}, {"value": "m2", "count": 2}]
    assert body["meta"]["source"] == "rows"
    body = (await client.get("/api/v1/facets/attribute.team%2Fx", headers=headers)).json()
    assert body["data"] == [{"value": "a", "count": 12}]
    assert (await client.get("/api/v1/facets/model", headers=headers)).json()["meta"]["cached"] is True


async def test_what_is_wrong_is_named(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    for path in ("input_text", "nothing", "%00", "%ff", "model?limit=0", "model?prefix=", "model?projct_id=alpha"):
        answer = await client.get(f"/api/v1/facets/{path}", headers=headers)
        assert answer.status_code == 400, path
    assert (await client.get("/api/v1/facets/model?project_id=beta", headers=headers)).status_code == 403
    assert (await client.get("/api/v1/facets/model?explain=1", headers=headers)).status_code == 403
    billing = bearer("billing", ["alpha"])
    assert (await client.get("/api/v1/facets/attribute_keys", headers=billing)).status_code == 403
    assert (await client.get("/api/v1/facets/model", headers=billing)).status_code == 200


async def test_explain_shows_the_plan_of_rows(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await client.get("/api/v1/facets/user_id?explain=1&project_id=alpha", headers=bearer("admin", ["*"]))
    (plan,) = answer.json()["meta"]["explain"]
    assert plan["rows_scanned"] == 12
    assert plan["indexes"]
