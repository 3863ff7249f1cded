"""Lists under attack: other projects, other people's cursors, hostile text and bodies."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.queries.filters.filter_params import FILTER_PARAMETERS
from server.queries.filters.operators import OPERATORS
from server.rest.list_request import LIST_PARAMETERS
from tests.conftest import AppServer
from tests.queries.test_trace_filter import HOSTILE
from tests.span_factory import make_span, store

LIST = "/api/v1/traces"
SEARCH = "/api/v1/traces/search"


@pytest.fixture
async def api(app_server: AppServer, client: httpx.AsyncClient, project: Any, bearer: Any) -> httpx.AsyncClient:
    """A client that may see alpha, on a server where beta has spans too."""
    for name in ("alpha", "beta"):
        await project(name)
        spans = [
            make_span(
                trace_id=f"{name}-{number}",
                span_id=f"{name}-{number}",
                ts=datetime.now(UTC) - timedelta(minutes=number + 1),
                model=f"{name}-model",
                input_text=f"text of {name} 100% _ \\ end",
                tags=[name],
                attributes={"owner": name},
            )
            for number in range(5)
        ]
        await store(app_server.services, name, spans)
    client.headers.update(bearer("developer", ["alpha"]))
    return client


def assert_only_alpha(answer: httpx.Response) -> list[Any]:
    """Check that all rows of a good answer are alpha's; return them."""
    assert answer.status_code == 200, answer.text
    assert "beta" not in answer.text
    rows: list[Any] = answer.json()["data"]
    return rows


async def test_only_own_projects_are_ever_seen(api: httpx.AsyncClient) -> None:
    """No project named, own, foreign, unknown, mixed, misspelt; foreign and unknown look the same."""
    assert len(assert_only_alpha(await api.get(LIST))) == 5
    assert len(assert_only_alpha(await api.get(f"{LIST}?project_id=alpha"))) == 5
    refused = []
    for query in ("project_id=beta", "project_id=unknown", "project_id=alpha&project_id=beta", "project_id=alpha,beta"):
        answer = await api.get(f"{LIST}?{query}")
        assert answer.status_code == 403
        refused.append({key: value for key, value in answer.json().items() if key != "request_id"})
    assert all(body == refused[0] for body in refused)
    for query, status in (("project_id[]=beta", 400), ("project_id=Alpha", 403), ("project_id=alpha%00", 400)):
        assert (await api.get(f"{LIST}?{query}")).status_code == status
    assert (await api.post(SEARCH, json={"project_id": ["beta"]})).status_code == 403


async def test_no_filter_reaches_another_project(api: httpx.AsyncClient) -> None:
    """Whatever the tree says, the project predicate is outside of it."""
    everything = {"or": [{"field": "model", "operator": "exists", "value": True}, {"not": {"not": always()}}]}
    for tree in (
        everything,
        {"not": {"field": "model", "operator": "eq", "value": "alpha-model"}},
        {"trace": {"has": {"field": "model", "operator": "eq", "value": "beta-model"}}},
        {"session": {"has": always()}},
        {"field": "attribute.owner", "operator": "eq", "value": "beta"},
        {"field": "text", "operator": "search", "value": "beta OR alpha"},
    ):
        assert_only_alpha(await api.post(SEARCH, json={"filter": tree}))
    for hidden in ({"field": "project_id", "operator": "eq", "value": "beta"}, {"project_id": "beta"}):
        answer = await api.post(SEARCH, json={"filter": {"or": [always(), {"not": hidden}]}})
        assert answer.status_code == 400


def always() -> dict[str, Any]:
    """Return a filter that every span passes."""
    return {"field": "span_id", "operator": "exists", "value": True}


