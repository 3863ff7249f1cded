"""Grafana's Infinity data source against the REST API: requests as its Go back end sends them (B.1, B.3).

The queries are those of docs/how-to/infinity.md, so that what the page tells people to write is what works.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yaml

from server.queries.metrics.metric_catalog import METRICS
from tests.conftest import AppServer
from tests.datasource.infinity_backend import ClientCredentials, Infinity, InfinityError, Json
from tests.datasource.seed import ACME, TRACES, Seed
from tests.docs.markdown import ROOT, Page

Bearer = Callable[..., dict[str, str]]

PAGE = Page(ROOT / "docs" / "how-to" / "infinity.md")
COST_OVER_TIME, FAILED_CALLS, SLOW_CALLS = (json.loads(example) for example in PAGE.examples("json"))
SOURCES, ALERTS = (yaml.safe_load(example) for example in PAGE.examples("yaml"))
OF_NOTHING = {"key": "model", "value": "there-is-no-such-model"}

LISTS = (
    "/api/v1/traces", "/api/v1/sessions", "/api/v1/users", "/api/v1/facets/model", "/api/v1/projects",
    "/api/v1/annotations", "/api/v1/budgets", "/api/v1/prices", "/api/v1/costs/unpriced", "/api/v1/analytics/models",
    "/api/v1/metrics?metric=calls&from=now-6h",
)  # fmt: skip


@pytest.fixture
def infinity(client: httpx.AsyncClient, bearer: Bearer, seeded_history: Seed) -> Infinity:
    """A data source with a bearer token."""
    credential = bearer("viewer", [ACME])["Authorization"]
    return Infinity(client, str(client.base_url).rstrip("/"), credential, seeded_history.start, seeded_history.end)


def with_params(model: Json, *params: Json, **more: Any) -> Json:
    options = {**model["url_options"], "params": [*model["url_options"].get("params", []), *params]}
    return {**model, "url_options": options, **more}


def replaced(model: Json, **values: str) -> Json:
    """Return the model with other values of its parameters."""
    params = [{**item, "value": values.get(item["key"], item["value"])} for item in model["url_options"]["params"]]
    return {**model, "url_options": {**model["url_options"], "params": params}}


async def test_a_time_series_comes_in_order_of_time_with_equal_columns(infinity: Infinity) -> None:
    rows = await infinity.query(COST_OVER_TIME)
    assert len({row[0] for row in rows}) > 3
    assert {row[1] for row in rows} == {"gpt-5", "gpt-4.1", "claude-opus-4"}
    assert sum(row[2] or 0 for row in rows) == pytest.approx(TRACES * 0.0012)


async def test_every_metric_gives_rows_with_the_same_keys(infinity: Infinity) -> None:
    for metric in METRICS:
        await infinity.query(replaced(COST_OVER_TIME, metric=metric) | {"columns": COST_OVER_TIME["columns"][:2]})
        (page,) = infinity.pages
        assert len({tuple(row) for row in page["data"]}) <= 1, metric
        assert page["next_cursor"] is None


async def test_the_dashboards_range_in_each_form(infinity: Infinity) -> None:
    whole = await infinity.query(COST_OVER_TIME)
    for form in ("", ":date:iso", ":date:seconds"):
        ends = {"from": f"${{__timeFrom{form}}}", "to": f"${{__timeTo{form}}}"}
        assert await infinity.query(replaced(COST_OVER_TIME, **ends)) == whole, form


async def test_cursor_pages_have_equal_columns_and_end_with_a_null_cursor(infinity: Infinity) -> None:
    whole = await infinity.query(FAILED_CALLS)
    assert len(whole) == 12
    assert len(infinity.pages) == 1
    assert await infinity.query(replaced(FAILED_CALLS, limit="3")) == whole
    assert [len(page["data"]) for page in infinity.pages] == [3, 3, 3, 3]
    assert [page["next_cursor"] is None for page in infinity.pages] == [False, False, False, True]
    assert len({tuple(row) for page in infinity.pages for row in page["data"]}) == 1


async def test_nothing_found_is_200_with_an_empty_list(infinity: Infinity) -> None:
    assert await infinity.query(with_params(FAILED_CALLS, OF_NOTHING)) == []
    (page,) = infinity.pages
    assert page["data"] == []
    assert page["next_cursor"] is None
    assert all(row[2] is None for row in await infinity.query(with_params(COST_OVER_TIME, OF_NOTHING)))


async def test_every_list_has_the_cursor_key_and_flat_rows(infinity: Infinity) -> None:
    for path in LISTS:
        await infinity.query({**FAILED_CALLS, "url": path, "columns": [], "url_options": {"method": "GET"}})
        rows = infinity.pages[0]["data"]
        assert isinstance(rows, list), path
        assert len({tuple(row) for row in rows}) <= 1, path


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", "", "application/json"])
async def test_a_typed_body_is_read_as_json(infinity: Infinity, content_type: str) -> None:
    options = {**SLOW_CALLS["url_options"], "body_content_type": content_type}
    rows = await infinity.query({**SLOW_CALLS, "url_options": options})
    assert len(rows) == 91
    assert all(row[2] > 500 for row in rows)
    body = '{"metrics": ["calls"], "from": ${__timeFrom}, "to": "${__timeTo:date:iso}"}'
    url = "/api/v1/metrics/query"
    model = {**SLOW_CALLS, "url": url, "url_options": {**options, "data": body}, "root_selector": "none", "columns": []}
    with pytest.raises(KeyError):
        await infinity.query(model)
    assert infinity.pages[0]["data"]["groups"][0]["values"] == {"calls": [TRACES]}


async def test_bodies_that_change_something_are_not_read_as_text(infinity: Infinity, bearer: Bearer) -> None:
    headers = {**bearer("developer", [ACME]), "Content-Type": "text/plain"}
    answer = await infinity.http.post("/api/v1/annotations", content='{"title": "x"}', headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("base", ["/", "//", "/api/v1/"])
async def test_base_addresses_that_end_in_a_slash_work(infinity: Infinity, base: str) -> None:
    whole = await infinity.query(FAILED_CALLS)
    infinity.base += base
    path = FAILED_CALLS["url"].removeprefix("/api/v1") if base == "/api/v1/" else FAILED_CALLS["url"]
    assert await infinity.query({**FAILED_CALLS, "url": path}) == whole
    assert await infinity.query({**FAILED_CALLS, "url": f"{path}/"}) == whole


async def test_errors_are_json_that_says_what_to_do(infinity: Infinity) -> None:
    with pytest.raises(InfinityError, match=r'400 .*"detail":"user: has no value","code":"invalid_parameter"'):
        await infinity.query(with_params(FAILED_CALLS, {"key": "user", "value": ""}))
    with pytest.raises(InfinityError, match=r'404 .*"code":"not_found"'):
        await infinity.query({**FAILED_CALLS, "url": "/api/v1/nothing"})


async def test_save_and_test_asks_for_health(infinity: Infinity) -> None:
    for source in SOURCES["datasources"]:
        url = source["jsonData"]["customHealthCheckUrl"].removeprefix(source["url"])
        assert (await infinity.http.get(url)).status_code == 200


async def test_client_credentials_as_go_asks_for_them(
    infinity: Infinity, app_server: AppServer, bearer: Bearer
) -> None:
    (source,) = [item for item in SOURCES["datasources"] if item["jsonData"]["auth_method"] == "oauth2"]
    settings = source["jsonData"]["oauth2"]
    body = {"client_name": "infinity", "role": "viewer", "projects": [ACME]}
    made = await infinity.http.post("/api/v1/clients", json=body, headers=bearer("admin", ["*"]))
    registered = made.json()["data"]
    path = settings["token_url"].removeprefix(source["url"])
    credential = ClientCredentials(
        f"{app_server.base_url}{path}",
        registered["client_id"],
        registered["client_secret"],
        tuple(settings["scopes"]),
    )
    whole = await infinity.query(COST_OVER_TIME)
    infinity.credential = credential
    assert await infinity.query(COST_OVER_TIME) == whole
    assert await infinity.query(FAILED_CALLS)
    assert credential.sent_styles == ["header"], "one token serves until it ends"
    infinity.credential = ClientCredentials(
        credential.token_url, registered["client_id"], registered["client_secret"], ()
    )
    assert await infinity.query(COST_OVER_TIME) == whole, "without scopes: those of the client"
    infinity.credential = wrong = ClientCredentials(credential.token_url, registered["client_id"], "wrong", ())
    with pytest.raises(InfinityError, match="invalid_client"):
        await infinity.query(COST_OVER_TIME)
    assert wrong.sent_styles == ["header", "form"]


def test_the_provisioned_sources_are_complete() -> None:
    assert SOURCES["apiVersion"] == 1
    assert len({source["uid"] for source in SOURCES["datasources"]}) == 2
    secrets = {"oauth2": "oauth2ClientSecret", "bearerToken": "bearerToken"}
    for source in SOURCES["datasources"]:
        assert source["type"] == "yesoreyeram-infinity-datasource"
        assert source["access"] == "proxy"
        settings = source["jsonData"]
        assert settings["customHealthCheckEnabled"] is True
        assert list(source["secureJsonData"]) == [secrets.pop(settings["auth_method"])]
        assert all(value.startswith("$__file{") for value in source["secureJsonData"].values())


async def test_the_alert_rule_asks_for_one_value_a_model(infinity: Infinity) -> None:
    (rule,) = ALERTS["groups"][0]["rules"]
    steps = {step["refId"]: step for step in rule["data"]}
    assert rule["condition"] == "C"
    assert steps["A"]["datasourceUid"] in {source["uid"] for source in SOURCES["datasources"]}
    assert [steps[name]["model"].get("expression") for name in "ABC"] == [None, "A", "B"]
    assert all(step["model"]["refId"] == name for name, step in steps.items())
    assert steps["A"]["model"]["parser"] == "backend", "the others run in the browser"
    rows = await infinity.query(steps["A"]["model"])
    assert len(rows) == len({row[1] for row in rows}) == 3
    assert all(0 <= row[2] <= 1 for row in rows)
    assert rule["annotations"]["__dashboardUid__"] in {path.stem for path in (ROOT / "dashboards/json").glob("*.json")}
