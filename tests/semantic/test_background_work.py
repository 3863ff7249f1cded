"""Vectors of stored spans: once a text, newest first, gone with trace and week, whatever the embedder does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from server.embedding.embedder import Embedder, EmbedderFailed, Endpoint
from server.embedding.offline_model import OfflineModel, OfflineModelMissing, check_files
from server.embedding.vectors import from_bytes, similarities, to_bits, to_bytes, unit
from server.semantic.backlog import Backlog, SpanKey
from server.semantic.span_text import HEAD, TAIL, added_text
from server.semantic.stored_walk import StoredWalk
from server.semantic.token_budget import TokenBudget
from server.upkeep.retention import apply_retention
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conftest import IndexerMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.embedding_endpoint import EmbeddingEndpoint
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]


def message(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": p} if isinstance(p, str) else p for p in parts]}


def test_what_a_span_adds_is_embedded_and_nothing_else() -> None:
    call = {"type": "tool_call", "name": "lookup", "arguments": {"order": 17}}
    row = {
        "operation_type": "chat",
        "input_text": None,
        "output_text": None,
        "input_messages": [
            message("system", "You are a shop."),
            message("user", "an earlier question"),
            message("assistant", "an earlier answer"),
            message("user", "the new  question", {"type": "blob", "modality": "image"}),
            message("tool", {"type": "tool_call_response", "response": "noise"}),
        ],
        "output_messages": [message("assistant", {"type": "reasoning", "content": "hm"}, "the answer", call)],
    }
    assert added_text(row) == "the new question\nthe answer"
    assert added_text({**row, "operation_type": "tool"}) is None
    assert added_text({**row, "input_messages": None, "output_messages": None}) is None
    plain = {**row, "input_messages": None, "output_messages": None, "input_text": "ask", "output_text": "say"}
    assert added_text(plain) == "ask\nsay"
    assert added_text({**plain, "input_text": "…!?", "output_text": ""}) is None
    long = "begin " + "middle " * 200_000 + "end"
    kept = added_text({**plain, "input_text": long, "output_text": None})
    assert kept is not None
    assert len(kept) <= HEAD + TAIL + 3
    assert kept.startswith("begin")
    assert kept.endswith("end")
    # Whatever a sender put into its messages, nothing fails.
    oddities: tuple[Any, ...] = (["text"], [{"role": "user"}], [{"role": "user", "parts": "x"}], [None], {"a": 1}, [[]])
    for odd in oddities:
        assert added_text({**row, "input_messages": odd, "output_messages": odd}) is None


def test_vectors_are_stored_as_their_halves_and_signs() -> None:
    vectors = unit(np.random.default_rng(1).standard_normal((3, 20)).astype(np.float32))
    stored = from_bytes(map(to_bytes, vectors), 20)
    assert np.allclose(stored, vectors, atol=1e-3)
    assert [len(to_bits(vector)) for vector in vectors] == [20] * 3
    assert to_bits(vectors[0]).as_string().replace(" ", "") == "".join("01"[int(x > 0)] for x in vectors[0])
    assert similarities(stored, vectors[0])[0] == pytest.approx(1, abs=1e-3)
    for bad in ([[0.0, 0.0]], [[float("nan"), 1.0]], [[float("inf"), 1.0]]):
        with pytest.raises(ValueError, match="not finite"):
            unit(np.asarray(bad, dtype=np.float32))


def test_the_newest_wait_in_front_and_the_oldest_are_let_go() -> None:
    backlog = Backlog(most=10)
    for minute in range(12):
        backlog.add(SpanKey(NOW + timedelta(minutes=minute), "alpha", f"t{minute}", "s"))
    assert backlog.let_go
    assert len(backlog) <= 10
    assert [key.trace_id for key, _ in backlog.take(3)] == ["t11", "t10", "t9"]
    backlog.add(SpanKey(NOW, "alpha", "again", "s"))
    backlog.add(SpanKey(NOW, "alpha", "again", "s"), is_update=True)
    assert [(key.trace_id, is_update) for key, is_update in backlog.take(100)][-1] == ("again", True)
    assert backlog.take(1) == []


def test_spans_of_a_project_that_is_held_wait_without_keeping_others() -> None:
    backlog = Backlog(most=100)
    keys = [SpanKey(NOW + timedelta(minutes=n), ("alpha", "beta")[n % 2], f"t{n}", "s") for n in range(6)]
    for key in keys[:4]:
        backlog.add(key, is_update=key is keys[1])
    backlog.hold("beta")
    backlog.hold("beta")
    for key in keys[4:]:
        backlog.add(key)
    assert len(backlog) == 3
    assert [key.trace_id for key, _ in backlog.take(10)] == ["t4", "t2", "t0"]
    backlog.release("beta")
    backlog.release("gamma")
    assert [(key.trace_id, is_update) for key, is_update in backlog.take(10)] == [
        ("t5", False), ("t3", False), ("t1", True)
    ]  # fmt: skip
    backlog.hold("beta")
    for n in range(11):
        backlog.add(SpanKey(NOW, "beta", f"t{n}", "s"))
    assert backlog.let_go, "more than a tenth of all: the walk finds them again"


def test_a_budget_is_paid_before_the_next_batch() -> None:
    now = [0.0]
    budget = TokenBudget(600, clock=lambda: now[0])
    assert budget.wait_seconds() == 0
    budget.spend(900)
    assert budget.wait_seconds() == pytest.approx(30.1)
    now[0] += 31
    assert budget.wait_seconds() == 0
    free = TokenBudget(0)
    free.spend(10**9)
    assert free.wait_seconds() == 0


async def test_equal_texts_of_a_project_are_embedded_once(
    server: AppServer, project: ProjectMaker, endpoint: EmbeddingEndpoint, embed_all: EmbedAll, owner: Any
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
        await store(server.services, name, [spoken("the same money", ts=NOW + timedelta(seconds=n)) for n in range(20)])
    await embed_all()
    await store(server.services, "alpha", [spoken("the same money", ts=NOW + timedelta(minutes=1))])
    await embed_all()
    assert endpoint.texts.count("the same money") <= 2
    assert await owner.fetchval("SELECT count(*) FROM span_vectors WHERE vector IS NOT NULL") == 41
    assert set(endpoint.keys) == {"Bearer sk-test"}


async def test_vectors_of_an_earlier_version_get_sizes_without_the_embedder(
    server: AppServer,
    project: ProjectMaker,
    endpoint: EmbeddingEndpoint,
    embed_all: EmbedAll,
    make_indexer: IndexerMaker,
    owner: Any,
) -> None:
    await project("alpha")
    await store(server.services, "alpha", [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(5)])
    await store(server.services, "alpha", make_span(ts=NOW))
    await embed_all()
    told = "SELECT array_agg((bits, sizes, vector)::text ORDER BY ts) FROM span_vectors"
    made, asked = await owner.fetchval(told), len(endpoint.texts)
    await owner.execute("UPDATE span_vectors SET sizes = NULL WHERE ts < $1", NOW + timedelta(seconds=3))
    assert await owner.fetchval(told) != made
    await owner.execute("UPDATE embedding_lease SET expires_at = now() - interval '1 hour'")
    indexer = make_indexer(server.services)
    while await indexer.step():
        pass
    await indexer._embedder.close()
    assert await owner.fetchval(told) == made
    assert not [text for text in endpoint.texts[asked:] if "money" in text]


async def test_vectors_go_with_their_trace_and_with_their_week(
    server: AppServer, project: ProjectMaker, embed_all: EmbedAll, owner: Any, http: httpx.AsyncClient
) -> None:
    await project("alpha")
    kept, gone = spoken("money one", ts=NOW), spoken("money two", ts=NOW)
    old = spoken("money old", ts=datetime.now(UTC) - timedelta(weeks=3))
    await store(server.services, "alpha", [kept, gone, old])
    await embed_all()
    answer = await http.delete(f"/api/v1/traces/{gone.trace_id}", params={"project_id": "alpha"})
    assert answer.status_code in {200, 204}, answer.text
    left = "SELECT trace_id FROM span_vectors ORDER BY ts DESC"
    assert [row[0] for row in await owner.fetch(left)] == [kept.trace_id, old.trace_id]
    await apply_retention(
        server.services.worker, replace(server.services.settings, retention_days=8), datetime.now(UTC)
    )
    assert [row[0] for row in await owner.fetch(left)] == [kept.trace_id]


async def test_a_deletion_cannot_miss_a_vector_that_is_being_written(
    server: AppServer, project: ProjectMaker, make_indexer: IndexerMaker, owner: Any, http: httpx.AsyncClient
) -> None:
    """The trace goes while its text is with the embedder."""
    await project("alpha")
    span = spoken("money", ts=NOW)
    await store(server.services, "alpha", [span])
    indexer = make_indexer(server.services)
    embedder = indexer._writer._embedder
    original = embedder.embed

    async def embed_and_delete(*args: Any, **more: Any) -> Any:
        found = await original(*args, **more)
        await http.delete(f"/api/v1/traces/{span.trace_id}", params={"project_id": "alpha"})
        return found

    model = await indexer._register()
    embedder.embed = embed_and_delete  # type: ignore[method-assign]
    await indexer._writer.write(model, [(SpanKey(span.ts, "alpha", span.trace_id, span.span_id), False)])
    await embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors") == 0


async def test_a_changed_span_gets_the_vector_of_its_new_text(
    server: AppServer, project: ProjectMaker, embed_all: EmbedAll, owner: Any, http: httpx.AsyncClient
) -> None:
    await project("alpha")
    first = spoken("rain", ts=NOW, duration_ms=10.0)
    await store(server.services, "alpha", first)
    await embed_all()
    text = "money"
    later = replace(first, input_text=text, input_messages=[message("user", text)], duration_ms=900.0)
    await store(server.services, "alpha", later)
    await embed_all()
    answer = (await http.get("/api/v1/traces", params={"meaning": "money", "from": "now-2h"})).json()
    assert answer["data"][0]["similarity"] > 0.9
    assert await owner.fetchval("SELECT count(*) FROM span_vectors") == 1


async def test_another_model_makes_all_vectors_again_and_both_answer_meanwhile(
    server: AppServer,
    project: ProjectMaker,
    embed_all: EmbedAll,
    make_indexer: IndexerMaker,
    start_app: Any,
    endpoint: EmbeddingEndpoint,
    bearer: Bearer,
    owner: Any,
) -> None:
    await project("alpha")
    await store(server.services, "alpha", [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(12)])
    await embed_all()
    renewed = await start_app(embeddings_model="words-2")
    indexer = make_indexer(server.services, embeddings_model="words-2")
    await owner.execute("UPDATE embedding_lease SET expires_at = now() - interval '1 hour'")
    assert await indexer.step()  # a batch of eight, the newest

    async def ask() -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=renewed.base_url, headers=bearer(), timeout=30) as client:
            answer = await client.get("/api/v1/traces", params={"meaning": "money", "from": "now-2h", "limit": 100})
            assert answer.status_code == 200, answer.text
            return answer.json()  # type: ignore[no-any-return]

    both = await ask()
    assert len(both["data"]) == 12
    assert sorted(both["meta"]["meaning"]["models"]) == ["words-1", "words-2"]
    endpoint.known_models = {"words-2"}
    renewed.services.meaning._questions._kept.clear()
    alone = await ask()
    assert len(alone["data"]) == 8
    assert any("words-1" in note for note in alone["meta"]["meaning"]["notes"])
    while await indexer.step():
        pass
    await indexer._embedder.close()
    assert (await ask())["meta"]["meaning"]["rows_with_vectors"] == 12


async def test_one_process_works_at_a_time(
    server: AppServer, project: ProjectMaker, make_indexer: IndexerMaker, owner: Any
) -> None:
    await project("alpha")
    first, second = make_indexer(server.services), make_indexer(server.services)
    assert await first._has_lease()
    assert not await second._has_lease()
    assert await second.step() is False
    await owner.execute("UPDATE embedding_lease SET expires_at = now() - interval '1 hour'")
    assert await second._has_lease()


async def test_a_walk_passes_every_span_once_even_of_one_moment(
    server: AppServer, project: ProjectMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.semantic.stored_walk.STEP", 4)
    await project("alpha")
    spans = [make_span(ts=NOW) for _ in range(11)]
    await store(server.services, "alpha", spans)
    walk = StoredWalk(server.services.worker)
    await walk.begin()
    seen: list[str] = []
    while not walk.is_over:
        seen += [key.span_id for key in await walk.step(1)]
    assert sorted(seen) == sorted(span.span_id for span in spans)


async def test_an_embedder_that_fails_changes_nothing_but_this_search(
    server: AppServer,
    project: ProjectMaker,
    endpoint: EmbeddingEndpoint,
    http: httpx.AsyncClient,
    start_app: Any,
    bearer: Bearer,
) -> None:
    await project("alpha")
    span = spoken("money", ts=NOW)
    await store(server.services, "alpha", [span])
    nonsense: list[tuple[int, bytes]] = [
        (500, b"oops"),
        (401, b"{}"),
        (429, b"{}"),
        (200, b"not json"),
        (200, b"[" * 100_000),
        (200, b'{"data":[]}'),
        (200, b'{"data":[{"index":0,"embedding":[1,"x"]}]}'),
        (200, b'{"data":[{"index":7,"embedding":[1,2]}]}'),
        (200, b'{"data":[{"index":0,"embedding":"####"}]}'),
        (200, b'{"data":[{"index":0,"embedding":[0,0]}]}'),
        (200, b'{"data":[{"index":0,"embedding":[NaN,1]}]}'),
        (200, json.dumps({"data": [{"index": 0, "embedding": [0.5] * 5000}]}).encode()),
    ]
    for status, body in nonsense:
        endpoint.failures.append((status, {}, body))
        answer = await http.get("/api/v1/traces", params={"meaning": "money"})
        assert answer.status_code == 503, (status, body[:40], answer.text)
        assert answer.json()["code"] == "meaning_unavailable"
        assert "127.0.0.1" in answer.json()["detail"]
        assert answer.headers["Retry-After"]
    for params in ({"search": "money"}, {"model": "gpt-4o"}):
        assert [row["span_id"] for row in (await http.get("/api/v1/traces", params=params)).json()["data"]] == [
            span.span_id
        ]
    for changes in ({"semantic": "off"}, {"semantic": "offline"}, {"embeddings_url": "http://127.0.0.1:9/v1"}):
        app = await start_app(**changes)
        answer = await http.get(f"{app.base_url}/api/v1/traces", params={"meaning": "money"})
        assert answer.status_code == 503, answer.text
        assert (await http.get(f"{app.base_url}/api/v1/traces", params={"search": "money"})).status_code == 200


async def test_background_work_waits_for_a_lost_embedder_and_leaves_out_what_it_refuses(
    server: AppServer,
    project: ProjectMaker,
    endpoint: EmbeddingEndpoint,
    make_indexer: IndexerMaker,
    owner: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("server.embedding.embedder.sleep", sleep)
    await project("alpha")
    await store(server.services, "alpha", [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(5)])
    await store(server.services, "alpha", [spoken("poison money", ts=NOW)])
    endpoint.refused = "poison"
    indexer = make_indexer(server.services)
    await indexer._register()
    endpoint.failures += [(429, {"Retry-After": "7"}, b"{}"), (503, {}, b"{}"), (500, {}, b"{}"), (502, {}, b"{}")]
    assert await indexer.step() is False
    assert 7.0 in pauses
    assert len(indexer.backlog) == 6, "what was not done waits"
    while await indexer.step():
        pass
    await indexer._embedder.close()
    assert await owner.fetchval("SELECT count(*) FROM span_vectors WHERE vector IS NOT NULL") == 5
    assert await owner.fetchval("SELECT count(*) FROM span_vectors WHERE vector IS NULL") == 1


async def test_an_endpoint_is_asked_for_the_length_that_was_set(endpoint: EmbeddingEndpoint) -> None:
    embedder = Embedder(Endpoint(url=endpoint.url), timeout=30)
    endpoint.as_lists = True
    answer = await embedder.embed(["money", "geld"], "words-1#16")
    assert answer.vectors.shape == (2, 16)
    assert answer.tokens == 2
    assert (endpoint.requests[0]["model"], endpoint.requests[0]["dimensions"]) == ("words-1", 16)
    endpoint.failures.append((302, {"Location": "http://127.0.0.1:9/"}, b""))
    with pytest.raises(EmbedderFailed, match="302"):
        await embedder.embed(["money"], "words-1")
    await embedder.close()


def test_the_offline_model_is_the_one_that_we_know(tmp_path: Any) -> None:
    with pytest.raises(OfflineModelMissing, match="is not the one"):
        check_files(tmp_path)
    vectors = OfflineModel().vectors(
        ["I want my money back", "Ich will mein Geld zurück", "Wie wird das Wetter?", "", "\0😀" * 4000]
    )
    assert vectors.shape == (5, 512)
    assert vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2] + 0.2
