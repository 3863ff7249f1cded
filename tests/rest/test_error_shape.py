"""Every error has one shape: RFC 9457 problem details with our code, whatever went wrong and wherever.

The canonical body:

    {"type", "title", "status", "detail", "code", "request_id", "errors"?: [{"parameter" | "pointer", "detail"}]}
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import pytest
from sanic import HTTPResponse, Request, Sanic

from server.errors import ApiError, catalogue
from server.http import error_responses
from server.http.http_app import HttpApp
from server.http.wire.connection import EdgeRequest
from tests.conftest import AppFactory, AppServer, ProjectMaker

Bearer = Callable[..., dict[str, str]]

LEAKS = re.compile(r'Traceback|asyncpg|sqlalchemy|SELECT |relation "|\$1|/usr/|/home/|\.py"|password', re.IGNORECASE)


def check_problem(answer: httpx.Response, status: int | None = None, code: str | None = None) -> dict[str, Any]:
    """Check that ``answer`` is the canonical problem; return its body."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 2048
    assert not LEAKS.search(answer.text)
    body: dict[str, Any] = json.loads(answer.text, parse_constant=pytest.fail)
    assert body.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert body["status"] == answer.status_code
    assert body["type"].endswith(f"#{body['code']}")
    assert body["request_id"] == answer.headers["x-request-id"]
    for place in body.get("errors", []):
        assert place.keys() in ({"parameter", "detail"}, {"pointer", "detail"})
    if status is not None:
        assert answer.status_code == status
    if code is not None:
        assert body["code"] == code
    return body


def documented_errors() -> list[type[ApiError]]:
    """Return the errors of the catalogue, without subclasses that only tell us more about one of them."""
    return [kind for kind in catalogue() if kind.__module__ == "server.errors"]


@pytest.fixture
async def raising() -> AsyncIterator[AppServer]:
    """An app with our error handling and routes that raise what ``app.ctx.failure`` holds."""
    Sanic.test_mode = True
    app = HttpApp(f"raising_{secrets.token_hex(4)}", request_class=EdgeRequest, configure_logging=False)
    app.ctx.services = SimpleNamespace(draining=False)
    app.config.AUTO_EXTEND = False
    error_responses.install(app)

    async def fail(request: Request) -> HTTPResponse:
        raise request.app.ctx.failure

    for name, path in (("fail", "/api/v1/fail"), ("unrenderable", "/unrenderable/fail")):
        app.add_route(fail, path, name=name)
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = await app.create_server(sock=listener, return_asyncio_server=True)
    assert server is not None
    await server.startup()
    await server.start_serving()
    yield AppServer(app, address)
    server.close()
    for connection in list(server.connections):
        connection.abort()
    await server.wait_closed()
    Sanic.unregister_app(app)


async def test_every_error_of_the_catalogue_is_a_well_formed_problem(raising: AppServer) -> None:
    async with httpx.AsyncClient(base_url=raising.base_url) as client:
        for kind in documented_errors():
            raising.app.ctx.failure = kind(errors=[{"parameter": "limit", "detail": "is too large"}])
            body = check_problem(await client.get("/api/v1/fail"), kind.status, kind.code)
            assert body["title"] == kind.title()


FAILURES: tuple[tuple[BaseException, int], ...] = (
    (RuntimeError("SELECT secret FROM password"), 500),
    (KeyError("/usr/lib/secret.py"), 500),
    (AssertionError(), 500),
    (RecursionError(), 500),
    (MemoryError(), 503),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret"), 500),
    (asyncpg.UndefinedTableError('relation "secret" does not exist'), 500),
)


