"""The examples of the OpenAPI document, as the commands of docs/clients/curl.md: sent to a server, one after the other.

They also show which query parameters a handler reads: those are the ones that the document describes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from server.http.request_params import RequestParams
from server.rest.export_request import NOT_TAKEN
from server.rest.openapi.document import build_document
from server.rest.openapi.examples import PROJECT, SPAN_ID, TRACE_ID
from server.rest.openapi.operations import OPERATIONS
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.contract.further_requests import further_requests
from tests.docs.curl_page import ADDRESS, Command, commands
from tests.span_factory import make_span, store

STATUS_MARK = "\n%{http_code}"
# Longer than a test may take: tests/live reads the stream.
WITHOUT_END = {"live.events"}
# Names of values that later commands need, by the member of the answer that has them.
REMEMBERED = {
    "key_id": "KEY_ID",
    "annotation_id": "ANNOTATION_ID",
    "export_id": "EXPORT_ID",
    "client_id": "CLIENT_ID",
    "client_secret": "CLIENT_SECRET",
    "access_token": "ACCESS_TOKEN",
}
FIRST = ("clients.create_client", "oauth.token", "oauth.introspect", "oauth.revoke")
LAST = ("prices.delete_trace",)
# An export names the parameters of lists that it refuses.
REFUSED = {"exports.stream": {*NOT_TAKEN, "sort_by"}}


def place(command: Command) -> tuple[int, str]:
    """Create before reading, and read before deleting."""
    name, method = command.route.name, command.route.method
    if name in FIRST:
        return FIRST.index(name), ""
    weight = {"POST": 10, "PUT": 10, "GET": 11, "QUERY": 11, "DELETE": 12}[method]
    return (13 if name in LAST else weight), name


@pytest.fixture
async def server(start_app: AppFactory, project: ProjectMaker, tmp_path: Path) -> AppServer:
    """A server with the things that the examples name."""
    await project(PROJECT)
    server = await start_app(export_url=tmp_path.as_uri())
    now = datetime.now(UTC)
    spans = [
        make_span(
            ts=now - timedelta(days=day),
            trace_id=TRACE_ID if day == 0 else f"{day:032x}",
            span_id=SPAN_ID,
            session_id="conversation-1",
            user_id="user-1",
            service_name="checkout",
            model="gpt-4.1-mini",
            total_cost_usd=Decimal("0.01"),
            cost_source="computed",
        )
        for day in range(10)
    ]
    spans.append(make_span(ts=now, trace_id="e" * 32, user_id="user-2"))
    # A part of a trace with everything that answers have places for.
    spans.append(
        make_span(
            ts=now,
            trace_id=TRACE_ID,
            parent_span_id=SPAN_ID,
            status_code="ERROR",
            error_type="timeout",
            error_message="No answer",
            ttft_ms=120.0,
            prompt_tokens=10,
            completion_tokens=5,
            total_tokens=15,
            events=[{"name": "retry", "time": now.isoformat(), "attributes": {"attempt": 2, "is_last": True}}],
            links=[{"trace_id": "e" * 32, "span_id": "b" * 16}],
        )
    )
    await store(server.services, PROJECT, spans)
    return server


async def shell(text: str, variables: dict[str, str]) -> tuple[int, str]:
    """Return the status and the body that a command got."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f"curl() {{ command curl -sS -m 60 -w '{STATUS_MARK}' \"$@\"; }}\n{text}",
        env={"PATH": os.environ["PATH"], **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    body, _, status = output.decode(errors="replace").rpartition("\n")
    return int(status) if status.isdigit() else 0, body or output.decode(errors="replace")


async def test_every_example_is_answered_and_every_parameter_is_described(
    server: AppServer, token: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    finish = RequestParams.finish

    def noted(params: RequestParams) -> None:
        read.update(params.asked)
        finish(params)

    monkeypatch.setattr(RequestParams, "finish", noted)
    variables = {"TOKEN": token("admin", ["*"])}
    refused, wrong, against_schema = [], [], []
    document = build_document(server.app)
    for command in sorted(commands(), key=place):
        name = command.route.name
        if name in WITHOUT_END:
            continue
        if name == "export_jobs.file":
            await finished(server, variables)
        read.clear()
        status, body = await shell(command.text.replace(ADDRESS, server.base_url), variables)
        if not 200 <= status < 300:
            refused.append((name, status, body[:300]))
            continue
        remember(body, variables)
        against_schema += differences(document, command.route.path, command.route.method, status, body)
        described = {item["name"] for item in OPERATIONS[name].parameters} if name in OPERATIONS else set()
        expected = read - REFUSED.get(name, set())
        if read and expected != described and command.route.path.startswith(("/api/v1/", "/v1/")):
            unread = sorted(described - expected)
            wrong.append((name, "not described", sorted(expected - described), "not read", unread))
    assert refused == []
    assert wrong == []
    against_schema += await further_differences(document, server.base_url, variables["TOKEN"])
    assert not against_schema, "\n".join(against_schema)


async def further_differences(document: dict[str, Any], base_url: str, token: str) -> list[str]:
    """Ask for the forms of answers that no example gets, errors included."""
    found = []
    async with httpx.AsyncClient(base_url=base_url, headers={"Authorization": f"Bearer {token}"}) as http:
        for method, path, arguments, status in further_requests():
            answer = await http.request(method, path, **arguments)
            assert answer.status_code == status, (path, arguments, answer.text[:500])
            kind = answer.headers["content-type"].partition(";")[0]
            found += [f"{arguments} {text}" for text in differences(document, path, method, status, answer.text, kind)]
    return found


def differences(
    document: dict[str, Any], path: str, method: str, status: int, body: str, kind: str = "application/json"
) -> list[str]:
    """Return the parts of an answer that its schema does not allow, including members that it does not name."""
    key = "x-query" if method == "QUERY" else method.lower()
    answer = document["paths"][path][key]["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    content = answer.get("content", {})
    if kind not in content and kind != "application/json":
        return [f"{method} {path} {status} has no {kind}"]
    schema = content.get(kind, {}).get("schema")
    if not schema or not kind.endswith("json"):
        return []
    whole = {**strict(schema), "components": {"schemas": strict(document["components"]["schemas"])}}
    found = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(json.loads(body))
    return [f"{method} {path} {error.json_path}: {error.message[:200]}" for error in found]


def strict(schema: Any) -> Any:
    """Return ``schema`` with every object that names its members closed."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if closed.get("type") in ("object", ["object", "null"]) and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def remember(body: str, variables: dict[str, str]) -> None:
    """Keep the ids of what an answer says was made."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return
    data = answer.get("data", answer) if isinstance(answer, dict) else {}
    for member, name in REMEMBERED.items():
        if isinstance(data, dict) and isinstance(data.get(member), str):
            variables[name] = data[member]


async def finished(server: AppServer, variables: dict[str, str]) -> None:
    """Wait until the export has its files."""
    address = f"{server.base_url}/api/v1/exports/$EXPORT_ID"
    async with asyncio.timeout(60):
        while True:
            _, body = await shell(f'curl -H "Authorization: Bearer $TOKEN" "{address}"', variables)
            if json.loads(body)["data"]["state"] not in ("queued", "running"):
                return
            await asyncio.sleep(0.05)
