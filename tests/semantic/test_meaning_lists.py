"""Lists by meaning: the right rows, of the right projects, in stable pages, with what a reader must know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from server.queries.lists.nearest_reader import COMPARED_FIRST
from server.semantic import meaning_search
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.embedding_endpoint import EmbeddingEndpoint
from tests.span_factory import store


async def rows_of(http: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await http.get("/api/v1/traces", params={"from": "now-2h", **params})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["span_id"] for row in answer["data"]]


async def test_a_question_finds_the_conversation_in_another_language(
    http: httpx.AsyncClient, corpus: dict[str, Any]
) -> None:
    answer = await rows_of(http, meaning="furious about money", project_id="alpha", limit=2)
    assert ids(answer) == [corpus["angry"].span_id, corpus["polite"].span_id]
    first = answer["data"][0]
    assert first["found_by"] == ["meaning"]
    assert first["meaning_place"] == 1
    assert first["search_place"] is None
    assert 0.5 < first["similarity"] <= 1
    assert first["similarity"] > answer["data"][1]["similarity"]
    assert answer["meta"]["cached"] is False
    coverage = answer["meta"]["meaning"]
    assert coverage["models"] == ["words-1"]
    assert (coverage["rows_in_range"], coverage["rows_with_vectors"], coverage["rows_looked_at"]) == (7, 5, 5)
    assert any("without a vector" in note for note in coverage["notes"])


async def test_the_search_document_asks_the_same(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    params = await rows_of(http, meaning="furious about money", project_id="alpha", model="gpt-4o,o1")
    document = {
        "filter": {
            "and": [
                {"field": "text", "operator": "meaning", "value": "furious about money"},
                {"field": "model", "operator": "in", "value": ["gpt-4o", "o1"]},
            ]
        },
        "project_id": "alpha",
        "from": "now-2h",
    }
    answer = await http.post("/api/v1/traces/search", json=document)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == params["data"]


async def test_filters_hold_for_every_row(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    answer = await rows_of(http, meaning="furious about money", project_id="alpha", model="o1")
    assert ids(answer) == [corpus["polite"].span_id]
    answer = await rows_of(http, **{"meaning": "money", "project_id": "alpha", "user_id!": "u1", "limit": 1})
    assert ids(answer) == [corpus["polite"].span_id]


async def test_words_and_meaning_together(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    answer = await rows_of(http, meaning="furious about money", search="login OR geld", project_id="alpha")
    rows = {row["span_id"]: row for row in answer["data"]}
    assert answer["data"][0]["span_id"] == corpus["angry"].span_id
    assert rows[corpus["angry"].span_id]["found_by"] == ["meaning", "search"]
    assert rows[corpus["login"].span_id]["search_place"] in {1, 2}
    assert rows[corpus["polite"].span_id]["found_by"] == ["meaning"]
    ranks = [row["rank"] for row in answer["data"]]
    assert ranks == sorted(ranks, reverse=True)


async def test_words_alone_find_a_row_without_a_vector(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    answer = await rows_of(http, meaning="weather", search='"money refund angry"', project_id="alpha")
    found = {row["span_id"]: row["found_by"] for row in answer["data"]}
    assert found[corpus["tool"].span_id] == ["search"]


async def test_more_like_this_needs_no_embedder(
    http: httpx.AsyncClient, corpus: dict[str, Any], endpoint: EmbeddingEndpoint
) -> None:
    asked = len(endpoint.requests)
    span = corpus["angry"]
    for reference in (span.trace_id, f"{span.trace_id}/{span.span_id}"):
        answer = await rows_of(http, like=reference, project_id="alpha")
        assert ids(answer)[0] == corpus["polite"].span_id
        assert span.span_id not in ids(answer)
    assert len(endpoint.requests) == asked
    for wrong, status in (("f" * 32, 404), (corpus["tool"].trace_id, 400), ("a/b/c", 400)):
        answer_of_wrong = await http.get("/api/v1/traces", params={"like": wrong, "project_id": "alpha"})
        assert answer_of_wrong.status_code == status, answer_of_wrong.text


async def test_whole_traces_are_found_by_their_nearest_span(
    server: AppServer, http: httpx.AsyncClient, corpus: dict[str, Any], embed_all: EmbedAll
) -> None:
    trace_id = "ab" * 16
    parts = [spoken("money", trace_id=trace_id, span_id=f"{n:016x}", ts=NOW + timedelta(minutes=n)) for n in range(3)]
    await store(server.services, "alpha", parts)
    await embed_all()
    answer = await rows_of(http, meaning="money", project_id="alpha", view="traces")
    traces = [row["trace_id"] for row in answer["data"]]
    assert traces[0] == trace_id
    assert len(set(traces)) == len(traces)
    assert answer["data"][0]["span_count"] == 3
    filtered = await rows_of(http, meaning="money", project_id="alpha", view="traces", model="o1", search="refund")
    assert [row["trace_id"] for row in filtered["data"]] == [corpus["polite"].trace_id]
    document = {
        "view": "traces",
        "from": "now-2h",
        "project_id": "alpha",
        "filter": {"field": "text", "operator": "meaning", "value": "money"},
    }
    same = await http.post("/api/v1/traces/search", json=document)
    assert same.json()["data"] == answer["data"]


@pytest.mark.parametrize("compared_first", [COMPARED_FIRST, 2])
async def test_pages_neither_repeat_nor_leave_out_while_spans_arrive(
    server: AppServer,
    http: httpx.AsyncClient,
    project: ProjectMaker,
    embed_all: EmbedAll,
    monkeypatch: pytest.MonkeyPatch,
    compared_first: int,
) -> None:
    """Also where a page needs more rows than were compared first, and where rows say the same."""
    monkeypatch.setattr(meaning_search, "COMPARED_FIRST", compared_first)
    monkeypatch.setattr(meaning_search, "COMPARED_FOR_EACH", 1)
    await project("alpha")
    spans = [spoken(f"money number{n}", ts=NOW + timedelta(seconds=n)) for n in range(25)]
    await store(server.services, "alpha", spans)
    await embed_all()
    for more in ({}, {"search": "money"}):
        whole = ids(await rows_of(http, meaning="money", limit=100, **more))
        assert len(whole) >= 25
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await rows_of(http, meaning="money", limit=7, **more, **cursor)
            seen += ids(page)
            if not page["pagination"]["has_more"]:
                break
            cursor = {"cursor": page["pagination"]["cursor"]}
            await store(server.services, "alpha", [spoken("money money money", ts=NOW + timedelta(minutes=1))])
            await embed_all()
        assert len(set(seen)) == len(seen)
        assert set(seen) == set(whole)
        if compared_first == COMPARED_FIRST:
            assert seen == whole


async def test_no_project_sees_or_disturbs_another(
    server: AppServer,
    http: httpx.AsyncClient,
    corpus: dict[str, Any],
    bearer: Callable[..., dict[str, str]],
    embed_all: EmbedAll,
) -> None:
    """The neighbour has a hundred nearer rows; the caller gets its own all the same."""
    await store(
        server.services, "beta", [spoken(f"furious about money {n}", ts=NOW + timedelta(seconds=n)) for n in range(100)]
    )
    await embed_all()
    answer = await http.get(
        "/api/v1/traces",
        params={"meaning": "furious about money", "from": "now-2h", "limit": 5},
        headers=bearer("developer", ["alpha"]),
    )
    rows = answer.json()["data"]
    assert len(rows) == 5
    assert {row["project_id"] for row in rows} == {"alpha"}
    assert rows[0]["span_id"] == corpus["angry"].span_id
    assert answer.json()["meta"]["meaning"]["rows_with_vectors"] == 5
    other = await http.get(
        "/api/v1/traces",
        params={"like": corpus["angry"].trace_id},
        headers=bearer("developer", ["beta"]),
    )
    assert other.status_code == 404


async def test_content_may_not_be_found_out_without_the_right_to_read_it(
    http: httpx.AsyncClient, corpus: dict[str, Any], bearer: Callable[..., dict[str, str]]
) -> None:
    for params in ({"meaning": "money"}, {"like": corpus["angry"].trace_id}):
        answer = await http.get("/api/v1/traces", params=params, headers=bearer("billing", ["alpha"]))
        assert answer.status_code == 403, answer.text
        answer = await http.get(
            "/api/v1/traces", params=params, headers=bearer("developer", ["alpha"], ["traces:read", "metrics:read"])
        )
        assert answer.status_code == 403, answer.text


async def test_what_cannot_be_asked_is_named(http: httpx.AsyncClient) -> None:
    for params, named in (
        ({"meaning": "a", "like": "b"}, "like"),
        ({"meaning": "a", "sort_by": "ts"}, "sort_by"),
        ({"meaning": "a", "sort_order": "asc"}, "sort_by"),
        ({"meaning": "a", "total": "exact"}, "total"),
        ({"meaning": "x" * 1025}, "meaning"),
        ({"meaning!": "a"}, "meaning"),
        ({"like": "a/b/c"}, "like"),
    ):
        answer = await http.get("/api/v1/traces", params=params)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["parameter"] == named


async def test_a_ranking_stands_at_the_top_of_a_list_and_nowhere_else(http: httpx.AsyncClient) -> None:
    meaning = {"field": "text", "operator": "meaning", "value": "a"}
    for tree in (
        {"not": meaning},
        {"or": [meaning, {"field": "model", "operator": "eq", "value": "m"}]},
        {"trace": {"has": meaning}},
        {"and": [meaning, meaning]},
        {"field": "text", "operator": "meaning", "value": " "},
    ):
        answer = await http.post("/api/v1/traces/search", json={"filter": tree})
        assert answer.status_code == 400, answer.text
    answer = await http.post(
        "/api/v1/traces/search",
        json={"view": "traces", "filter": {"and": [meaning, {"field": "text", "operator": "contains", "value": "b"}]}},
    )
    assert answer.status_code == 400, answer.text
    for path, body in (
        ("/api/v1/metrics/query", {"metric": "calls", "from": "now-1h", "filter": meaning}),
        ("/api/v1/exports", {"filter": meaning}),
    ):
        answer = await http.post(path, json=body)
        assert answer.status_code == 400, (path, answer.text)


async def test_what_others_have_asked_is_no_quicker(
    server: AppServer, http: httpx.AsyncClient, corpus: dict[str, Any], endpoint: Any, bearer: Any
) -> None:
    """Each tenant's questions go to the embedder, and come from memory the second time."""
    asked: list[int] = []
    for project_id in ("alpha", "alpha", "beta", "beta"):
        before = len(endpoint.requests)
        async with httpx.AsyncClient(base_url=server.base_url, headers=bearer("viewer", [project_id])) as other:
            answer = await other.get("/api/v1/traces", params={"meaning": "a question of one tenant", "from": "now-1d"})
        assert answer.status_code == 200, answer.text
        asked.append(len(endpoint.requests) - before)
    assert asked == [1, 0, 1, 0]


