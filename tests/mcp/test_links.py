"""Where answers to agents lead people: to a dashboard, or to the page of the API with the question filled in."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from dashboards.build import BOARDS
from server.mcp.inner_request import Question
from server.mcp.links import links_of
from server.mcp.tools import TOOLS
from server.settings import Settings
from tests.conftest import AppFactory
from tests.mcp.test_mcp import agent, call
from tests.span_factory import make_span, store

GRAFANA = Settings(grafana_url="https://grafana.example/sub/", public_url="https://llm.example")


def link(question: Question, settings: Settings = GRAFANA, **more: str) -> str:
    """Return the address that people open."""
    first, second = links_of(settings, "llm-explore", question, **more)
    assert second == f"API: {settings.base_url}{question.address}"
    return first.removeprefix("Link: ")


def test_a_question_opens_a_dashboard_with_its_range_and_filters() -> None:
    asked = {"from": "now-7d", "to": None, "model": ["gpt-4o", "o3"], "user_id": "u 1", "status": "error", "limit": 20}
    found = urlsplit(link(Question("/api/v1/traces", asked)))
    assert (found.netloc, found.path) == ("grafana.example", "/sub/d/llm-explore")
    assert parse_qs(found.query) == {
        "from": ["now-7d"],
        "to": ["now"],
        "var-model": ["gpt-4o", "o3"],
        "var-user": ["u 1"],
        "var-filters": ["status_code|=|error"],
    }
    trace = Question("/api/v1/traces/abc", {"project_id": None})
    assert parse_qs(urlsplit(link(trace, trace_id="abc")).query)["var-trace_id"] == ["abc"]


@pytest.mark.parametrize("filters", [{"attribute.team": "a"}, {"min_tokens": 5}, {"status": "a|b"}], ids=str)
def test_a_filter_that_no_dashboard_has_leads_to_the_page_of_the_api(filters: dict[str, Any]) -> None:
    question = Question("/api/v1/traces", {"from": "now-1h", **filters})
    assert link(question) == f"https://llm.example/docs#ask={quote(question.address, safe='')}"


def test_the_grafana_whose_viewers_are_believed_is_the_one_that_is_linked() -> None:
    assert link(Question("/x", {}), Settings(grafana_issuer="https://g.example")).startswith("https://g.example/d/")


async def test_every_tool_leads_to_a_dashboard_that_there_is(start_app: AppFactory, project: Any, bearer: Any) -> None:
    server = await start_app(grafana_url="https://grafana.example")
    await project("alpha")
    span = make_span()
    await store(server.services, "alpha", span)
    given = {
        "trace_id": span.trace_id, "span_id": span.span_id, "metric": "calls",
        "earlier_from": "now-2d", "earlier_to": "now-1d",
    }  # fmt: skip
    known = {board.uid for board in BOARDS}
    async with agent(server, bearer("admin", ["alpha"])) as client:
        for tool in TOOLS.values():
            text = await call(client, tool.name, **{name: given[name] for name in tool.required})
            found = urlsplit(text.splitlines()[-2].removeprefix("Link: "))
            assert found.netloc == "grafana.example", tool.name
            assert found.path.removeprefix("/d/") in known, tool.name


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_the_page_of_the_api_finds_the_operation_that_a_link_asks_for(client: httpx.AsyncClient) -> None:
    paths = list((await client.get("/openapi.json")).json()["paths"])
    script = files("server.rest.openapi").joinpath("static", "explorer.js").read_text(encoding="utf-8")
    asked = [
        "/api/v1/traces?model=a%26b&model=c&attribute.team=x",
        "/api/v1/traces/0af?project_id=p",
        "/api/v1/traces/live",
        "/nothing",
    ]
    hashes = [*(f"#ask={quote(address, safe='')}" for address in asked), "#ask=%E0%A4%A", "#other", ""]
    program = f"""
        globalThis.document = {{ getElementById: () => ({{}}) }};
        globalThis.fetch = () => Promise.reject(new Error("no server"));
        {script.replace('"use strict";', "")}
        const found = {json.dumps(hashes)}.map((hash) => askedOperation(hash, {json.dumps(paths)}));
        console.log(JSON.stringify(found.map((item) => item && [item.path, Object.fromEntries(item.values)])));
    """
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        ["/api/v1/traces", {"model": "a&b,c", "attribute.team": "x"}],
        ["/api/v1/traces/{trace_id}", {"trace_id": "0af", "project_id": "p"}],
        ["/api/v1/traces/live", {}],
        None,
        None,
        None,
        None,
    ]
