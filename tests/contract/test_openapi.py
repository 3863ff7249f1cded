"""The OpenAPI document and the running server say the same."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import httpx
import pytest
from schemathesis import GenerationMode

from server.errors import catalogue
from server.http.guard import access_policy
from server.rest.openapi.answers import ANSWERS
from server.rest.openapi.document import build_document, described_routes
from server.rest.openapi.operations import OPERATIONS
from server.rest.openapi.other_answers import FILES, OTHER_ANSWERS
from server.rest.openapi.routes import CONTENT_SECURITY_POLICY
from tests.conftest import AppServer, ProjectMaker
from tests.contract.fuzz import fuzz
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "1"))
"""Requests by operation and mode, sent by each role; ``CONTRACT_EXAMPLES=50 make test-contract`` sends many more."""

ROLES = ("admin", "developer", "viewer", "billing")


async def test_every_route_is_described_and_nothing_else(app_server: AppServer) -> None:
    described = {
        (path, "QUERY" if method == "x-query" else method.upper())
        for path, item in build_document(app_server.app)["paths"].items()
        for method in item
    }
    routed = {
        ("/" + re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", route.path), method)
        for route in app_server.app.router.routes
        for method in route.methods
    }
    assert described == routed


async def test_every_row_of_the_table_of_operations_is_a_route(app_server: AppServer) -> None:
    names = {route.name for route in described_routes(app_server.app)}
    assert OPERATIONS.keys() <= names
    assert ANSWERS.keys() | OTHER_ANSWERS.keys() | FILES.keys() <= names


async def test_every_route_has_a_policy_and_a_sentence(app_server: AppServer) -> None:
    for route in app_server.app.router.routes:
        assert access_policy(route.handler) is not None, route.path
    for described in described_routes(app_server.app):
        assert described.sentence, described.name


async def test_the_document_is_whole(app_server: AppServer) -> None:
    document = build_document(app_server.app)
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for pointer in set(_references(document)):
        found: Any = document
        for part in pointer.removeprefix("#/").split("/"):
            found = found[part]
    for item in document["paths"].values():
        for operation in item.values():
            keys = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
            assert len(keys) == len(set(keys)), operation["operationId"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"]] if "$ref" in value else []
        return here + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []


async def test_answers_have_the_headers_that_are_described(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    paths = build_document(app_server.app)["paths"]
    for path, status in (("/live", 200), ("/api/v1/projects", 200), ("/api/v1/traces", 200)):
        answer = await client.get(path, headers=bearer("viewer", ["alpha"]))
        assert answer.status_code == status
        described = set(paths[path]["get"]["responses"][str(status)]["headers"])
        assert described <= {name for name in described if name in answer.headers}, path


async def test_every_answer_has_a_schema_of_its_own(app_server: AppServer) -> None:
    """No answer is described as just any object, and none has no content but those that have no body."""
    generic, without = [], []
    for path, item in build_document(app_server.app)["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                schema = content.get("application/json", {}).get("schema")
                if status.startswith("2") and schema in ({}, {"type": "object"}):
                    generic.append(f"{method} {path}")
                if status.startswith("2") and not content:
                    without.append(f"{method} {path} {status}")
    assert generic == ["get /api/v1/exports/{export_id}/files/{name}"], "the manifest of a job is a file"
    assert without == ["post /mcp 202"]


async def test_the_pages_need_no_other_server(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/docs/explorer.js", "/docs/explorer.css", "/docs/errors"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", "")
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    page = (await client.get("/docs")).text
    assert "<script>" not in page
    assert "onclick" not in page
    assert (await client.get("/docs/explorer.map")).status_code == 404


async def test_a_browser_with_the_bare_address_finds_the_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    assert (await client.get("/", headers={"Accept": "application/json"})).status_code == 404
    assert (await client.get("/nothing", headers={"Accept": "text/html"})).status_code == 404


async def test_no_sentence_is_meant_for_programmers(client: httpx.AsyncClient) -> None:
    """Descriptions are docstrings, which may also tell what a function raises."""
    document = (await client.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            text = operation["summary"] + operation.get("description", "")
            assert not re.search(r"\bRaises?\b|:\w+:", text), f"{method} {path}: {text}"


async def test_the_page_of_errors_has_every_code(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs/errors")).text
    for kind in catalogue():
        assert f'id="{kind.code}"' in page


async def test_the_document_has_a_strong_entity_tag(client: httpx.AsyncClient) -> None:
    first = await client.get("/openapi.json")
    assert first.headers["etag"].startswith('"')
    again = await client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_document_names_no_host_and_no_library(client: httpx.AsyncClient) -> None:
    text = (await client.get("/openapi.json")).text.lower()
    for word in ("sanic", "asyncpg", "127.0.0.1", "localhost", "25.12", "redis://", "/home", "/work"):
        assert word not in text


def test_static_files_are_in_the_package() -> None:
    names = {entry.name for entry in files("server.rest.openapi").joinpath("static").iterdir()}
    assert {"explorer.html", "explorer.js", "explorer.css", "errors.html"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_generated_requests_meet_only_what_is_described(
    app_server: AppServer, project: ProjectMaker, bearer: Bearer, mode: GenerationMode
) -> None:
    await project("alpha")
    trace_id = "5eeded" + "0" * 26  # the receiver takes hexadecimal ids only
    spans = [make_span(trace_id=trace_id, span_id=f"{n:016x}", session_id="s", user_id="u") for n in range(1, 4)]
    await store(app_server.services, "alpha", spans)
    seeded = {"trace_id": trace_id, "span_id": f"{1:016x}", "session_id": "s", "user_id": "u", "field": "model"}
    sent = await asyncio.to_thread(
        fuzz,
        build_document(app_server.app),
        app_server.base_url,
        [bearer(role, ["alpha"]) for role in ROLES],
        seeded=seeded,
        examples=EXAMPLES,
        mode=mode,
    )
    assert sent > 0