async def test_rows_that_say_the_same_are_one_row_that_counts_them(
    server: AppServer, http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll
) -> None:
    await project("alpha")
    same = [spoken("Geld Geld", ts=NOW + timedelta(seconds=n)) for n in range(6)]
    other = spoken("a refund please")
    await store(server.services, "alpha", [*same, other])
    await embed_all()
    answer = await rows_of(http, meaning="money", project_id="alpha")
    assert ids(answer) == [same[-1].span_id, other.span_id], "the newest stands for all"
    assert [row["same_text"] for row in answer["data"]] == [5, 0]
    assert [row["meaning_place"] for row in answer["data"]] == [1, 2]
    assert any("same_text" in note for note in answer["meta"]["meaning"]["notes"])
    both = await rows_of(http, meaning="money", search="geld", project_id="alpha")
    assert ids(both) == [same[-1].span_id, other.span_id]
    assert both["data"][0]["found_by"] == ["meaning", "search"]
    alike = await rows_of(http, like=f"{same[0].trace_id}/{same[0].span_id}", project_id="alpha")
    assert set(ids(alike)[:5]) == {span.span_id for span in same[1:]}, "like shows each of them"
    traces = await rows_of(http, meaning="money", project_id="alpha", view="traces")
    assert len(traces["data"]) == 7, "traces may differ in what else was said"
    assert traces["data"][0]["same_text"] == 5


async def test_previews_of_long_texts_are_cut_as_in_other_lists(
    server: AppServer, http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll
) -> None:
    await project("alpha")
    long = spoken("money " * 400, "a refund")
    await store(server.services, "alpha", [long, spoken("Geld", ts=NOW + timedelta(seconds=1))])
    await embed_all()
    for params in ({"like": long.trace_id}, {"meaning": "money"}, {"meaning": "money", "search": "refund"}):
        answer = await rows_of(http, project_id="alpha", **params)
        plain = await rows_of(http, project_id="alpha")
        texts = {row["span_id"]: (row["input_text"], row["output_text"]) for row in plain["data"]}
        assert [(row["input_text"], row["output_text"]) for row in answer["data"]] == list(
            map(texts.__getitem__, ids(answer))
        )
        assert answer["meta"].get("clipped_fields") == (None if "like" in params else ["input_text"])
    named = await rows_of(http, meaning="money", project_id="alpha", fields="input_text,span_id")
    assert {len(row["input_text"]) for row in named["data"]} == {4, 2400}
