"""Troubles around vectors: embedders that change or hang, secrets, projects that go, servers side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from server.embedding.embedder import EmbedderFailed
from server.errors import ApiError
from server.semantic.backlog import Backlog, SpanKey
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conftest import IndexerMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.embedding_endpoint import EmbeddingEndpoint
from tests.span_factory import store

Bearer = Callable[..., dict[str, str]]


async def reason_of(base_url: str, headers: dict[str, str], **params: str) -> str:
    """Return the reason why a question by meaning is refused, while one by words is answered."""
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
        answer = await client.get("/api/v1/traces", params={"meaning": "money", **params})
        assert answer.status_code == 503, answer.text
        assert (await client.get("/api/v1/traces", params={"search": "money"})).status_code == 200
        assert (await client.get("/api/v1/traces", params={"model": "gpt-4o"})).status_code == 200
        return str(answer.json()["detail"])


async def test_a_slow_embedder_is_waited_for_as_long_as_was_set(
    start_app: Any, endpoint: EmbeddingEndpoint, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app(embeddings_timeout=0.2)
    endpoint.hold.set()
    try:
        assert "does not answer in time" in await reason_of(server.base_url, bearer())
    finally:
        endpoint.hold.clear()


async def test_vectors_of_another_length_are_refused_with_the_reason(
    server: AppServer,
    start_app: Any,
    endpoint: EmbeddingEndpoint,
    bearer: Bearer,
    project: ProjectMaker,
    embed_all: EmbedAll,
    make_indexer: IndexerMaker,
    owner: Any,
) -> None:
    """The endpoint has another model under the same name now."""
    await project("alpha")
    await store(server.services, "alpha", spoken("money"))
    await embed_all()
    endpoint.longest = 32
    fresh = await start_app()
    assert "another length" in await reason_of(fresh.base_url, bearer())
    indexer = make_indexer(server.services)
    with pytest.raises(EmbedderFailed, match="32 elements now, and had 64"):
        await indexer._register()
    # The same in the middle of the work, when the model is known already.
    endpoint.longest = 64
    model = await indexer._register()
    endpoint.longest = 32
    await store(server.services, "alpha", late := spoken("rain"))
    with pytest.raises(EmbedderFailed, match="another length"):
        await indexer._writer.write(model, [(SpanKey(late.ts, "alpha", late.trace_id, late.span_id), False)])
    await indexer._embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors") == 1


async def test_nothing_that_was_redacted_is_sent_to_the_embedder(
    http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll, endpoint: EmbeddingEndpoint, owner: Any
) -> None:
    await project("alpha")
    rules = [{"find": "email"}, {"find": "card"}]
    await owner.execute(
        "UPDATE projects SET settings = $1 WHERE project_id = 'alpha'", json.dumps({"redaction": {"rules": rules}})
    )
    said = "refund to jane@example.com, card 4111 1111 1111 1111"
    nanos = int(NOW.timestamp() * 1e9)
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "chat",
        "startTimeUnixNano": str(nanos),
        "endTimeUnixNano": str(nanos + 10**9),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.prompt", "value": {"stringValue": said}},
        ],
    }
    sent = await http.post("/v1/traces?project=alpha", json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    assert sent.status_code == 200, sent.text
    await embed_all()
    assert any("refund to" in text for text in endpoint.texts)
    assert not any("jane" in text or "4111" in text for text in endpoint.texts)


async def test_a_deleted_project_gets_no_vectors_any_more(
    server: AppServer, project: ProjectMaker, make_indexer: IndexerMaker, owner: Any
) -> None:
    """Its rows are removed a day later; a batch that was on its way must not leave some behind."""
    await project("alpha")
    span = spoken("money")
    await store(server.services, "alpha", span)
    indexer = make_indexer(server.services)
    model = await indexer._register()
    await owner.execute("UPDATE projects SET deleted_at = now() WHERE project_id = 'alpha'")
    await indexer._writer.write(model, [(SpanKey(span.ts, "alpha", span.trace_id, span.span_id), False)])
    await indexer._embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors") == 0


async def test_a_week_that_was_dropped_meanwhile_is_made_again(
    server: AppServer, project: ProjectMaker, make_indexer: IndexerMaker, owner: Any
) -> None:
    await project("alpha")
    first, second = spoken("money"), spoken("rain", ts=NOW - timedelta(seconds=1))
    await store(server.services, "alpha", [first, second])
    indexer = make_indexer(server.services)
    model = await indexer._register()
    keys = [SpanKey(span.ts, "alpha", span.trace_id, span.span_id) for span in (first, second)]
    await indexer._writer.write(model, [(keys[0], False)])
    parts = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'span_vectors'::regclass"
    for part in await owner.fetch(parts):
        await owner.execute(f"DROP TABLE {part[0]}")
    with pytest.raises(ApiError):
        await indexer._writer.write(model, [(keys[1], False)])
    await indexer._writer.write(model, [(keys[1], False)])
    await indexer._embedder.close()
    assert [row[0] for row in await owner.fetch("SELECT span_id FROM span_vectors")] == [second.span_id]


async def test_what_a_full_backlog_lets_go_is_found_again(
    server: AppServer, project: ProjectMaker, make_indexer: IndexerMaker, owner: Any
) -> None:
    await project("alpha")
    indexer = make_indexer(server.services, backlog=Backlog(most=10))
    assert await indexer.step() is False
    await store(server.services, "alpha", [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(40)])
    assert await indexer.step()
    assert len(indexer.backlog) <= 10
    while await indexer.step():
        assert len(indexer.backlog) <= 10 + 8
    await indexer._embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors WHERE vector IS NOT NULL") == 40


async def test_of_two_servers_one_makes_vectors_and_both_answer(
    server: AppServer,
    start_app: Any,
    project: ProjectMaker,
    make_indexer: IndexerMaker,
    bearer: Bearer,
    owner: Any,
) -> None:
    await project("alpha")
    other = await start_app()
    indexers = [make_indexer(server.services), make_indexer(other.services)]
    await store(server.services, "alpha", [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(20)])
    went_on = [await indexer.step() for indexer in indexers]
    assert went_on == [True, False]
    # The first is gone; half a minute later the second goes on where it stopped.
    await owner.execute("UPDATE embedding_lease SET expires_at = now() - interval '1 second'")
    while await indexers[1].step():
        pass
    for indexer in indexers:
        await indexer._embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors") == 20
    found = []
    for base_url in (server.base_url, other.base_url):
        async with httpx.AsyncClient(base_url=base_url, headers=bearer(), timeout=60) as client:
            answer = await client.get("/api/v1/traces", params={"meaning": "money", "from": "now-2h"})
            assert answer.json()["meta"]["meaning"]["rows_with_vectors"] == 20
            found.append([row["span_id"] for row in answer.json()["data"]])
    assert found[0] == found[1]
