"""The settings on pages of senders that are no packages: read as the sender reads them, they lead to the server."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from urllib.parse import unquote

import httpx
import pytest
import yaml

from tests.conftest import ProjectMaker
from tests.docs.markdown import ROOT, Page

SENDERS = ROOT / "docs" / "how-to" / "senders"
ADDRESS = "http://127.0.0.1:8080"
Request = tuple[str, dict[str, str]]
"""Path that the sender posts to, and its headers, with API_KEY in them."""


def codex() -> Request:
    """Read the exporter of events; binary is protobuf."""
    exporter = tomllib.loads(Page(SENDERS / "codex.md").examples("toml")[0])["otel"]["exporter"]["otlp-http"]
    assert exporter["protocol"] == "binary"
    return exporter["endpoint"].removeprefix(ADDRESS), exporter["headers"]


def gemini_cli() -> Request:
    """Read the address, to which the SDK adds the signal's path, and the variable with the headers."""
    page = Page(SENDERS / "gemini-cli.md")
    telemetry = json.loads(page.examples("json")[0])["telemetry"]
    assert (telemetry["enabled"], telemetry["otlpProtocol"]) == (True, "http")
    (header,) = re.findall(r'OTEL_EXPORTER_OTLP_HEADERS="(.*)"', page.examples("sh")[0])
    name, _, value = unquote(header).partition("=")
    return f"{telemetry['otlpEndpoint'].removeprefix(ADDRESS)}/v1/logs", {name: value}


def collector() -> Request:
    """Read the exporter, which adds the signal's path."""
    (exporter,) = yaml.safe_load(Page(SENDERS / "collector.md").examples("yaml")[0])["exporters"].values()
    assert exporter["endpoint"] == "http://observatory:8080"
    headers = {name: value.replace("${env:LLM_TRACES_KEY}", "$API_KEY") for name, value in exporter["headers"].items()}
    return "/v1/traces", headers


@pytest.mark.parametrize("read", [codex, gemini_cli, collector])
async def test_settings_lead_to_the_server_with_a_key(
    read: Callable[[], Request], client: httpx.AsyncClient, project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
) -> None:  # fmt: skip
    await project("shop")
    wanted = {"label": "sender", "kind": "ingest", "projects": ["shop"]}
    key = (await client.post("/api/v1/keys", json=wanted, headers=bearer("admin", ["*"]))).json()["data"]["key"]
    path, headers = read()
    sent = {name: re.sub(r"\$\{?API_KEY\}?", key, value) for name, value in headers.items()}
    assert key in str(sent)
    answer = await client.post(path, content=b"", headers={**sent, "Content-Type": "application/x-protobuf"})
    assert answer.status_code == 200, answer.text
    assert (await client.post(path, content=b"", headers={"Content-Type": "application/x-protobuf"})).status_code == 401
