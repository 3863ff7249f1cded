"""Every route of the application × every role × {own, other, unknown project}.

Generated from the router and the declared policies: a route that somebody adds is judged with the rest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
from sanic_routing.route import Route

from server.access.principal import SCOPES, Role, role_scopes
from server.app import create_app
from server.http.guard import ANONYMOUS_ROUTES, ANONYMOUS_SCOPES, access_policy
from server.settings import Settings
from tests.conftest import JWT_SECRET, AppFactory, AppServer, ProjectMaker

CANARY = "CANARY-OF-BETA"
BODY_METHODS = {"POST", "PUT", "PATCH", "QUERY"}

# Open to everybody, each for a reason: health and own metrics, the OAuth endpoints (which authenticate
# the client themselves), documents about the API, an echo that data sources probe, bundled pages.
PUBLIC = re.compile(
    r"live|ready|health|metrics|oauth/(token|revoke|introspect)|\.well-known/[a-z.-]+"
    r"|openapi\.(json|yaml)|docs(/.*)?|tempo/api/echo|"
)

Headers = Callable[..., dict[str, str]]


def application_routes() -> list[Route]:
    """Return all routes, sorted."""
    app = create_app(Settings(jwt_secret=JWT_SECRET, database_url="postgresql://none/none"), name="route_inventory")
    return sorted(app.router.routes, key=lambda route: (route.path, sorted(route.methods)))


ROUTES = application_routes()
GUARDED = [
    (method, route.path, policy.scope)
    for route in ROUTES
    if (policy := access_policy(route.handler)) is not None and policy.scope is not None
    for method in sorted({*route.methods, *(["HEAD"] if "GET" in route.methods else [])})
    if not hasattr(route.handler, "is_websocket")
]


def address(path: str, value: str = "unknown") -> str:
    """Return the path with every parameter filled."""
    return "/" + re.sub(r"<[^>]*>", value, path)


def test_every_route_declares_its_policy_and_few_are_public() -> None:
    for route in ROUTES:
        policy = access_policy(route.handler)
        assert policy is not None, f"{route.path} has neither @requires nor @public"
        if policy.scope is None:
            assert PUBLIC.fullmatch(route.path), f"{route.path} is public"
        else:
            assert policy.scope in SCOPES


def test_every_scope_is_held_by_admins_and_used_by_roles_in_order() -> None:
    assert role_scopes(Role.ADMIN) == set(SCOPES)
    assert role_scopes(Role.VIEWER) <= role_scopes(Role.DEVELOPER) <= role_scopes(Role.ADMIN)
    assert "content:read" not in role_scopes(Role.BILLING)
    assert not any(name.endswith((":write", ":manage", ":create", ":delete")) for name in role_scopes(Role.BILLING))


@pytest.fixture
async def beta_server(
    start_app: AppFactory, project: ProjectMaker, owner: asyncpg.Connection
) -> AsyncIterator[tuple[AppServer, httpx.AsyncClient]]:
    """A server with the projects alpha and beta; every text of beta's rows holds the canary."""
    await project("alpha")
    await project("beta")
    now = datetime.now(UTC)
    await owner.execute(
        "INSERT INTO span_dimensions (project_id, dim_id, model, is_generation) VALUES ('beta', 1, $1, true)", CANARY
    )
    await owner.execute(
        "INSERT INTO llm_traces (project_id, ts, trace_id, span_id, span_name, span_kind, environment, model,"
        " operation_type, is_generation, input_text, output_text, cost_source, duration_ms, status_code, user_id,"
        " session_id, tags, dialect, dim_id, version)"
        " VALUES ('beta', $2, 'unknown', 's1', $1, 'client', $1, $1, 'chat', true, $1, $1, 'none', 1, 'OK', $1, $1,"
        " ARRAY[$1], 'otel', 1, 1)",
        CANARY,
        now,
    )
    await owner.execute(
        "INSERT INTO scores (project_id, score_id, trace_id, name, data_type, value, source, ts)"
        " VALUES ('beta', 'unknown', 'unknown', $1, 'numeric', 1, 'api', $2)",
        CANARY,
        now,
    )
    server = await start_app(rate_limit_failed_auth=100_000)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=20) as http:
        yield server, http


