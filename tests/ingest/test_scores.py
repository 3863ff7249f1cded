"""Scores: over REST and as OTLP evaluation events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.conftest import AppServer, ProjectMaker
from tests.ingest.otlp_payloads import PROTOBUF, attribute
from tests.ingest.stored_state import counted_totals
from tests.span_factory import make_span, store, texts

TRACE = "0af7651916cd43dd8448eb211c80319c"
Post = Callable[..., Any]


@pytest.fixture
async def post(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker) -> Post:
    """Posts JSON as a developer of project alpha."""
    await project("alpha")
    headers = bearer("developer", ["alpha"])

    async def send(body: Any, path: str = "/api/v1/scores", **more: str) -> httpx.Response:
        return await client.post(path, json=body, headers={**headers, **more})

    return send


@pytest.mark.parametrize(
    ("value", "data_type", "number", "text"),
    [
        (0.75, "numeric", 0.75, None),
        (0, "numeric", 0.0, None),
        (True, "boolean", 1.0, None),
        ("good", "categorical", None, "good"),
    ],
)
async def test_the_value_says_what_kind_of_score_it_is(
    post: Post, owner: asyncpg.Connection, value: Any, data_type: str, number: float | None, text: str | None
) -> None:
    response = await post({"trace_id": TRACE, "name": "helpful", "value": value, "source": "human", "comment": "ok"})
    assert response.status_code == 201
    row = await owner.fetchrow("SELECT * FROM scores")
    assert row is not None
    assert (row["data_type"], row["value"], row["string_value"]) == (data_type, number, text)
    assert (row["project_id"], row["source"], row["comment"]) == ("alpha", "human", "ok")
    assert response.json()["data"]["score_id"] == row["score_id"]


async def test_a_score_id_is_stored_once_and_replaced(post: Post, owner: asyncpg.Connection) -> None:
    body = {"score_id": "mine", "trace_id": TRACE, "name": "n", "value": 1}
    assert [(await post(body)).status_code for _ in range(3)] == [201, 200, 200]
    assert (await post({**body, "value": 2})).status_code == 200
    assert await owner.fetchval("SELECT value FROM scores") == 2.0


async def test_an_idempotency_key_has_one_winner(post: Post, owner: asyncpg.Connection) -> None:
    body = {"trace_id": TRACE, "name": "correctness"}
    key = {"Idempotency-Key": "abc"}
    answers = await asyncio.gather(*(post({**body, "value": number % 10}, **key) for number in range(30)))
    won = [answer.json()["data"]["value"] for answer in answers if answer.status_code == 201]
    assert len(won) == 1
    assert [row["value"] for row in await owner.fetch("SELECT value FROM scores")] == won
    for number, answer in enumerate(answers):
        expected = {200, 201} if number % 10 == won[0] else {409}
        assert answer.status_code in expected, "whoever sent the same is told the same, whoever sent another is not"


async def test_an_idempotency_key_stands_for_one_score(post: Post, owner: asyncpg.Connection) -> None:
    body = {"trace_id": TRACE, "name": "n", "value": 1}
    first = await post(body, **{"Idempotency-Key": "abc"})
    again = await post(body, **{"Idempotency-Key": "abc"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["data"] == again.json()["data"]
    other = await post({**body, "value": 2}, **{"Idempotency-Key": "abc"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert await owner.fetchval("SELECT count(*) FROM scores") == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"trace_id": "x"}, "/trace_id"),
        ({"span_id": "12"}, "/span_id"),
        ({"trace_id": "0" * 32}, "/trace_id"),
        ({"span_id": "0" * 16}, "/span_id"),
        ({"timestamp": "now+1d"}, "/timestamp"),
        ({"name": ""}, "/name"),
        ({"value": None}, "/value"),
        ({"value": [1]}, "/value"),
        ({"value": 1e300}, "/value"),
        ({"value": "x" * 501}, "/value"),
        ({"source": "robot"}, "/source"),
        ({"timestamp": "yesterday"}, "/timestamp"),
        ({"timestamp": "1970-01-01T00:00:00Z"}, "/timestamp"),
        ({"project_id": "alpha"}, "/project_id"),
    ],
)
async def test_a_bad_score_is_400_and_names_the_place(post: Post, change: dict[str, Any], pointer: str) -> None:
    response = await post({"trace_id": TRACE, "name": "n", "value": 1, **change})
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == pointer


async def test_an_error_says_what_is_expected_and_times_may_be_epochs(post: Post) -> None:
    texts = {"trace_id": "a string without NUL and lone surrogates", "value": "a number, true, false or a text"}
    for name, expected in texts.items():
        body = {"trace_id": TRACE, "name": "n", "value": 1, name: [5]}
        for path, sent in (("/api/v1/scores", body), ("/api/v1/scores/batch", {"scores": [body]})):
            assert (await post(sent, path)).json()["errors"][0]["detail"] == f"expected {expected}"
    given = await post({"trace_id": TRACE, "name": "n", "value": 1, "timestamp": int(time.time()) - 60})
    assert given.status_code == 201


async def test_a_key_knows_its_score_again_after_redaction(
    post: Post, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    rules = {"redaction": {"rules": [{"find": "email"}]}}
    path = "/api/v1/projects/alpha/ingest-settings"
    assert (await client.put(path, json=rules, headers=bearer("admin", ["alpha"]))).status_code == 200
    body = {"trace_id": TRACE, "name": "n", "value": "a@b.example", "comment": "ask a@b.example"}
    first, again = [await post(body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200), again.text
    assert again.json()["data"] == first.json()["data"]
    assert again.json()["data"]["comment"] == "ask [email]"


async def test_an_id_with_special_characters_can_be_taken_back(
    post: Post, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    assert (await post({"score_id": "run 1/é", "trace_id": TRACE, "name": "n", "value": 1})).status_code == 201
    headers = bearer("developer", ["alpha"])
    assert (await client.delete("/api/v1/scores/run%201%2F%C3%A9", headers=headers)).status_code == 200
    gone = await client.delete("/api/v1/scores/run%201%2F%C3%A9", headers=headers)
    assert (gone.status_code, gone.json()["detail"]) == (404, "There is no such score.")


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(post: Post, owner: asyncpg.Connection) -> None:
    good = [{"trace_id": TRACE, "name": "n", "value": number} for number in range(5)]
    bad = await post({"scores": [*good, {"trace_id": TRACE, "name": "n"}]}, "/api/v1/scores/batch")
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (400, "/scores/5/value")
    assert await owner.fetchval("SELECT count(*) FROM scores") == 0
    done = await post({"scores": good}, "/api/v1/scores/batch")
    assert (done.status_code, len(done.json()["data"]), done.json()["meta"]["created"]) == (201, 5, 5)
    assert await owner.fetchval("SELECT count(*) FROM scores") == 5


async def test_a_score_can_be_taken_back(
    post: Post, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], owner: asyncpg.Connection
) -> None:
    await post({"score_id": "s", "trace_id": TRACE, "name": "n", "value": 1})
    headers = bearer("developer", ["alpha"])
    assert (await client.delete("/api/v1/scores/s", headers=headers)).status_code == 200
    assert (await client.delete("/api/v1/scores/s", headers=headers)).status_code == 404
    assert await owner.fetchval("SELECT count(*) FROM scores") == 0


async def test_scores_of_a_foreign_project_are_403_and_a_viewer_may_not_write(
    post: Post, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker
) -> None:
    await project("beta")
    body = {"trace_id": TRACE, "name": "n", "value": 1}
    assert (await post(body, "/api/v1/scores?project_id=beta")).status_code == 403
    viewer = await client.post("/api/v1/scores", json=body, headers=bearer("viewer", ["alpha"]))
    assert viewer.status_code == 403


def logs(*records: tuple[str, dict[str, Any]], trace_id: str, span_id: str) -> bytes:
    """Return an OTLP logs request of events ``(name, attributes)`` of one span."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for name, attributes in records:
        record = scope.log_records.add(
            event_name=name,
            time_unix_nano=time.time_ns(),
            trace_id=bytes.fromhex(trace_id),
            span_id=bytes.fromhex(span_id),
        )
        record.attributes.extend(attribute(key, value) for key, value in attributes.items())
    return request.SerializeToString()


