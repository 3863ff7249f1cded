"""The dashboards that need no plugin: made from the same panels, answered with data, and with the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from dashboards.build import BOARDS, BOARDS_WITHOUT_PLUGIN, SETS, render_files
from dashboards.promql_metrics import METRICS
from dashboards.without_plugin import PROMETHEUS, TEMPO, boards_without_plugin
from datasource.prometheus.gauges import GAUGES
from datasource.prometheus.series_catalog import FAMILY_OF
from plugin.checker import with_values
from server.http.services import Services
from tests.dashboards.dashboard_files import Json, initial_values, interpolate, panels_of
from tests.dashboards.test_dashboards import add_what_is_rare
from tests.datasource.grafana_client import query_body
from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.datasource.seed import ACME, Seed

RENDERED = {board.uid: board.render() for board in BOARDS_WITHOUT_PLUGIN}
WITH_PLUGIN = {board.uid: board.render() for board in BOARDS}
VALUES = {
    "project": ".*", "environment": ".*", "service": ".*", "model": ".*", "group_by": "model", "__interval": "1h",
    "__range": "6h",
}  # fmt: skip


def values_of(board: Json) -> dict[str, str]:
    """Return the values that replace the variables of a dashboard. A variable that it lacks stays, as in Grafana."""
    known = {item["name"] for item in board["templating"]["list"]}
    return dict.fromkeys(known, "x") | {
        name: value for name, value in VALUES.items() if name in known or name.startswith("__")
    }


def test_both_sets_are_the_same_dashboards() -> None:
    assert len(RENDERED) >= 11
    assert set(RENDERED) <= set(WITH_PLUGIN), "links and alerts find them by the same uid"
    assert render_files(BOARDS_WITHOUT_PLUGIN) == render_files(boards_without_plugin(BOARDS))
    assert len({folder.name for folder in SETS}) == len(SETS)
    for uid, board in RENDERED.items():
        titles = {panel["title"] for panel in panels_of(WITH_PLUGIN[uid])}
        assert {panel["title"] for panel in panels_of(board)} <= titles


@pytest.mark.parametrize("uid", RENDERED)
def test_linter_rules(uid: str) -> None:
    """Titles, descriptions, units, places, sources by variable; no trace of the plugin, no lost variable."""
    board = RENDERED[uid]
    text = json.dumps(board)
    assert "simpod" not in text
    assert ":queryparam}" not in text.replace("${__data", "") or "/d/" in text
    assert {item["type"] for item in board["templating"]["list"]} <= {"datasource", "query", "custom", "textbox"}
    cells: set[tuple[int, int]] = set()
    for panel in panels_of(board):
        assert panel["title"]
        assert len(panel["description"]) > 20
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert bool(panel["fieldConfig"]["defaults"]["noValue"]) is (panel["type"] != "state-timeline")
        place = panel["gridPos"]
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                   for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert cells.isdisjoint(covered), panel["title"]
        cells |= covered
        assert [query["refId"] for query in panel["targets"]] == [chr(65 + at) for at in range(len(panel["targets"]))]
        for query in panel["targets"]:
            assert query["datasource"] in (PROMETHEUS, TEMPO)
            asked = json.dumps(with_values(query, values_of(board)))
            assert "$" not in asked.replace("${ds}", "").replace("${tempo}", ""), panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            for link in (item["value"][0] for item in override["properties"] if item["id"] == "links"):
                assert "user:queryparam" not in link["url"]
                assert "filters:queryparam" not in link["url"]


def test_tables_show_each_of_their_queries_by_name() -> None:
    for board in RENDERED.values():
        for panel in panels_of(board):
            if panel["type"] != "table" or panel["targets"][0]["datasource"] == TEMPO:
                continue
            organize = next(item for item in panel["transformations"] if item["id"] == "organize")["options"]
            values = {name for name in organize["renameByName"] if name.startswith("Value")}
            several = len(panel["targets"]) > 1
            expected = {f"Value #{query['refId']}" for query in panel["targets"]} if several else {"Value"}
            assert values == expected, panel["title"]


def test_metrics_ask_for_series_that_there_are() -> None:
    for name, metric in METRICS.items():
        words = metric.write("model", "", "1h").replace("(", " ").replace("{", " ").split()
        series = {word for word in words if word.startswith("llm_")}
        assert series
        assert series <= set(FAMILY_OF) | set(GAUGES), name


@pytest.fixture
async def prometheus(
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    services: Services,
    owner: asyncpg.Connection,
    seeded_history: Seed,
) -> PrometheusClient:
    """A viewer of the seeded history, with what is rare in it."""
    await add_what_is_rare(services, owner, seeded_history)
    return PrometheusClient(client, bearer("viewer", [ACME]))


async def test_every_query_is_answered_with_data(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    start, end = seeded_history.start.timestamp(), seeded_history.end.timestamp()
    asked = 0
    for uid, board in RENDERED.items():
        for panel in panels_of(board):
            for query in (with_values(item, values_of(board) | {"trace_id": seeded_history.trace_id})
                          for item in panel["targets"]):  # fmt: skip
                what = f"{uid}: {panel['title']}: {query}"
                if query["datasource"]["type"] == "tempo":
                    assert await found_by_tempo(prometheus, query, int(start), int(end) + 1), what
                elif query["instant"]:
                    assert (await prometheus.data("query", {"query": query["expr"], "time": end}))["result"], what
                else:
                    ranged = {"query": query["expr"], "start": start + 3600, "end": end, "step": 3600}
                    assert (await prometheus.data("query_range", ranged))["result"], what
                asked += 1
    assert asked > 90


async def found_by_tempo(prometheus: PrometheusClient, query: Json, start: int, end: int) -> bool:
    """Return whether a search finds traces, or a trace is there."""
    if not query["query"].startswith("{"):
        answer = await prometheus.http.get(f"/tempo/api/v2/traces/{query['query']}", headers=prometheus.headers)
        assert answer.status_code == 200, answer.text
        return bool(answer.content)
    asked = {"q": query["query"], "limit": query["limit"], "spss": query["spss"], "start": start, "end": end}
    answer = await prometheus.http.get("/tempo/api/search", params=asked, headers=prometheus.headers)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["traces"])


async def test_the_numbers_are_those_of_the_plugin(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    """Figures, rankings and tables of the range: each value of each group, from both sources."""
    compared = 0
    for uid, panel, place, query in instants():
        target = WITH_PLUGIN_TARGETS[uid, panel["title"], panel["type"]]
        values = initial_values(WITH_PLUGIN[uid], {"group_by": "model"})
        payload = interpolate(target["payload"], values)
        if payload.get("period"):
            continue
        by = payload.get("group_by", "")
        labels = ["model"] if "var-group_by" in str(by) else [name for name in str(by).split(",") if name]
        metrics = [name for name in str(payload["metric"]).split(",") if name in METRICS or payload.get("aggregation")]
        asked = {key: value for key, value in payload.items() if key not in ("layout", "colors", "limit")}
        asked |= {"metric": metrics[place], **({"group_by": labels, "limit": 100} if labels else {})}
        body = query_body(seeded_history, {"target": "breakdown" if labels else "stat", "payload": asked})
        answer = await prometheus.http.post("/grafana/query", json=body, headers=prometheus.headers)
        assert answer.status_code == 200, answer.text
        rows = answer.json()[0]["rows"]
        expected = {tuple(row[: len(labels)]): row[len(labels)] for row in rows}
        found = await prometheus.data("query", {"query": query["expr"], "time": seeded_history.end.timestamp()})
        for row in found["result"]:
            key = tuple(row["metric"].get(name) for name in labels)
            value = float(row["value"][1])
            if value == value:  # a share of nothing is NaN
                assert value == pytest.approx(float(expected[key] or 0), rel=1e-9), (uid, panel["title"], key)
                compared += 1
    assert compared > 100


WITH_PLUGIN_TARGETS: dict[tuple[str, str, str], Json] = {
    (uid, panel["title"], panel["type"]): panel["targets"][0]
    for uid, board in WITH_PLUGIN.items()
    for panel in panels_of(board)
    if panel["targets"]
}


def instants() -> Iterator[tuple[str, Json, int, Any]]:
    """Board, panel, place and query of every question about the whole range."""
    for uid, board in RENDERED.items():
        for panel in panels_of(board):
            for place, item in enumerate(panel["targets"]):
                if item["datasource"] == PROMETHEUS and item["instant"] and "llm_budget" not in item["expr"]:
                    yield uid, panel, place, with_values(item, VALUES)


def test_states_are_told_apart_by_the_share_of_failed_calls() -> None:
    """Grafana merges a timeline by thresholds: without some of ours every provider would be ok."""
    found = 0
    for board in RENDERED.values():
        for panel in panels_of(board):
            if panel["type"] == "state-timeline":
                defaults = panel["fieldConfig"]["defaults"]
                assert [step["value"] for step in defaults["thresholds"]["steps"]] == [None, 0.05, 0.5]
                assert (defaults["color"], defaults["unit"]) == ({"mode": "thresholds"}, "percentunit")
                found += 1
    assert found >= 2


def test_an_empty_cell_is_a_dash_and_percentiles_keep_their_colours() -> None:
    for board in RENDERED.values():
        for panel in panels_of(board):
            if panel["type"] == "table" and panel["targets"][0]["datasource"] == PROMETHEUS:
                assert panel["fieldConfig"]["defaults"]["noValue"] == "–", panel["title"]
            names = {query.get("legendFormat") for query in panel["targets"]}
            if panel["type"] == "timeseries" and names & {"p50", "p95", "p99"}:
                colored = {item["matcher"]["options"] for item in panel["fieldConfig"]["overrides"]}
                assert names <= colored, panel["title"]
    latency = next(panel for panel in panels_of(RENDERED["llm-latency"]) if panel["title"] == "Latency")
    assert [query["legendFormat"] for query in latency["targets"]] == ["p50", "p95", "p99"]