async def ask(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], project: str | None = None
) -> tuple[int, bytes]:
    """Return the status and body; a stream of events is not read to its end."""
    extra: dict[str, Any] = {}
    if project is not None:
        extra["params"] = {"project_id": project}
    if method in BODY_METHODS:
        extra["json"] = {} if project is None else {"project_id": project}
    async with http.stream(method, path, headers=headers, **extra) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, b""
        return answer.status_code, await answer.aread()


def is_scope_refusal(status: int, body: bytes) -> bool:
    return status == 403 and b"insufficient_scope" in body


async def test_a_role_gets_past_the_guard_exactly_where_it_holds_the_scope(
    beta_server: tuple[AppServer, httpx.AsyncClient], bearer: Headers
) -> None:
    http = beta_server[1]
    for method, path, scope in GUARDED:
        if method == "HEAD":
            continue  # the GET's handler; a HEAD answer has no body to tell refusals apart by
        assert (await ask(http, method, address(path), {}))[0] == 401, f"{method} {path} without a credential"
        for role in Role:
            status, body = await ask(http, method, address(path), bearer(str(role), ["alpha"]))
            case = f"{method} {path} as {role}: {status} {body[:200]!r}"
            assert status < 500, case
            assert status != 401, case
            if scope not in role_scopes(role):
                assert status == 403, case
            elif path != "api/v1/projects" and not path.startswith("api/v1/projects/"):
                # Making and deleting projects needs the grant of every project on top.
                assert not is_scope_refusal(status, body), case
            assert CANARY.encode() not in body, case


async def test_other_and_unknown_project_look_the_same_and_show_nothing(
    beta_server: tuple[AppServer, httpx.AsyncClient], bearer: Headers
) -> None:
    http = beta_server[1]
    shown = await ask(http, "GET", "/api/v1/traces", bearer("admin", ["beta"]))
    assert CANARY.encode() in shown[1], "the canary is there to be seen by those who may"
    headers = bearer("admin", ["alpha"])
    for method, path, _ in GUARDED:
        if method == "HEAD":
            continue
        seen = set()
        for project in ("beta", "gamma"):
            status, body = await ask(http, method, address(path, project), headers, project)
            case = f"{method} {path} for {project}: {status} {body[:300]!r}"
            assert status < 500, case
            assert CANARY.encode() not in body, case
            text = body.decode().replace(project, "PROJECT")
            seen.add((status, re.sub(VOLATILE, "", text)))
        assert len(seen) == 1, (method, path, seen)


VOLATILE = (
    r'"(request_id|timestamp|execution_time_ms|created_at|cached|age_seconds|start|end|from|to|time)":'
    r'\s*("[^"]*"|[0-9.]+|true|false|null)'
)


async def test_trace_of_another_project_is_byte_for_byte_an_unknown_one(
    beta_server: tuple[AppServer, httpx.AsyncClient], bearer: Headers
) -> None:
    http = beta_server[1]
    headers = bearer("admin", ["alpha"])
    for template in (
        "/api/v1/traces/{}",
        "/jaeger/api/traces/{}",
        "/tempo/api/traces/{}",
        "/api/v1/traces/{}/spans/s1",
    ):
        answers = {
            (await ask(http, "GET", template.format(trace_id), {**headers, "X-Request-ID": "request-id-0"}))
            for trace_id in ("a" * 32, "b" * 32)
        }
        assert len(answers) == 1, template
        assert answers.pop()[0] == 404


async def test_anonymous_callers_get_analytics_of_opened_projects_and_nothing_else(
    start_app: AppFactory, project: ProjectMaker
) -> None:
    await project("alpha")
    await project("demo")
    server = await start_app(public_analytics_projects=("demo",))
    async with httpx.AsyncClient(base_url=server.base_url, timeout=20) as http:
        opened = 0
        for method, path, scope in GUARDED:
            if method == "HEAD":
                continue
            status, body = await ask(http, method, address(path), {})
            if scope in ANONYMOUS_SCOPES and path.startswith(ANONYMOUS_ROUTES):
                assert status != 401, path
                refused, _ = await ask(http, method, address(path), {}, "alpha")
                assert refused in (400, 403, 404, 422), (path, refused)
                opened += 1
            else:
                assert status == 401, (path, body)
        assert opened >= 1
        answer = await http.get("/api/v1/analytics/costs")
        assert answer.status_code == 200
        assert int(answer.headers["x-ratelimit-limit"]) == 1000
