"""The same rows by meaning wherever they are asked for: REST, agents, Grafana, and the Python client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import AppServer
from tests.mcp.test_mcp import agent, call
from tests.semantic.test_meaning_lists import ids, rows_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "clients" / "python"))

import llm_observatory_client as api

Bearer = Callable[..., dict[str, str]]


async def panel(http: httpx.AsyncClient, **payload: str) -> httpx.Response:
    body = {
        "range": {"from": "now-2h", "to": "now"},
        "targets": [{"refId": "A", "target": "meaning", "payload": {"project": "alpha", **payload}}],
    }
    return await http.post("/grafana/query", json=body)


async def test_agents_and_clients_get_the_rows_of_the_api(
    server: AppServer, http: httpx.AsyncClient, corpus: dict[str, Any], bearer: Bearer, token: Callable[..., str]
) -> None:
    angry, polite = corpus["angry"], corpus["polite"]
    by_text = ids(await rows_of(http, meaning="furious about money", project_id="alpha"))
    by_span = ids(await rows_of(http, like=f"{angry.trace_id}/{angry.span_id}", project_id="alpha"))
    assert (by_text[0], by_span[0]) == (angry.span_id, polite.span_id)

    async with agent(server, bearer("developer", ["alpha"])) as client:
        text = await call(client, "search_spans", meaning="furious about money", limit=1)
        assert angry.span_id in text
        assert polite.span_id not in text
        text = await call(client, "search_spans", like=f"{angry.trace_id}/{angry.span_id}", limit=1)
        assert polite.span_id in text

    def use() -> None:
        with api.Client(server.base_url, token("developer", ["alpha"])) as client:
            rows = list(client.traces(meaning="furious about money", limit=2))
            assert [row["span_id"] for row in rows] == by_text
            assert rows[0]["found_by"] == ["meaning"]
            likes = list(client.traces(like=angry.trace_id))
            assert [row["span_id"] for row in likes] == by_span

    await asyncio.to_thread(use)


async def test_a_panel_shows_what_is_near_to_a_text_or_a_span(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    angry, polite = corpus["angry"], corpus["polite"]
    for payload, first in (
        ({"meaning": "furious about money", "like": ""}, angry),
        ({"meaning": "", "like": f"{angry.trace_id}/{angry.span_id}"}, polite),
    ):
        answer = await panel(http, **payload)
        assert answer.status_code == 200, answer.text
        (frame,) = answer.json()
        nearest = dict(zip([column["text"] for column in frame["columns"]], frame["rows"][0], strict=True))
        assert nearest["trace_id"] == first.trace_id
        assert 0.5 < nearest["similarity"] <= 1
    newest = (await panel(http, meaning="", like="")).json()[0]
    assert "similarity" not in [column["text"] for column in newest["columns"]]
    for payload, named in (
        ({"meaning": "money", "like": angry.trace_id}, "like"),
        ({"like": "a/b/c"}, "like"),
        ({"meaning": "x" * 1025}, "meaning"),
    ):
        answer = await panel(http, **payload)
        assert answer.status_code == 400, answer.text
        assert named in answer.text