async def test_evaluation_events_become_scores_and_their_replay_changes_nothing(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    owner: asyncpg.Connection,
) -> None:  # fmt: skip
    await project("alpha")
    event = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.9,
        "gen_ai.evaluation.score.label": "relevant",
    }
    body = logs(("gen_ai.evaluation.result", event), ("http.request", {}), trace_id=TRACE, span_id="00f067aa0ba902b7")
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    for _ in range(2):
        response = await client.post("/v1/logs", content=body, headers=headers)
        assert (response.status_code, response.content) == (200, b"")
    rows = await owner.fetch("SELECT name, value, string_value, source, span_id FROM scores")
    assert [tuple(row) for row in rows] == [("relevance", 0.9, "relevant", "eval", "00f067aa0ba902b7")]


@pytest.mark.parametrize("span_first", [True, False])
async def test_content_that_comes_as_a_log_record_fills_its_span(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    owner: asyncpg.Connection, span_first: bool,
) -> None:  # fmt: skip
    await project("alpha")
    span = make_span(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), output_text="kept", total_tokens=3)
    event = {
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Where is my order?"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"other"}]}]',
        "gen_ai.agent.name": "support",
    }
    body = logs(("gen_ai.client.inference.operation.details", event), trace_id=span.trace_id, span_id=span.span_id)
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    if span_first:
        await store(app_server.services, "alpha", span)
    assert (await client.post("/v1/logs", content=body, headers=headers)).status_code == 200
    if not span_first:
        assert await owner.fetchval("SELECT count(*) FROM span_updates") == 1
        await store(app_server.services, "alpha", span)
        assert await app_server.services.ingestion.updates.apply_held() == 1
    await store(app_server.services, "alpha", span)
    row = await owner.fetchrow("SELECT * FROM llm_traces")
    assert row is not None
    (listed,) = await texts(client, headers)
    assert "Where is my order?" in listed["input_text"]
    assert (listed["output_text"], row["agent_name"], row["total_tokens"]) == ("kept", "support", 3)
    assert await owner.fetchval("SELECT count(*) FROM span_updates") == 0
    assert (await counted_totals(owner))["total_tokens"] == 3


