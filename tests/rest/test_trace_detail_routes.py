"""GET /api/v1/traces/{trace_id} and its spans: isolation, caching, conditional requests, pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from server.cache.freshness import Touched
from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]
START = datetime.now(UTC) - timedelta(minutes=30)


@pytest.fixture
async def server(app_server: AppServer, project: ProjectMaker) -> AppServer:
    """Trace "mine" of alpha with a root and three calls; trace "theirs" of beta full of canaries."""
    for name in ("alpha", "beta"):
        await project(name)
    await store(
        app_server.services,
        "alpha",
        [
            make_span(
                trace_id="mine",
                span_id=f"s{n}",
                parent_span_id=None if n == 0 else "s0",
                ts=START + timedelta(seconds=n),
                input_text="SECRET prompt",
                user_id="u1",
                session_id="conversation/1",
            )
            for n in range(4)
        ],
    )
    await store(
        app_server.services,
        "beta",
        make_span(trace_id="theirs", span_id="x", span_name="CANARY-B", input_text="CANARY-B", session_id="CANARY-B"),
    )
    return app_server


async def test_a_trace_comes_in_the_envelope(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await client.get("/api/v1/traces/mine", headers=bearer("developer", ["alpha"]))
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "success"
    assert [(span["span_id"], span["depth"]) for span in body["data"]["spans"]] == [
        ("s0", 0),
        ("s1", 1),
        ("s2", 1),
        ("s3", 1),
    ]
    assert body["data"]["totals"]["span_count"] == 4
    assert body["data"]["spans"][0]["ts"].endswith("Z")
    assert body["data"]["spans"][0]["input_text"] == "SECRET prompt"
    assert body["pagination"] == {"cursor": None, "has_more": False, "limit": 1000}
    assert body["meta"]["cached"] is False


async def test_foreign_and_unknown_traces_answer_alike(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    seen = set()
    for trace_id in ("theirs", "unknown", "T" * 64, "x" * 300, "%2e%2e%2fadmin", "a%2Fb", "null", "MINE"):
        for suffix in ("", "/spans/x"):
            answer = await client.get(
                f"/api/v1/traces/{trace_id}{suffix}",
                headers={**bearer("developer", ["alpha"]), "X-Request-ID": "same-for-all"},
            )
            assert answer.status_code == 404
            limits = {"x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit"}
            kept = {name: value for name, value in answer.headers.items() if name not in limits}
            seen.add((suffix, answer.text, str(kept)))
    assert len(seen) == 2


async def test_an_entity_tag_of_a_foreign_trace_opens_nothing(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    tag = (await client.get("/api/v1/traces/theirs", headers=bearer("developer", ["beta"]))).headers["etag"]
    for condition in (tag, "*"):
        headers = {**bearer("developer", ["alpha"]), "If-None-Match": condition}
        assert (await client.get("/api/v1/traces/theirs", headers=headers)).status_code == 404
    no_token = await client.get("/api/v1/traces/theirs", headers={"If-None-Match": "*"})
    assert no_token.status_code == 401


async def test_a_matching_tag_saves_the_body(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    first = await client.get("/api/v1/traces/mine", headers=headers)
    assert first.headers["etag"].startswith('W/"')
    assert first.headers["cache-control"] == "private, no-cache"
    assert "Authorization" in first.headers["vary"]
    again = await client.get("/api/v1/traces/mine", headers={**headers, "If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert "x-request-id" in again.headers
    assert "x-ratelimit-remaining" in again.headers


async def test_a_hit_says_so_and_a_new_span_is_seen_within_a_second(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    headers = bearer("developer", ["alpha"])
    await client.get("/api/v1/traces/mine", headers=headers)
    hit = await client.get("/api/v1/traces/mine", headers=headers)
    assert hit.json()["meta"]["cached"] is True
    assert int(hit.headers["age"]) >= 0
    late = make_span(trace_id="mine", span_id="late", parent_span_id="s0", ts=START)
    await store(server.services, "alpha", late)
    await server.services.freshness.touched({"alpha": Touched(START, START, frozenset({"mine"}))})
    await asyncio.sleep(0.3)
    fresh = await client.get("/api/v1/traces/mine", headers=headers)
    assert fresh.json()["meta"]["cached"] is False
    assert fresh.json()["data"]["totals"]["span_count"] == 5
    assert fresh.headers["etag"] != hit.headers["etag"]


async def test_callers_with_other_rows_never_share_an_answer(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    admin = await client.get("/api/v1/traces/mine", headers=bearer("admin", ["*"]))
    assert "SECRET" in admin.text
    billing = await client.get("/api/v1/traces/mine", headers=bearer("billing", ["alpha"]))
    assert billing.status_code == 200
    assert "SECRET" not in billing.text
    assert billing.json()["data"]["spans"][0].keys() == admin.json()["data"]["spans"][0].keys()
    assert "input_text" in billing.json()["meta"]["hidden_fields"]
    assert (await client.get("/api/v1/traces/mine", headers=bearer("viewer", ["beta"]))).status_code == 404


async def test_projects_that_are_not_the_callers_are_forbidden(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    for query in ("project_id=beta", "project_id=alpha&project_id=beta", "project_id=alpha,beta", "project_id=nobody"):
        answer = await client.get(f"/api/v1/traces/mine?{query}", headers=bearer("developer", ["alpha"]))
        assert answer.status_code == 403
        assert answer.json()["code"] == "project_forbidden"
    mine = await client.get("/api/v1/traces/mine?project_id=alpha", headers=bearer("developer", ["alpha"]))
    assert mine.status_code == 200


async def test_fields_choose_what_spans_show(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await client.get("/api/v1/traces/mine?fields=usage,span_id", headers=bearer("developer", ["alpha"]))
    span = answer.json()["data"]["spans"][0]
    assert "total_tokens" in span
    assert "input_text" not in span
    assert {"depth", "placement", "child_count"} <= span.keys()


@pytest.mark.parametrize(
    "query",
    ["fields=nothing", "limit=0", "limit=1001", "cursor=abc", "limit=1&limit=2", "unknown=1", "fields=", "explain=yes"],
)
async def test_bad_parameters_are_named(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer, query: str
) -> None:
    answer = await client.get(f"/api/v1/traces/mine?{query}", headers=bearer("admin", ["*"]))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_pages_of_a_large_trace(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    seen: list[str] = []
    cursor = ""
    while True:
        answer = (await client.get(f"/api/v1/traces/mine?limit=3{cursor}", headers=headers)).json()
        seen += [span["span_id"] for span in answer["data"]["spans"]]
        if not answer["pagination"]["has_more"]:
            break
        cursor = f"&cursor={answer['pagination']['cursor']}"
    assert seen == ["s0", "s1", "s2", "s3"]


async def test_a_cursor_is_good_for_its_caller_and_trace_only(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    first = await client.get("/api/v1/traces/mine?limit=1", headers=bearer("developer", ["alpha"]))
    cursor = first.json()["pagination"]["cursor"]
    attempts = [
        (bearer("developer", ["beta"]), f"/api/v1/traces/mine?limit=1&cursor={cursor}"),
        (bearer("viewer", ["alpha"]), f"/api/v1/traces/mine?limit=1&cursor={cursor}"),
        (bearer("developer", ["alpha"]), f"/api/v1/traces/theirs?limit=1&cursor={cursor}"),
        (bearer("developer", ["alpha"]), f"/api/v1/traces/mine?limit=1&fields=core&cursor={cursor}"),
        (bearer("developer", ["alpha"]), f"/api/v1/traces/mine?limit=1&cursor={cursor[:-2]}AA"),
    ]
    for headers, path in attempts:
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_explain_is_for_administrators_and_is_never_remembered(
    server: AppServer, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    refused = await client.get("/api/v1/traces/mine?explain=1", headers=bearer("developer", ["alpha"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    for _ in range(2):
        answer = await client.get("/api/v1/traces/mine?explain=1", headers=bearer("admin", ["*"]))
        meta = answer.json()["meta"]
        assert meta["cached"] is False
        assert any("llm_traces" in name for name in meta["explain"][0]["indexes"])
        assert meta["explain"][0]["rows_scanned"] >= 4


async def test_a_span_has_a_resource_of_its_own(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    answer = await client.get("/api/v1/traces/mine/spans/s2", headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["data"]["span_id"], answer.json()["data"]["scores"]) == ("s2", [])
    assert (await client.get("/api/v1/traces/mine/spans/nope", headers=headers)).status_code == 404
    tag = answer.headers["etag"]
    again = await client.get("/api/v1/traces/mine/spans/s2", headers={**headers, "If-None-Match": tag})
    assert again.status_code == 304


async def test_head_is_get_without_the_body(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    head = await client.head("/api/v1/traces/mine", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert "etag" in head.headers
    assert (await client.head("/api/v1/traces/mine")).status_code == 401
    assert (await client.head("/api/v1/traces/theirs", headers=headers)).status_code == 404


async def test_without_redis_the_answer_is_the_same(start_app: Any, project: ProjectMaker, bearer: Bearer) -> None:
    await project("alpha")
    server: AppServer = await start_app(redis_url="redis://127.0.0.1:1/0")
    await store(server.services, "alpha", make_span(trace_id="mine"))
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        for _ in range(3):
            answer = await client.get("/api/v1/traces/mine", headers=bearer("developer", ["alpha"]))
            assert answer.status_code == 200
            assert answer.json()["meta"]["cached"] is False


async def test_sessions_and_users_over_http(server: AppServer, client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", ["alpha"])
    listed = (await client.get("/api/v1/sessions?from=now-1d&sort_by=total_tokens", headers=headers)).json()
    assert [row["session_id"] for row in listed["data"]] == ["conversation/1"]
    assert listed["data"][0]["trace_count"] == 1
    one = await client.get("/api/v1/sessions/conversation%2F1", headers=headers)
    assert one.status_code == 200
    assert [trace["trace_id"] for trace in one.json()["data"]["traces"]] == ["mine"]
    users = (await client.get("/api/v1/users", headers=headers)).json()
    assert [row["user_id"] for row in users["data"]] == ["u1"]
    user = (await client.get("/api/v1/users/u1", headers=headers)).json()
    assert (user["data"]["session_count"], len(user["data"]["traces"])) == (1, 1)
    for path in ("sessions/CANARY-B", "sessions/nobody"):
        answer = await client.get(f"/api/v1/{path}", headers={**headers, "X-Request-ID": "same-for-all"})
        assert answer.status_code == 404
        assert json.loads(answer.text)["code"] == "session_not_found"
    for query in ("sort_by=session_id", "limit=0", "user_id=", "from=now&to=now-1d", "status=ok", "cursor=x"):
        assert (await client.get(f"/api/v1/sessions?{query}", headers=headers)).status_code == 400
