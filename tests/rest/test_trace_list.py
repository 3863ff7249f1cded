"""GET /api/v1/traces, POST /api/v1/traces/search and QUERY: rows, envelope, paging, GET ≡ POST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from server.queries.lists.list_question import VIEWS
from tests.conftest import AppServer
from tests.span_factory import make_span, store

NOW = datetime.now(UTC).replace(microsecond=123456)


def spans() -> list[Any]:
    """Nine spans of four traces, three of them in one session, with every third an error."""
    made = []
    for number in range(9):
        is_root = number % 2 == 0
        made.append(
            make_span(
                ts=NOW - timedelta(minutes=30 - number),
                trace_id=f"{number // 2:032x}",
                span_id=f"{number:016x}",
                parent_span_id=None if is_root else f"{number - 1:016x}",
                span_name="chat" if is_root else "tool",
                model=None if number == 8 else f"model-{number % 3}",
                status_code="ERROR" if number % 3 == 0 else "OK",
                error_type="Timeout" if number % 3 == 0 else None,
                error_message="secret prompt in an error" if number % 3 == 0 else None,
                session_id="s1" if number < 6 else None,
                user_id=f"u{number % 2}",
                total_tokens=None if number == 4 else number * 10,
                total_cost_usd=None if number == 5 else Decimal(number) / 8,
                cost_source="computed",
                duration_ms=100.0 * number,
                input_text=f"what is number {number}?",
                output_text=f"the answer 100% of {number}",
                tags=["even"] if is_root else ["odd", "prime"],
                attributes={"team": f"t{number % 2}", "n": number},
                links=[{"trace_id": "f" * 32, "span_id": "f" * 16, "attributes": {"note": "secret of a link"}}],
            )
        )
    return made


@pytest.fixture
async def api(app_server: AppServer, client: httpx.AsyncClient, project: Any, bearer: Any) -> httpx.AsyncClient:
    """A client of a server with the spans above in project alpha, and one span in beta."""
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", spans())
    await store(app_server.services, "beta", make_span(span_id="beta", model="model-0"))
    client.headers.update(bearer("developer", ["alpha"]))
    return client


async def ids(api: httpx.AsyncClient, query: str) -> list[int]:
    answer = await api.get(f"/api/v1/traces?{query}")
    assert answer.status_code == 200, answer.text
    return [int(row["span_id"], 16) for row in answer.json()["data"]]


async def test_rows_have_every_field_and_the_envelope_is_complete(api: httpx.AsyncClient) -> None:
    """Every field is there in each row, null when missing; large ones only when asked for."""
    answer = await api.get("/api/v1/traces?limit=2")
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert body["status"] == "success"
    assert list(body["pagination"]) == ["cursor", "has_more", "limit"]
    assert body["next_cursor"] == body["pagination"]["cursor"]
    assert body["pagination"]["has_more"] is True
    assert {"timestamp", "execution_time_ms", "cached", "version", "request_id"} <= body["meta"].keys()
    expected = {*VIEWS["spans"].default_fields, *VIEWS["spans"].previewed_fields, "ts_ms"}
    assert all(row.keys() == expected for row in body["data"])
    first = body["data"][0]
    assert first["ts"] == (NOW - timedelta(minutes=22)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert first["ts_ms"] == int((NOW - timedelta(minutes=22)).timestamp() * 1000)
    assert first["model"] is None
    assert first["total_cost_usd"] == 1


async def test_rows_preview_prompts_and_answers_and_say_where_they_cut(
    api: httpx.AsyncClient, app_server: AppServer, bearer: Any
) -> None:
    """In every order, over several projects, and whole when asked for."""
    api.headers.update(bearer("developer", ["alpha", "beta"]))
    texts = {"input_text": "kiwi " + "é" * 995, "output_text": "ü" * 999 + "😀!"}
    await store(app_server.services, "alpha", make_span(ts=datetime.now(UTC), span_id="f" * 16, model="a", **texts))
    for query in ("limit=1", "limit=1&sort_by=model&sort_order=asc", "limit=1&search=kiwi"):
        answer = (await api.get(f"/api/v1/traces?{query}")).json()
        assert [answer["data"][0][name] for name in texts] == [texts["input_text"], "ü" * 999 + "😀"], query
        assert answer["meta"]["clipped_fields"] == ["output_text"]
    whole = (await api.get("/api/v1/traces?limit=1&fields=io")).json()
    assert whole["data"][0]["output_text"] == texts["output_text"]
    assert "clipped_fields" not in whole["meta"]
    posted = (await api.post("/api/v1/traces/search", json={"limit": 1})).json()
    assert posted["meta"]["clipped_fields"] == ["output_text"]
    short = (await api.get("/api/v1/traces?model=model-1")).json()
    assert short["data"][0]["output_text"] == "the answer 100% of 7"
    assert "clipped_fields" not in short["meta"]


async def test_previews_are_hidden_without_the_right_to_contents(api: httpx.AsyncClient, bearer: Any) -> None:
    answer = (await api.get("/api/v1/traces?limit=1", headers=bearer("billing", ["alpha"]))).json()
    assert {answer["data"][0][name] for name in ("input_text", "output_text")} == {None}
    assert {"input_text", "output_text"} <= set(answer["meta"]["hidden_fields"])


PARAMETERS: list[tuple[str, list[int]]] = [
    ("", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ("sort_order=asc&limit=3", [0, 1, 2]),
    ("model=model-1", [7, 4, 1]),
    ("model=model-1,model-2", [7, 5, 4, 2, 1]),
    ("model=model-1&model=model-2", [7, 5, 4, 2, 1]),
    ("model!=model-1", [8, 6, 5, 3, 2, 0]),
    ("not.model=model-1,model-2", [8, 6, 3, 0]),
    ("status=error", [6, 3, 0]),
    ("status=ERROR,success&user_id=u0", [8, 6, 4, 2, 0]),
    ("has_error=false&user_id=u1", [7, 5, 1]),
    ("error_type=Timeout&session_id=s1", [3, 0]),
    ("parent=none", [8, 6, 4, 2, 0]),
    ("parent=0000000000000006", [7]),
    ("is_root=false", [7, 5, 3, 1]),
    ("min_duration=300&max_duration=500", [5, 4, 3]),
    ("min_cost=0.5&max_cost=0.75", [6, 4]),
    ("min_tokens=70", [8, 7]),
    ("tags=prime,even&limit=2", [8, 7]),
    ("tags_all=prime,odd", [7, 5, 3, 1]),
    ("tags!=even", [7, 5, 3, 1]),
    ("attribute.team=t1&max_duration=300", [3, 1]),
    ("attribute.n=4", [4]),
    ("search=number+4", [4]),
    ("search=number+-4&max_duration=400&min_duration=300", [3]),
    ("contains=100%25+of+7", [7]),
    ("contains=_", []),
    ("search=%22answer+100%22+OR+zebra&limit=1", [8]),
    ("sort_by=cost", [8, 7, 6, 4, 3, 2, 1, 0, 5]),
    ("sort_by=cost&sort_order=asc", [0, 1, 2, 3, 4, 6, 7, 8, 5]),
    ("sort_by=total_tokens&sort_order=asc&limit=2", [0, 1]),
    ("sort_by=model&sort_order=asc&limit=4", [0, 3, 6, 1]),
    ("sort_by=status_code&limit=7", [8, 7, 5, 4, 2, 1, 6]),
    ("sort_by=span_id&limit=2", [8, 7]),
    ("sort_by=trace_id&sort_order=asc&limit=3", [0, 1, 2]),
    ("sort_by=provider,environment&limit=2", [8, 7]),
    ("sort_by=latency_ms&limit=2", [8, 7]),
    ("include=children,evaluations,feedback&limit=1", [8]),
    ("operation_type=chat,completion&status=success,pending&max_tokens=20", [2, 1]),
    ("project_id=alpha&user_id=u1&session_id=s1", [5, 3, 1]),
    ("span_id=0000000000000003,0000000000000004", [4, 3]),
    ("trace_id=00000000000000000000000000000001", [3, 2]),
    ("span_name=tool&provider=openai&service=checkout&environment=production&limit=1", [7]),
    (f"from={int(NOW.timestamp()) - 1560}&to={int(NOW.timestamp() * 1000) - 1440000}", [5, 4]),
]


async def test_parameters_filter_and_sort(api: httpx.AsyncClient) -> None:
    """Each parameter of the list, alone and together."""
    found = {query: await ids(api, query) for query, _ in PARAMETERS}
    assert found == dict(PARAMETERS)


SPELLINGS: list[tuple[str, Any]] = [
    ("model=model-1&min_cost=0.1", {"and": [["model", "eq", "model-1"], ["cost", "gte", 0.1]]}),
    ("model!=model-1", {"not": ["model", "in", ["model-1"]]}),
    ("tags_all=odd,prime", ["tags", "all", ["prime", "odd"]]),
    ("search=answer+6", ["text", "search", "answer 6"]),
    ("status=success", ["status_code", "ne", "ERROR"]),
    ("parent=none", ["parent_span_id", "exists", False]),
    ("attribute.n=3", ["attribute.n", "between", [2.5, 3]]),
]


async def test_get_post_and_query_give_the_same_rows(api: httpx.AsyncClient) -> None:
    """GET ≡ POST ≡ QUERY, page after page, whatever the spelling."""
    for query, document in SPELLINGS:
        await compare_spellings(api, query, document)


async def compare_spellings(api: httpx.AsyncClient, query: str, document: Any) -> None:
    """Walk the list in the three ways and compare the pages."""

    def expand(part: Any) -> Any:
        if isinstance(part, list):
            return dict(zip(("field", "operator", "value"), part, strict=True))
        return {word: [*map(expand, inner)] if word in {"and", "or"} else expand(inner) for word, inner in part.items()}

    body: dict[str, Any] = {"filter": expand(document), "sort": [{"field": "cost"}], "limit": 2, "fields": ["all"]}
    pages: dict[str, list[Any]] = {}
    for method, path in (("POST", "/api/v1/traces/search"), ("QUERY", "/api/v1/traces")):
        cursor: str | None = None
        while True:
            answer = await api.request(method, path, json={**body, "cursor": cursor})
            assert answer.status_code == 200, answer.text
            pages.setdefault(method, []).append(answer.json()["data"])
            cursor = answer.json()["pagination"]["cursor"]
            if cursor is None:
                break
    url: str | None = f"/api/v1/traces?{query}&sort_by=cost&limit=2&fields=all"
    while url is not None:
        answer = await api.get(url)
        assert answer.status_code == 200, answer.text
        pages.setdefault("GET", []).append(answer.json()["data"])
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert pages["GET"] == pages["POST"] == pages["QUERY"]
    assert sum(map(len, pages["GET"])) > 0


async def test_rows_of_the_traces_view_are_sums(api: httpx.AsyncClient) -> None:
    """view=traces: one row a trace; span filters mean "has a span like that"."""
    answer = (await api.get("/api/v1/traces?view=traces&model=model-0&include=children")).json()
    assert [int(row["trace_id"], 16) for row in answer["data"]] == [3, 1, 0]
    row = answer["data"][0]
    assert (row["span_count"], row["error_count"], row["total_tokens"]) == (2, 1, 130)
    assert row["total_cost_usd"] == 1.625
    assert [child["span_name"] for child in row["children"]] == ["chat", "tool"]
    post = {
        "view": "traces",
        "filter": {"trace": {"has": {"field": "model", "operator": "eq", "value": "model-0"}}},
        "include": ["children"],
    }
    searched = (await api.post("/api/v1/traces/search", json=post)).json()
    assert searched["data"] == answer["data"]


async def test_structural_filters_look_at_the_whole_trace_and_session(api: httpx.AsyncClient) -> None:
    has_error: dict[str, Any] = {"has": {"field": "status", "operator": "eq", "value": "error"}}
    body: dict[str, Any] = {
        "filter": {"and": [{"trace": has_error}, {"field": "status", "operator": "ne", "value": "error"}]}
    }
    found = (await api.post("/api/v1/traces/search", json=body)).json()["data"]
    assert [int(row["span_id"], 16) for row in found] == [7, 2, 1]
    body = {"filter": {"session": {"has": {"field": "duration", "operator": "eq", "value": 500}}}}
    found = (await api.post("/api/v1/traces/search", json=body)).json()["data"]
    assert [int(row["span_id"], 16) for row in found] == [5, 4, 3, 2, 1, 0]


async def test_includes_add_scores_children_and_snippets(api: httpx.AsyncClient, owner: Any) -> None:
    await owner.execute(
        "INSERT INTO scores (project_id, score_id, trace_id, span_id, name, data_type, value, source, ts)"
        " VALUES ('alpha', 'q', $1, $2, 'quality', 'numeric', 0.75, 'human', now()),"
        " ('alpha', 'g', $1, NULL, 'good', 'boolean', 1, 'human', now())",
        f"{2:032x}",
        f"{4:016x}",
    )
    answer = await api.get("/api/v1/traces?include=scores,children,snippets&min_score.quality=0.5&search=number")
    (row,) = answer.json()["data"]
    assert {score["name"] for score in row["scores"]} == {"quality", "good"}
    assert [child["span_id"] for child in row["children"]] == [f"{5:016x}"]
    assert row["snippets"] == [{"field": "input_text", "snippet": "what is <mark>number</mark> 4?"}]
    assert await ids(api, "score.good=true") == [5, 4]
    assert await ids(api, "max_score.quality=0.7") == []
    assert await ids(api, "not.score.quality=0.75&session_id=s1") == [5, 3, 2, 1, 0]


async def test_totals_count_the_whole_list_and_an_estimate_says_that_it_is_one(api: httpx.AsyncClient) -> None:
    for mode in ("exact", "capped"):
        pagination = (await api.get(f"/api/v1/traces?session_id=s1&limit=2&total={mode}")).json()["pagination"]
        assert (pagination["total"], pagination["total_relation"]) == (6, "eq")
    pagination = (await api.get("/api/v1/traces?total=estimate&sort_by=rank&search=number")).json()["pagination"]
    assert pagination["total_relation"] == "approximate"
    assert pagination["total"] >= 0


async def test_fields_choose_what_rows_have(api: httpx.AsyncClient) -> None:
    row = (await api.get("/api/v1/traces?fields=usage,input_text&limit=1")).json()["data"][0]
    assert list(row) == [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "input_text",
    ]
    row = (await api.get("/api/v1/traces?fields=attributes&limit=1")).json()["data"][0]
    assert row == {"attributes": {"team": "t0", "n": 8}}


async def test_billing_sees_money_and_never_content(api: httpx.AsyncClient, bearer: Any, app_server: AppServer) -> None:
    """Content is null in rows and refused in filters, where counts would give it away."""
    api.headers.update(bearer("billing", ["alpha"]))
    answer = await api.get("/api/v1/traces?fields=all&include=scores,snippets,children")
    assert answer.status_code == 200
    assert "answer" not in answer.text
    assert "secret" not in answer.text
    assert "t0" not in answer.text
    assert answer.json()["data"][0]["total_cost_usd"] == 1
    assert set(answer.json()["meta"]["hidden_fields"]) >= {"input_text", "error_message", "attributes", "links"}
    for query in ("search=number", "contains=1", "attribute.team=t1", "not.attribute.team=t1"):
        refused = await api.get(f"/api/v1/traces?{query}")
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    nested = {"not": {"trace": {"has": {"field": "error_message", "operator": "contains", "value": "secret"}}}}
    refused = await api.post("/api/v1/traces/search", json={"filter": nested})
    assert refused.status_code == 403


async def test_rank_sorts_by_relevance(api: httpx.AsyncClient, app_server: AppServer) -> None:
    await store(app_server.services, "alpha", make_span(span_id="f" * 16, input_text="zebra " * 5))
    await store(app_server.services, "alpha", make_span(span_id="e" * 16, input_text="one zebra among many words"))
    first = await api.get("/api/v1/traces?search=zebra&sort_by=rank&limit=1&fields=span_id")
    (row,) = first.json()["data"]
    assert row["span_id"] == "f" * 16
    assert row["rank"] > 0
    second = await api.get(first.links["next"]["url"])
    assert [row["span_id"] for row in second.json()["data"]] == ["e" * 16]


async def test_administrators_can_ask_for_the_plan(api: httpx.AsyncClient, bearer: Any) -> None:
    refused = await api.get("/api/v1/traces?explain=true")
    assert refused.status_code == 403
    api.headers.update(bearer("admin"))
    (plan,) = (await api.get("/api/v1/traces?explain=true&from=now-1h&model=model-1")).json()["meta"]["explain"]
    assert plan["rows_scanned"] >= 3
    assert plan["indexes"]
    assert plan["plan"]["Node Type"]


async def test_second_answer_is_remembered_and_still_has_a_cursor_of_ones_own(
    api: httpx.AsyncClient, bearer: Any
) -> None:
    """Answers are shared between callers with the same rows; cursors are not."""
    path = "/api/v1/traces?limit=2&from=now-1h"
    first = await api.get(path)
    second = await api.get(path, headers=bearer("viewer", ["alpha"], subject="someone-else"))
    assert (first.json()["meta"]["cached"], second.json()["meta"]["cached"]) == (False, True)
    assert first.json()["data"] == second.json()["data"]
    assert (await api.get(first.links["next"]["url"])).status_code == 200
    assert (await api.get(second.links["next"]["url"])).status_code == 400
