"""The script of the page ``/docs``: what it makes of the description, run in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import httpx
import pytest

SCRIPT = files("server.rest.openapi").joinpath("static", "explorer.js").read_text(encoding="utf-8")
in_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def evaluated(document: dict[str, Any], expression: str) -> Any:
    """Return the value of an expression over the functions of the script and ``api``, the description."""
    program = f"""
        globalThis.document = {{ getElementById: () => ({{}}) }};
        globalThis.fetch = () => Promise.reject(new Error("no server"));
        {SCRIPT.replace('"use strict";', "")}
        const api = {json.dumps(document)};
        console.log(JSON.stringify({expression}));
    """
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_nothing_is_put_in_as_html() -> None:
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
        assert way not in SCRIPT


@in_node
async def test_every_schema_has_a_type_in_words_and_unfolds(client: httpx.AsyncClient) -> None:
    """Each answer and body is walked to a depth at which those that contain themselves have come round."""
    document = (await client.get("/openapi.json")).json()
    walk = """(() => {
        const words = new Set();
        let members = 0;
        const visit = (schema, depth) => {
            words.add(typeOf(schema));
            if (depth) for (const [, part] of insideOf(api, schema)) { members += 1; visit(part, depth - 1); }
        };
        for (const item of Object.values(api.paths)) for (const operation of Object.values(item)) {
            const answers = Object.values(operation.responses).map((given) => resolved(api, given));
            const parts = [operation.requestBody, ...answers];
            for (const part of parts) for (const { schema } of Object.values(part?.content ?? {})) visit(schema, 4);
            for (const parameter of operation.parameters) words.add(typeOf(parameter.schema));
        }
        return [members, [...words]];
    })()"""
    members, words = evaluated(document, walk)
    assert members > 1000
    assert not [word for word in words if "undefined" in word or "[object" in word or not word]
    assert set(words) >= {"string | null", "date-time", "asc | desc"}
    assert [name for name, *_ in evaluated(document, "insideOf(api, {$ref: '#/components/schemas/Pagination'})")] == [
        "cursor", "has_more", "limit", "total", "total_relation",
    ]  # fmt: skip


@in_node
async def test_bodies_are_sent_as_the_route_takes_them(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    paths = ["/api/v1/traces/search", "/prometheus/api/v1/query", "/v1/traces"]
    types = evaluated(document, f"{json.dumps(paths)}.map((path) => bodyType(api.paths[path].post))")
    assert types == ["application/json", "application/x-www-form-urlencoded", "application/json"]
    assert evaluated(document, 'encodedBody(FORM, \'{"query": "a + b", "limit": 5}\')') == "query=a+%2B+b&limit=5"
    assert evaluated(document, "encodedBody('application/json', '{}')") == "{}"


@in_node
async def test_the_command_is_safe_to_paste(client: httpx.AsyncClient) -> None:
    """A value with a quote ends no argument."""
    command = evaluated(
        {}, """curlOf("POST", "http://h/x?a=it's", false, {"X-A": "b"}, "{\\"q\\": \\"it's $HOME\\"}")"""
    )
    assert command.startswith('curl -X POST -H "Authorization: Bearer $TOKEN" -H ')
    words = subprocess.run(
        ["sh", "-c", f"TOKEN=t; set -- {command}; printf '%s\\n' \"$@\""], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == [
        "curl", "-X", "POST", "-H", "Authorization: Bearer t", "-H", "X-A: b", "-d", '{"q": "it\'s $HOME"}',
        "http://h/x?a=it's",
    ]  # fmt: skip
