"""``Idempotency-Key``: whatever creates is carried out once, however often and from wherever it is sent."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest

from server.rest.openapi.document import described_routes
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.fairness.test_half_closed import head

Bearer = Callable[..., dict[str, str]]
TRACE = "5" * 32
PRICE = {"provider": "openai", "model": "gpt-x", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
SCORE = {"trace_id": TRACE, "name": "quality", "value": 1}


@dataclass(frozen=True)
class Creation:
    """A route that creates. ``counted`` is SQL for the number of things that there are."""

    path: str
    body: dict[str, Any]
    counted: str
    other: dict[str, Any] = field(default_factory=dict)
    """Members of the body of another request."""


CREATIONS = (
    Creation("/api/v1/keys", {"label": "x", "kind": "ingest"}, "SELECT count(*) FROM api_keys", {"label": "y"}),
    Creation("/api/v1/clients", {"client_name": "x", "role": "viewer"}, "SELECT count(*) FROM oauth_clients",
             {"client_name": "y"}),
    Creation("/api/v1/annotations", {"title": "x"}, "SELECT count(*) FROM annotations", {"title": "y"}),
    Creation("/api/v1/exports", {"format": "ndjson"}, "SELECT count(*) FROM exports", {"format": "csv"}),
    Creation("/api/v1/scores/batch", {"scores": [SCORE, SCORE]}, "SELECT count(*) / 2 FROM scores",
             {"scores": [SCORE]}),
    Creation("/api/v1/prices", PRICE, "SELECT count(*) FROM audit_log WHERE action = 'price.set'", {"model": "z"}),
    Creation("/api/v1/costs/reprice", {"from": "now-1h", "dry_run": False},
             "SELECT count(*) FROM audit_log WHERE action = 'costs.reprice'", {"from": "now-2h"}),
)  # fmt: skip
ELSEWHERE = {"/api/v1/projects", "/api/v1/clients/{client_id}/enable", "/api/v1/scores"}
"""Routes with tests of their own."""
QUESTIONS = re.compile(r"/api/v1/(traces/search|metrics/query)|/v1/.*|/(grafana|prometheus|oauth|mcp|jaeger|tempo).*")
"""They create nothing, or have a protocol of their own. Spans sent again replace themselves."""


@pytest.fixture
async def server(start_app: AppFactory, project: ProjectMaker) -> AppServer:
    await project("alpha")
    await project("beta")
    return await start_app()


def same(creation: Creation, http: httpx.AsyncClient, headers: dict[str, str], **other: Any) -> Any:
    return http.post(creation.path, json={**creation.body, **other}, headers=headers)


def test_every_route_that_creates_heeds_the_key(server: AppServer) -> None:
    posts = {route.path: route.is_repeatable for route in described_routes(server.app) if route.method == "POST"}
    heeding = {path for path, heeds in posts.items() if heeds}
    assert heeding == {creation.path for creation in CREATIONS} | ELSEWHERE
    assert [path for path in posts if path not in heeding and not QUESTIONS.fullmatch(path)] == []


@pytest.mark.parametrize("creation", CREATIONS, ids=lambda item: item.path)
async def test_a_request_that_is_sent_again_has_the_first_answer(
    creation: Creation, server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    before = await owner.fetchval(creation.counted)
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        first = await same(creation, http, headers)
        assert first.is_success, first.text
        assert "idempotency-replayed" not in first.headers
        # Another token of the same grant, as after a renewal.
        again = await same(creation, http, {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"})
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        for name in ("location", "cache-control", "content-type"):
            assert again.headers.get(name) == first.headers.get(name)
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert await owner.fetchval(creation.counted) == before + 1
        other = await same(creation, http, headers, **creation.other)
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
        assert "retry-after" not in other.headers
        assert await owner.fetchval(creation.counted) == before + 1


@pytest.mark.parametrize("creation", CREATIONS[:4], ids=lambda item: item.path)
async def test_of_many_at_once_one_is_carried_out(
    creation: Creation, server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    before = await owner.fetchval(creation.counted)
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        answers = await asyncio.gather(*(same(creation, http, headers) for _ in range(20)))
        assert await owner.fetchval(creation.counted) == before + 1
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) <= {answers[0].status_code, 201, 202, 409}
        assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 409} <= {"1"}
        made = {answer.content for answer in answers if answer.is_success}
        assert len(made) == 1
        assert (await same(creation, http, headers)).content in made


async def test_a_key_belongs_to_who_sent_it(server: AppServer, bearer: Bearer) -> None:
    """Another project, subject, role or key finds nothing of it, and is not in its way."""
    annotation = CREATIONS[2]
    seen = set()
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        admin = bearer("admin", ["alpha"])
        asked = {"label": "x", "kind": "service"}
        answers = [await http.post("/api/v1/keys", json=asked, headers=admin) for _ in range(2)]
        made = [answer.json()["data"]["key"] for answer in answers]
        for headers in (
            admin,
            bearer("admin", ["beta"]),
            bearer("developer", ["alpha"]),
            bearer("admin", ["alpha"], subject="another"),
            *({"Authorization": f"Bearer {key}"} for key in made),
        ):
            answer = await same(annotation, http, {**headers, "Idempotency-Key": "k1"})
            assert answer.status_code == 201, answer.text
            seen.add(answer.json()["data"]["annotation_id"])
    assert len(seen) == 6


async def test_a_request_that_was_refused_may_be_mended(server: AppServer, bearer: Bearer) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        assert (await http.post("/api/v1/annotations", json={"subject": "x"}, headers=headers)).status_code == 400
        assert (await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)).status_code == 201


async def test_who_goes_away_finds_the_answer_later(
    server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1", "Content-Type": "application/json"}
    body = b'{"title":"x"}'
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    async with owner.transaction():
        await owner.execute("LOCK TABLE annotations IN ACCESS EXCLUSIVE MODE")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head("POST", "/api/v1/annotations", {**headers, "Content-Length": str(len(body))}) + body)
        await asyncio.sleep(0.5)
        writer.transport.abort()
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            waits = await http.post("/api/v1/annotations", content=body, headers=headers)
            assert (waits.status_code, waits.headers["retry-after"]) == (409, "1")
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        for _ in range(50):
            answer = await http.post("/api/v1/annotations", content=body, headers=headers)
            if answer.status_code == 201:
                break
            await asyncio.sleep(0.1)
    assert answer.headers["idempotency-replayed"] == "true"
    assert await owner.fetchval("SELECT count(*) FROM annotations") == 1


async def test_a_request_that_ended_without_an_answer_is_never_carried_out_twice(
    server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)
        await owner.execute("UPDATE idempotency_keys SET answer = NULL, claimed_at = now() - interval '5 minutes'")
        answer = await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)
    assert answer.status_code == 409
    assert "retry-after" not in answer.headers
    assert "look" in answer.json()["detail"]


async def test_after_a_day_a_key_is_new(server: AppServer, bearer: Bearer, owner: asyncpg.Connection) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    services = server.app.ctx.services
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)
        await owner.execute("UPDATE idempotency_keys SET claimed_at = now() - interval '25 hours'")
        answer = await http.post("/api/v1/annotations", json={"title": "y"}, headers=headers)
        assert answer.status_code == 201
        await owner.execute("UPDATE idempotency_keys SET claimed_at = now() - interval '25 hours'")
    await services.access.housekeeping.tidy()
    assert await owner.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_the_table_tells_neither_keys_nor_answers(
    server: AppServer, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "a-very-rare-key"}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        made = (await http.post("/api/v1/keys", json={"label": "x", "kind": "ingest"}, headers=headers)).json()["data"]
    (row,) = await owner.fetch("SELECT * FROM idempotency_keys")
    stored = b"".join(value for value in row.values() if isinstance(value, bytes))
    for secret in (made["key"], made["key"].rpartition("_")[2], "a-very-rare-key", made["key_id"]):
        assert secret.encode() not in stored


@pytest.mark.parametrize("keys", [["a b"], [""], ["x" * 256], ["ü"], ["a", "b"]])
async def test_a_malformed_key_is_refused(server: AppServer, bearer: Bearer, keys: list[str]) -> None:
    headers = [*bearer("admin", ["alpha"]).items(), *(("Idempotency-Key", key.encode()) for key in keys)]
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        for creation in (CREATIONS[2], Creation("/api/v1/scores", SCORE, "")):
            answer = await http.post(creation.path, json=creation.body, headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == 400, (creation.path, answer.text)


async def test_a_project_is_made_once(server: AppServer, bearer: Bearer) -> None:
    headers = {**bearer("admin", ["*"]), "Idempotency-Key": "k1"}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        answers = [await http.post("/api/v1/projects", json={"project_id": "gamma"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_a_deleted_project_takes_its_answers_with_it(server: AppServer, bearer: Bearer) -> None:
    headers = {**bearer("admin", ["alpha"]), "Idempotency-Key": "k1"}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        assert (await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)).status_code == 201
        assert (await http.delete("/api/v1/projects/alpha", headers=bearer("admin", ["*"]))).status_code == 200
        answer = await http.post("/api/v1/annotations", json={"title": "x"}, headers=headers)
    assert answer.status_code == 400, "it has no project any more"
    assert "annotation_id" not in answer.text
