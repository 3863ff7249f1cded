"""``/api/v1/annotations`` and its way into charts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.datasource.grafana_client import query_body
from tests.datasource.seed import ACME, GLOBEX, Seed, iso

Bearer = Callable[..., dict[str, str]]


async def test_a_remark_is_added_shown_drawn_and_deleted(
    client: httpx.AsyncClient, bearer: Bearer, seeded_history: Seed
) -> None:
    developer, viewer = bearer("developer", [ACME]), bearer("viewer", [ACME])
    at = seeded_history.start + timedelta(hours=2)
    remark = {
        "title": "<b>Rollout</b>", "text": "<script>alert(1)</script> & more", "tags": ["rollout", "eu"],
        "time": iso(at), "time_end": iso(at + timedelta(minutes=5)),
    }  # fmt: skip
    drawn = query_body(seeded_history, {"target": "annotations.custom", "payload": {"tag": "var-tag=rollout"}})
    assert (await client.post("/grafana/query", json=drawn, headers=viewer)).json()[0]["data"]["values"][0] == []
    posted = await client.post("/api/v1/annotations", json=remark, headers=developer)
    assert posted.status_code == 201, posted.text
    stored = posted.json()["data"]
    assert stored["title"] == "<b>Rollout</b>"
    assert stored["project_id"] == ACME
    window = {"from": iso(seeded_history.start), "to": iso(seeded_history.end)}
    listed = await client.get("/api/v1/annotations", params={**window, "tags": "eu,us"}, headers=viewer)
    assert listed.json()["data"] == [stored]
    assert listed.json()["next_cursor"] is None
    other_tag = await client.get("/api/v1/annotations", params={**window, "tags": "us"}, headers=viewer)
    assert other_tag.json()["data"] == []
    # At once, although the empty answer was remembered; inert, since Grafana shows it as HTML.
    frame = (await client.post("/grafana/query", json=drawn, headers=viewer)).json()[0]
    values = dict(zip([field["name"] for field in frame["schema"]["fields"]], frame["data"]["values"], strict=True))
    assert values["title"] == ["&lt;b&gt;Rollout&lt;/b&gt;"]
    assert "<script" not in values["text"][0]
    assert values["timeEnd"][0] - values["time"][0] == 300_000
    assert values["tags"] == ["rollout,eu"]
    path = f"/api/v1/annotations/{stored['annotation_id']}"
    assert (await client.delete(path, headers=viewer)).status_code == 403
    assert (await client.delete(path, headers=bearer("developer", [GLOBEX]))).status_code == 404
    assert (await client.delete(path, headers=developer)).status_code == 200
    assert (await client.delete(path, headers=developer)).status_code == 404
    # Changes in quick succession are told to remembered answers together, within a second.
    async with asyncio.timeout(1):
        while (await client.post("/grafana/query", json=drawn, headers=viewer)).json()[0]["data"]["values"][0]:
            await asyncio.sleep(0.05)


async def test_remarks_stay_in_their_project(client: httpx.AsyncClient, bearer: Bearer, seeded_history: Seed) -> None:
    posted = await client.post(
        "/api/v1/annotations",
        json={"title": "secret", "time": iso(seeded_history.start), "project_id": GLOBEX},
        headers=bearer("developer", [GLOBEX]),
    )
    assert posted.status_code == 201
    foreign = await client.post(
        "/api/v1/annotations", json={"title": "x", "project_id": GLOBEX}, headers=bearer("developer", [ACME])
    )
    assert foreign.status_code == 403
    body = query_body(seeded_history, {"target": "annotations.custom", "payload": {"project": "var-project=$__all"}})
    shown = await client.post("/grafana/query", json=body, headers=bearer("viewer", [ACME]))
    assert shown.status_code == 200
    assert "secret" not in shown.text
    everyone = await client.post("/api/v1/annotations", json={"title": "x"}, headers=bearer("admin", ["*"]))
    assert everyone.status_code == 400
    assert "/project_id" in everyone.text


BAD: list[Any] = [
    {},
    {"title": ""},
    {"title": "x" * 201},
    {"title": "x", "text": "x" * 10_001},
    {"title": "x", "time": "yesterday"},
    {"title": "x", "time": "2026-11-22T10:00:00Z", "time_end": "2026-11-22T09:00:00Z"},
    {"title": "x", "tags": "a"},
    {"title": "x", "tags": [""]},
    {"title": "x", "tags": ["a"] * 21},
    {"title": "x", "colour": "red"},
    {"title": "a\u0000b"},
    {"title": 5},
    [],
]


async def test_bad_remarks_are_refused(client: httpx.AsyncClient, bearer: Bearer) -> None:
    headers = bearer("developer", [ACME])
    for body in BAD:
        answer = await client.post("/api/v1/annotations", json=body, headers=headers)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json()["code"] == "invalid_body"
    for params in ({"limit": "0"}, {"from": "soon"}, {"colour": "red"}, {"from": "now", "to": "now-1h"}):
        assert (await client.get("/api/v1/annotations", params=params, headers=headers)).status_code == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods_are_405(client: httpx.AsyncClient, bearer: Bearer, method: str) -> None:
    answer = await client.request(method, "/api/v1/annotations", headers=bearer("admin", ["*"]))
    assert answer.status_code == 405