async def test_an_unforeseen_failure_tells_nothing_and_its_id_finds_it_in_the_log(
    raising: AppServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(base_url=raising.base_url) as client:
        for failure, status in FAILURES:
            caplog.clear()
            raising.app.ctx.failure = failure
            with caplog.at_level(logging.ERROR):
                answer = await client.get("/api/v1/fail")
            body = check_problem(answer)
            assert answer.status_code in (status, 500)
            assert "secret" not in answer.text
            records = [record for record in caplog.records if getattr(record, "request_id", None) == body["request_id"]]
            assert records, failure


async def test_a_failure_whose_text_cannot_be_encoded_is_answered_all_the_same(raising: AppServer) -> None:
    raising.app.ctx.failure = ValueError("\ud800")
    # Unlogged here: pytest would put the lone surrogate into its report, which xdist cannot hand on.
    logging.disable(logging.CRITICAL)
    try:
        async with httpx.AsyncClient(base_url=raising.base_url) as client:
            check_problem(await client.get("/api/v1/fail"), 500, "internal_error")
    finally:
        logging.disable(logging.NOTSET)


async def test_a_failure_while_reporting_a_failure_is_a_static_body(
    raising: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> HTTPResponse:
        raise RuntimeError("no luck today")

    monkeypatch.setitem(error_responses.RENDERERS, "/unrenderable", broken)
    raising.app.ctx.failure = RuntimeError("first")
    async with httpx.AsyncClient(base_url=raising.base_url) as client:
        answer = await client.get("/unrenderable/fail")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "luck" not in answer.text


async def test_unknown_addresses_are_problems_for_everybody(client: httpx.AsyncClient) -> None:
    paths = ("/elsewhere", "/api/v1/elsewhere", "/api/v2/traces", "/<script>alert(1)</script>", "/api/v1/traces/a/b/c")
    accepts = ("text/html", "*/*", "application/xml", "image/png;q=0.1")
    for path, accept in itertools.product(paths, accepts):
        answer = await client.get(path, headers={"Accept": accept})
        assert "/docs has all addresses" in check_problem(answer, 404, "not_found")["detail"]
        assert "script" not in answer.text
        assert "elsewhere" not in answer.text


async def test_wrong_methods_are_405_and_name_the_right_ones(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("DELETE", "/live", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/api/v1/traces/search", {"POST", "OPTIONS"}),
        ("POST", "/openapi.json", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/api/v1/traces/unknown", {"GET", "HEAD", "DELETE", "OPTIONS"}),
    ):
        answer = await client.request(method, path)
        body = check_problem(answer, 405, "method_not_allowed")
        assert body["detail"] == f"This address takes {answer.headers['allow']}."
        assert set(re.split(r",\s*", answer.headers["allow"])) >= allowed


async def test_credentials_that_are_missing_bad_or_too_weak(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    for other in ({}, {"Authorization": "Basic dXNlcjp4"}, {"Authorization": "nonsense"}):
        body = check_problem(await client.get("/api/v1/traces", headers=other), 401, "missing_token")
        assert "Authorization: Bearer TOKEN" in body["detail"]
    bad = await client.get("/api/v1/traces", headers={"Authorization": "Bearer nonsense"})
    assert "has expired, was revoked, or is not of this server" in check_problem(bad, 401, "invalid_token")["detail"]
    assert "invalid_token" in bad.headers["www-authenticate"]
    check_problem(await client.get("/api/v1/audit", headers=bearer("viewer", ["alpha"])), 403, "insufficient_scope")
    foreign = await client.get("/api/v1/traces?project_id=beta", headers=bearer("viewer", ["alpha"]))
    check_problem(foreign, 403, "project_forbidden")


BODIES: tuple[tuple[bytes, str, int], ...] = (
    (b"", "application/json", 400),
    (b"null", "application/json", 400),
    (b"[]", "application/json", 400),
    (b'"x"', "application/json", 400),
    (b"{", "application/json", 400),
    (b'{"limit": 1} x', "application/json", 400),
    (b'{"limit": 1, "limit": 2}', "application/json", 400),
    (b'{"limit": NaN}', "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
    (b'{"filter": ' * 50_000, "application/json", 400),
    (b'{"nothing": 1}', "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"limit=1", "application/x-www-form-urlencoded", 415),
    (b"limit=1", "text/plain", 400),
    (b"{}", "text/html", 415),
    (b" " * ((1 << 20) + 1), "application/json", 413),
)


async def test_bodies_that_cannot_be_used_are_refused(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    for body, content_type, status in BODIES:
        headers = {**bearer("developer", ["alpha"]), "Content-Type": content_type}
        check_problem(await client.post("/api/v1/traces/search", content=body, headers=headers), status)


async def test_bodies_are_told_where_they_are_wrong(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    headers = {**bearer("admin", ["alpha"]), "Content-Type": "application/json"}
    for body, detail in (
        (b" ", "The body is empty"),
        (b'{"label": "x",\n}', "in line 2, column 1"),
        (b'{"label": "x"', "in line 1, column"),
        (b'{"label": "\xff"}', "byte 11 is not UTF-8"),
        (b'{"label": "x", "label": "y"}', "a member is given more than once"),
        (b'{"label": NaN}', "NaN is not JSON"),
        (b'{"label": ' + b"1" * 5000 + b"}", "not valid JSON."),
    ):
        answer = await client.post("/api/v1/keys", content=body, headers=headers)
        assert detail in check_problem(answer, 400, "invalid_body")["detail"]
    good = {"label": "x", "kind": "ingest", "projects": ["alpha"]}
    for change in ({"kind": "queen"}, {"label": ""}, {"scopes": ["nonsense"]}):
        answer = await client.post("/api/v1/keys", json=good | change, headers=headers)
        pointer = check_problem(answer)["errors"][0]["pointer"] if answer.status_code == 400 else None
        assert pointer == f"/{next(iter(change))}", answer.text


async def test_errors_of_grafana_are_what_grafana_shows(client: httpx.AsyncClient) -> None:
    answer = await client.post("/grafana/query", json={})
    assert answer.status_code == 401
    body = answer.json()
    assert body["message"] == body["error"]["message"]
    assert body["error"]["code"] == "missing_token"


async def test_a_database_that_is_away_is_503_with_retry_after(start_app: AppFactory, bearer: Bearer) -> None:
    server = await start_app(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with httpx.AsyncClient(base_url=server.base_url, timeout=20) as client:
        answer = await client.get("/api/v1/traces", headers=bearer("developer", ["alpha"]))
        check_problem(answer, 503, "database_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/live")).status_code == 200


def test_every_class_has_a_code_a_status_and_a_sentence_of_its_own() -> None:
    codes = [kind.code for kind in documented_errors()]
    assert len(codes) == len(set(codes))
    # A class elsewhere may only say more about one of these to us, never something new to callers.
    assert {kind.code for kind in catalogue()} == set(codes)
    for kind in catalogue():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", kind.code)
        assert 400 <= kind.status <= 504
        assert kind.__doc__ != ApiError.__doc__
        assert kind.title()[0].isupper()