@pytest.mark.parametrize("span_first", [True, False])
async def test_messages_of_one_call_in_several_log_requests_are_added_up_once_each(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    owner: asyncpg.Connection, span_first: bool,
) -> None:  # fmt: skip
    await project("alpha")
    span = make_span(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), input_text=None, input_messages=None)
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    said = [
        ("gen_ai.system.message", "Be kind."),
        ("gen_ai.user.message", "Name a lake."),
        ("gen_ai.user.message", "Now."),
    ]
    if span_first:
        await store(app_server.services, "alpha", span)
    for name, text in [*said, said[1]]:
        body = logs((name, {"content": text}), trace_id=span.trace_id, span_id=span.span_id)
        assert (await client.post("/v1/logs", content=body, headers=headers)).status_code == 200
    if not span_first:
        await store(app_server.services, "alpha", span)
        assert await app_server.services.ingestion.updates.apply_held() == 1
    (listed,) = await texts(client, headers)
    assert listed["input_text"] == "system: Be kind.\nuser: Name a lake.\nuser: Now."


async def test_a_log_record_completes_an_input_that_is_instructions_alone(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    owner: asyncpg.Connection,
) -> None:  # fmt: skip
    await project("alpha")
    instructions = {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]}
    span = make_span(
        trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), input_text="system: Be kind.",
        input_messages=[instructions], input_type="chat",
    )  # fmt: skip
    await store(app_server.services, "alpha", span)
    messages = [instructions, {"role": "user", "parts": [{"type": "text", "content": "Name a lake."}]}]
    event = {"gen_ai.input.messages": orjson.dumps(messages).decode()}
    body = logs(("gen_ai.client.inference.operation.details", event), trace_id=span.trace_id, span_id=span.span_id)
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    assert (await client.post("/v1/logs", content=body, headers=headers)).status_code == 200
    (listed,) = await texts(client, headers)
    assert listed["input_text"] == "system: Be kind.\nuser: Name a lake."
