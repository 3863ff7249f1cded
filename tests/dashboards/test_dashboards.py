"""The bundled dashboards: fresh, well made by the rules of Grafana's linter, and every query answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from dashboards.build import BOARDS, main, render_files, stale_files
from dashboards.queries import target
from datasource.panel_catalog import TARGETS
from server.http.services import Services
from server.queries.records.budgets import Budget, put_budget
from tests.dashboards.dashboard_files import Json, initial_values, interpolate, load, panels_of
from tests.datasource.grafana_client import is_empty, query_body
from tests.datasource.seed import ACME, Seed, iso, trace
from tests.docs.markdown import ROOT
from tests.span_factory import make_span, store

BOARD_FILES = load()
# Panels that ask nothing of the data source.
WITHOUT_QUERY = {"alertlist"}


def test_the_committed_files_are_what_the_definitions_give(tmp_path: object) -> None:
    assert stale_files() == []
    assert main(["--check"]) == 0
    assert render_files() == render_files()


def test_twelve_point_four_and_thirteen_share_the_schema() -> None:
    for board in BOARD_FILES.values():
        assert board["schemaVersion"] == 42
        assert board["id"] is None
        assert "__inputs" not in board
        assert board["graphTooltip"] == 1
        assert board["tags"] == ["llm-trace-detail" if board["uid"] == "llm-trace" else "llm-traces"]
        assert board["timezone"] == "browser"
    uids = [board["uid"] for board in BOARD_FILES.values()]
    assert len(set(uids)) == len(uids)
    assert len({board["title"] for board in BOARD_FILES.values()}) == len(uids)


@pytest.mark.parametrize("name", BOARD_FILES)
def test_linter_rules(name: str) -> None:
    """Title, description and unit on each panel, data source by variable, unique ids, no overlap."""
    board = BOARD_FILES[name]
    assert board["templating"]["list"][0]["name"] == "ds"
    assert {variable["type"] for variable in board["templating"]["list"]}.isdisjoint({"switch", "snapshot"})
    cells: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in [*board["panels"], *panels_of(board)] if panel["type"] == "row"]
    for panel in panels_of(board):
        ids.append(panel["id"])
        assert panel["title"]
        assert panel["pluginVersion"] == "12.4.0", "a panel without one is migrated as if it were years old"
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"] == {"type": "simpod-json-datasource", "uid": "${ds}"}
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        # In a timeline that text would be a state of its own, in red.
        assert bool(defaults["noValue"]) is (panel["type"] != "state-timeline")
        assert bool(panel["targets"]) is (panel["type"] not in WITHOUT_QUERY)
        for query in panel["targets"]:
            assert query["strict"] is True
            assert query["target"] in TARGETS
            assert query["datasource"]["uid"] == "${ds}"
            assert panel["type"] in TARGETS[query["target"]].panels, (panel["title"], query["target"])
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert cells.isdisjoint(covered), panel["title"]
        cells |= covered
    assert len(set(ids)) == len(ids)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["refresh"] == 2, "variables follow the time range"


def test_no_figure_depends_on_the_kind_of_range() -> None:
    """Grafana applies a panel's own time only to relative ranges: with dates chosen, "today" would be the range."""
    for board in BOARD_FILES.values():
        assert not [panel["title"] for panel in panels_of(board) if "timeFrom" in panel]


def test_nothing_is_claimed_where_there_is_no_data() -> None:
    """Grafana shows the text beside an error, too: an outage must not look like a night without traffic."""
    for board in BOARD_FILES.values():
        for panel in panels_of(board):
            defaults = panel["fieldConfig"]["defaults"]
            assert not re.search(r"no (traffic|errors|calls|data)", defaults["noValue"], re.IGNORECASE), panel["title"]
            base = defaults.get("thresholds", {}).get("steps", [{"color": "text"}])[0]["color"]
            assert base not in ("green", "red"), panel["title"]


def test_charts_over_time_have_few_enough_points_and_names_that_fit() -> None:
    for board in BOARD_FILES.values():
        for panel in panels_of(board):
            if panel["type"] != "timeseries":
                continue
            style = panel["fieldConfig"]["defaults"]["custom"]["drawStyle"]
            assert panel["maxDataPoints"] <= (72 if style == "bars" else 120), panel["title"]
            legend = panel["options"]["legend"]
            assert legend["displayMode"] == "list" or legend["placement"] == "right", panel["title"]


def test_menus_depend_on_the_project_only() -> None:
    """Menus that wait for one another are fetched one after the other, before any panel asks."""
    for board in BOARD_FILES.values():
        for item in board["templating"]["list"]:
            if item["type"] == "query":
                references = set(re.findall(r"\$\{(\w+):", item["query"]["query"]))
                assert references <= {"project"}, item["name"]


def test_a_link_sets_no_variable_twice_and_keeps_the_others() -> None:
    for board in BOARD_FILES.values():
        for panel in panels_of(board):
            for override in panel["fieldConfig"]["overrides"]:
                for link in (item["value"][0] for item in override["properties"] if item["id"] == "links"):
                    wanted = re.search(r"\?var-(\w+)=", link["url"])
                    assert wanted is not None
                    assert f"${{{wanted[1]}:" not in link["url"]
                    assert {"ds", "project", "filters"} <= set(re.findall(r"\$\{(\w+):queryparam\}", link["url"]))


def test_variables_are_only_written_in_the_lossless_form() -> None:
    for board in BOARD_FILES.values():
        texts = [query["payload"] for panel in panels_of(board) for query in panel["targets"]]
        texts += [item["target"]["payload"] for item in board["annotations"]["list"] if "target" in item]
        texts += [item["query"]["query"] for item in board["templating"]["list"] if item["type"] == "query"]
        for text in texts:
            assert text.count("$") == text.count(":queryparam}"), text