async def test_cursors_fit_one_caller_one_question_and_one_set_of_rights(api: httpx.AsyncClient, bearer: Any) -> None:
    """Replay by another, under another filter or order, with a lower role, with other projects."""
    first = await api.get(f"{LIST}?limit=2&model=alpha-model")
    cursor = first.json()["pagination"]["cursor"]
    own = f"{LIST}?limit=2&model=alpha-model&cursor={cursor}"
    rows = assert_only_alpha(await api.get(own))
    assert [row["span_id"] for row in rows] == ["alpha-2", "alpha-3"]
    assert len(assert_only_alpha(await api.get(own.replace("limit=2", "limit=3&fields=core")))) == 3
    others = [
        own.replace("model=alpha-model", "model=y"),
        own.replace("&model=alpha-model", ""),
        f"{own}&sort_order=asc",
        f"{own}&sort_by=cost",
        f"{own}&view=traces",
        f"{own}&from=now-1h",
        f"{own}&project_id=alpha",
        f"{own}x",
    ]
    for url in others:
        answer = await api.get(url)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), url
    for who in (
        bearer("developer", ["alpha"], subject="somebody-else"),
        bearer("viewer", ["alpha"]),
        bearer("developer", ["alpha", "beta"]),
    ):
        answer = await api.get(own, headers=who)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    seeds = "eyJ0aW1lc3RhbXAiOiAiMjAyNi0wMS0wMVQwMDowMDowMFoifQ=="
    assert (await api.get(f"{LIST}?cursor={seeds}")).status_code == 400


async def test_hostile_text_is_data_everywhere(api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """Each string as value of every kind of input answers like an inert one, quickly, with no error logged."""
    caplog.set_level(logging.ERROR)
    started = time.monotonic()
    for text in HOSTILE:
        encoded = quote(text, safe="")
        # A key in front of an equals sign must not end with "!": that negates.
        for query in (f"model={encoded}", f"search={encoded}", f"contains={encoded}z", f"attribute.{encoded}k=1"):
            answer = await api.get(f"{LIST}?{query}")
            if answer.status_code == 400:
                assert answer.json()["errors"][0]["detail"] in {"has no value", "has an empty item"}
            else:
                assert answer.json()["data"] == [] or query.startswith("search="), query
        body = {"filter": {"field": "tags", "operator": "all", "value": [text]}, "limit": 1}
        assert assert_only_alpha(await api.post(SEARCH, json=body)) == []
    assert time.monotonic() - started < len(HOSTILE)
    assert not caplog.records


async def test_wildcards_match_themselves_only(api: httpx.AsyncClient) -> None:
    """``100%`` finds that and not everything with 100."""
    counts = {}
    for text in ("100%", "100%25", "%%", "1_0%", "_", "\\", "\\ end", "% _", "x%", "%" * 900):
        answer = await api.get(f"{LIST}?contains={quote(text, safe='')}&fields=span_id")
        counts[text[:8]] = len(assert_only_alpha(answer))
    assert counts == {
        "100%": 5, "100%25": 0, "%%": 0, "1_0%": 0, "_": 5, "\\": 5, "\\ end": 5, "% _": 5, "x%": 0, "%" * 8: 0,
    }  # fmt: skip


async def test_search_takes_any_junk_and_finds_nothing_without_words(api: httpx.AsyncClient) -> None:
    """Websearch syntax never fails; a search without a word finds nothing."""
    for text in ("---", "&|!", '"', "or or or", ":* <-> !", "\u3002\uff01", "<99999->"):
        answer = await api.get(f"{LIST}?search={quote(text, safe='')}")
        assert answer.json()["data"] == [] or "99999" in text


BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"null", 400),
    (b"[]", 400),
    (b'"x"', 400),
    (b"{", 400),
    (b"{} {}", 400),
    (b'{"limit": 5, "limit": 6}', 400),
    (b'{"limit": NaN}', 400),
    (b'{"limit": 0}', 400),
    (b'{"limit": true}', 400),
    (b'{"limit": 1.0}', 400),
    (b'{"filters": {}}', 400),
    (b'{"filter": {}}', 400),
    (b'{"fields": []}', 400),
    (b'{"fields": ["*"]}', 400),
    (b'{"sort": [{"field": "ts", "by": 1}]}', 400),
    (b'{"sort": [{"field": "nope"}]}', 400),
    (b'{"sort": {"field": "ts"}}', 400),
    (b'{"from": "2026-01-01"}', 400),
    (b'{"from": true}', 400),
    (b'{"cursor": 5}', 400),
    (b'{"cursor": "AAAA"}', 400),
    (b'{"include": ["secrets"]}', 400),
    (b'{"project_id": {}}', 400),
    (b'{"filter": ' + b'{"not":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 400),
    (b'{"filter": ' + b"[" * 100_000 + b"}", 400),
    (b"\xff{}", 400),
    (b'{"filter": {"field": "model", "operator": "eq", "value": "\\ud800"}}', 400),
    (b'{"filter": {"\\ud800": 1}}', 400),
    (b'{"filter": {"field": "model", "operator": "eq", "value": "a\\u0000"}}', 400),
    (b" " * ((1 << 20) + 1), 413),
    (b'{"limit": 1}', 200),
]


