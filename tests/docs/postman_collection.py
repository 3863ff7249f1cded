"""The Postman collection and its environment, from the examples of the OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from server.rest.openapi.document import TAGS, DescribedRoute
from server.rest.openapi.examples import MADE_VALUES, PATH_VALUES, example_of
from server.rest.openapi.operations import OPERATIONS
from server.rest.openapi.other_operations import FORM
from tests.docs.curl_page import commands

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
# Ids and secrets that the server makes: kept by the request that is answered with them.
KEPT = (*MADE_VALUES, "client_secret", "access_token")
VARIABLES = {"TOKEN": "{{access_token}}", "CLIENT": "nightly-report", "SECRET": "{{client_secret}}"}
# A stream does not end, and not every HTTP library of Postman knows the method QUERY.
LEFT_OUT = ("live.events", "traces.query")
_ORDER = {"POST": 0, "PUT": 0, "GET": 1, "DELETE": 2}
_FIRST = ("oauth.token",)
_LAST = ("clients.enable_client", "oauth.revoke")
_KEEP = """const answer = pm.response.json();
const data = answer.data || answer;
for (const name of {names}) if (data && typeof data[name] === "string") pm.environment.set(name, data[name]);"""
_WAIT = """const isAtWork = ["queued", "running"].includes(pm.response.json().data.state);
if (isAtWork) pm.execution.setNextRequest(pm.info.requestName);"""


def collection() -> str:
    """Return the collection, a folder for each tag; in a folder things are made, read and deleted."""
    folders: dict[str, list[DescribedRoute]] = {}
    for command in commands():
        if command.route.name not in LEFT_OUT:
            folders.setdefault(command.route.name.partition(".")[0], []).append(command.route)
    document = {
        "info": {"name": "LLM Observatory", "schema": SCHEMA},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
        "item": [
            {"name": tag, "description": TAGS[tag], "item": [_item(route) for route in sorted(routes, key=_place)]}
            # The trace that others ask for is deleted among the prices.
            for tag, routes in sorted(folders.items(), key=lambda folder: (folder[0] == "prices", folder[0]))
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def environment() -> str:
    """Return the environment: the address, the credential, and what requests keep."""
    values = {"base_url": "http://127.0.0.1:8080", "token": "", **dict.fromkeys(KEPT, "")}
    document = {
        "name": "LLM Observatory",
        "values": [{"key": key, "value": value, "enabled": True} for key, value in values.items()],
    }
    return json.dumps(document, indent=1) + "\n"


def _place(route: DescribedRoute) -> tuple[int, str]:
    if route.name in _FIRST:
        return -1, route.path
    return (3 if route.name in _LAST else _ORDER[route.method]), route.path


def _item(route: DescribedRoute) -> dict[str, Any]:
    example = example_of(route.name)
    values = {**PATH_VALUES, **{name: f"{{{{{name}}}}}" for name in MADE_VALUES}, **example.path}
    path = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], route.path)
    raw = f"{{{{base_url}}}}{path}"
    if example.query:
        raw += "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in example.query.items())
    url = {
        "raw": raw,
        "host": ["{{base_url}}"],
        "path": path.split("/")[1:],
        "query": [{"key": name, "value": quote(value)} for name, value in example.query.items()],
    }
    request: dict[str, Any] = {"method": route.method, "url": url, "description": route.sentence}
    body = _body(route, example.body)
    if body:
        request["body"] = body
        if body["mode"] == "raw":
            request["header"] = [{"key": "Content-Type", "value": "application/json"}]
    if route.policy.scope is None:
        request["auth"] = {"type": "noauth"}
    script = ['pm.test("is answered", () => pm.response.to.be.success);']
    if route.method == "POST":
        script += ["try {", *_KEEP.format(names=json.dumps(KEPT)).splitlines(), "} catch {}"]
    if route.name == "export_jobs.read":
        script += _WAIT.splitlines()
    return {
        "name": f"{route.method} {route.path}",
        "event": [{"listen": "test", "script": {"type": "text/javascript", "exec": script}}],
        "request": request,
    }


def _body(route: DescribedRoute, given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    row = OPERATIONS.get(route.name)
    if row is not None and FORM in row.body_types:
        pairs = [
            {"key": name, "value": VARIABLES.get(item, item)}
            for name, value in given.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        return {"mode": "urlencoded", "urlencoded": pairs}
    return {"mode": "raw", "raw": json.dumps(given, indent=2), "options": {"raw": {"language": "json"}}}