def test_a_dashboard_cannot_ask_for_what_does_not_exist() -> None:
    questions: tuple[tuple[str, dict[str, Any]], ...] = (("nonsense", {}), ("timeseries", {"colour": "red"}))
    for name, fields in questions:
        with pytest.raises(ValueError, match=r"there is no target|takes no"):
            target(name, **fields)


async def test_every_query_of_every_dashboard_has_data(
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    services: Services,
    owner: asyncpg.Connection,
    seeded_history: Seed,
) -> None:
    await add_what_is_rare(services, owner, seeded_history)
    remark = {"title": "Experiment began", "time": iso(seeded_history.start + timedelta(hours=1))}
    posted = await client.post("/api/v1/annotations", json=remark, headers=bearer("developer", [ACME]))
    assert posted.status_code == 201, posted.text
    await post_scores(client, bearer("developer", [ACME]), seeded_history)
    headers = bearer("viewer", [ACME])
    asked = 0
    for name, board in BOARD_FILES.items():
        values = initial_values(board, {"trace_id": seeded_history.trace_id})
        for panel in panels_of(board):
            targets = [{**query, "payload": interpolate(query["payload"], values)} for query in panel["targets"]]
            if not targets:
                continue
            body = query_body(
                seeded_history, *targets, dashboardUID=board["uid"], panelId=panel["id"], panelName=panel["title"]
            )
            await check(client, headers, body, f"{name}: {panel['title']}")
            asked += 1
        for item in board["annotations"]["list"]:
            if "target" in item:
                query = {**item["target"], "payload": interpolate(item["target"]["payload"], values)}
                await check(client, headers, query_body(seeded_history, query, requestId="AQ101"), item["name"])
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                payload = interpolate(variable["query"]["query"], values)
                answer = await client.post(
                    "/grafana/variable", json={"payload": payload, "range": seeded_history.range()}, headers=headers
                )
                assert answer.status_code == 200, answer.text
                assert answer.json(), f"{name}: {variable['name']}"
                assert all(isinstance(option["__value"], str) for option in answer.json())
    assert asked > 60
    assert len(BOARDS) == len(BOARD_FILES)


async def check(client: httpx.AsyncClient, headers: dict[str, str], body: Json, what: str) -> None:
    """Check that the body is answered with data for each of its targets, and without an error."""
    answer = await client.post("/grafana/query", content=json.dumps(body), headers=headers)
    assert answer.status_code == 200, f"{what}: {answer.text}"
    frames = answer.json()
    for query in body["targets"]:
        own = [frame for frame in frames if (frame.get("refId") or frame["schema"]["refId"]) == query["refId"]]
        assert any(not is_empty(frame) for frame in own), f"{what}: {query} gave {own}"
    severities = {
        notice["severity"]
        for frame in frames
        for notice in frame.get("meta", frame.get("schema", {}).get("meta", {})).get("notices", [])
    }
    assert severities <= {"info"}, f"{what}: {frames[0]}"


async def post_scores(client: httpx.AsyncClient, headers: dict[str, str], history: Seed) -> None:
    """Post scores of the first and the last traces, for both versions of the prompt."""
    scores = [
        {"trace_id": f"{number:032x}", "span_id": f"{number:08x}00000003", "name": name, "value": value,
         "source": source, "timestamp": iso(history.at(min(number, 40)))}
        for number in (1, 2, 40, 950, int(history.trace_id, 16))
        for name, value, source in (("helpfulness", 0.8, "eval"), ("thumbs_up", True, "human"))
    ]  # fmt: skip
    posted = await client.post("/api/v1/scores/batch", json={"scores": scores}, headers=headers)
    assert posted.status_code < 300, posted.text


async def add_what_is_rare(services: Services, owner: asyncpg.Connection, history: Seed) -> None:
    """Add an earlier period with calls, a burst of errors, a retry, cache reads, a price change, and a budget."""
    budget = Budget(project_id=ACME, budget_id="total", name="All models", amount_usd=Decimal("0.05"), period="year")
    await put_budget(services.writes, budget)
    await store(services, ACME, trace(900, history.start - timedelta(hours=1)))
    for day in range(1, 7):
        await store(services, ACME, trace(900 + day, history.start - timedelta(days=day)))
    coding = [
        replace(span, service_name="claude-code", tags=["shop-web"])
        for number in (950, 951, 952)
        for span in trace(number, history.start + timedelta(hours=2, minutes=number - 950))
    ]
    await store(services, ACME, coding)
    burst = history.start + timedelta(hours=3)
    await store(services, ACME, [
        make_span(ts=burst + timedelta(seconds=number), status_code="ERROR", error_type="timeout", agent_name="planner",
                  total_cost_usd=Decimal("0.01"), cached_tokens=10, cache_savings_usd=Decimal("0.001"),
                  prompt_tokens=20, completion_tokens=5, total_tokens=25)
        for number in range(12)
    ])  # fmt: skip
    await owner.execute(
        "INSERT INTO price_overrides (project_id, provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok)"
        " VALUES ($1, 'openai', 'gpt-5', $2, 1.25, 10)",
        ACME,
        history.start + timedelta(hours=2),
    )


def test_each_option_of_the_script_that_takes_pictures_is_on_its_page() -> None:
    script = (ROOT / "tests/dashboards/browser/render.mjs").read_text()
    names = set(re.findall(r"^    '?([\w-]+)'?: \{ type: 'string'", script, re.MULTILINE))
    page = (ROOT / "docs/reference/dashboards.md").read_text()
    assert {"url", "out", "may-be-empty"} <= names
    assert {name for name in names if not re.search(rf"--{name}\s", page)} == set()