async def test_bodies_are_checked(api: httpx.AsyncClient) -> None:
    for body, status in BODIES:
        answer = await api.post(SEARCH, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, (body[:60], answer.text)
        json.loads(answer.content)


async def test_search_wants_json_and_no_query_string(api: httpx.AsyncClient) -> None:
    form = await api.post(SEARCH, content=b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert form.status_code == 415
    both = await api.post(f"{SEARCH}?limit=5", json={})
    assert (both.status_code, both.json()["code"]) == (400, "unknown_parameter")
    assert (await api.get(LIST)).headers["accept-query"] == "application/json"


async def test_a_walk_over_a_moving_table_sees_each_old_row_once(api: httpx.AsyncClient, app_server: AppServer) -> None:
    """Rows come before, after and between those already seen; what was there at the start comes exactly once."""
    start = datetime.now(UTC) - timedelta(minutes=30)
    before = [
        make_span(span_id=f"old-{number:02}", ts=start + timedelta(seconds=number % 7), duration_ms=float(number % 5))
        for number in range(40)
    ]
    await store(app_server.services, "alpha", before)
    for order in ("sort_by=ts", "sort_by=ts&sort_order=asc", "sort_by=duration", "sort_by=duration&sort_order=asc"):
        seen: list[str] = []
        url: str | None = f"{LIST}?from=now-31m&to=now-20m&limit=7&{order}&fields=span_id"
        page = 0
        while url is not None:
            answer = await api.get(url)
            seen += [row["span_id"] for row in assert_only_alpha(answer)]
            url = answer.links.get("next", {}).get("url")
            new = [
                make_span(
                    span_id=f"new-{order}-{page}-{number}",
                    ts=start + timedelta(seconds=number - 1),
                    duration_ms=float(number),
                )
                for number in range(3)
            ]
            await store(app_server.services, "alpha", new)
            page += 1
            await asyncio.sleep(0)
        old = [span for span in seen if span.startswith("old-")]
        assert sorted(old) == [span.span_id for span in before], order
        assert len(seen) == len(set(seen))
        assert page < 40


NAMES = st.sampled_from(
    [*FILTER_PARAMETERS, *LIST_PARAMETERS, "attribute.team", "score.q", "min_score.q", "resource.a.b", "nothing"]
)
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["1", "0.5", "true", "now-1h", "none", "ts", "cost", "all", "core,io", "error", "traces", *HOSTILE]
    ),
    st.integers().map(str),
    st.binary(max_size=6).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)),
)


@given(
    pairs=st.lists(st.tuples(NAMES, st.sampled_from(["=", "!="]), VALUES), max_size=5),
    body=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), NAMES),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["and", "or", "not", "trace", "has", "field", "operator", "value", "x"]),
                inner,
                max_size=3,
            ),
            st.fixed_dictionaries({"field": NAMES, "operator": st.sampled_from([*OPERATORS]), "value": inner}),
        ),
        max_leaves=8,
    ),
)
@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_question_makes_the_server_fail(api: httpx.AsyncClient, pairs: Any, body: Any) -> None:
    """Random parameters and random filter documents get an answer or a named mistake."""
    query = "&".join(
        f"{name}{sign}{value if value.startswith('%') else quote(value, safe='', errors='surrogatepass')}"
        for name, sign, value in pairs
    )
    plain = await api.get(f"{LIST}?{query}")
    searched = await api.post(
        SEARCH,
        content=json.dumps({"filter": body, "limit": 3}),
        headers={"Content-Type": "application/json"},
    )
    for answer in (plain, searched):
        assert answer.status_code in {200, 400, 403}, answer.text
        if answer.status_code == 400:
            assert answer.json()["code"] != "internal_error"
        assert "beta-" not in answer.text
