"""One command installs, keeps what people edited, checks, and takes everything away again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.alert_pack import PACK
from dashboards.build import BOARDS, BOARDS_WITHOUT_PLUGIN
from plugin.desired_state import FOLDER_UID, DesiredState
from plugin.grafana_api import Grafana, GrafanaRefused
from server.cli import main
from tests.plugin.grafana_stand_in import TOKEN, USER, Json, StandIn, running

KEY = "llmo_key_of_the_dashboards"


@pytest.fixture(params=[("11.0.0", ""), ("12.4.0", "/grafana"), ("13.1.0", "")], ids=["11", "12 below a path", "13"])
def grafana(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """Grafana of three generations."""
    with running(*request.param) as stand_in:
        yield stand_in


def install(stand_in: StandIn, *more: str, token: str = TOKEN) -> int:
    return main(["grafana", "install", "--url", stand_in.url, "--token", token, "--key", KEY, *more])


def test_everything_is_installed_and_a_second_run_changes_nothing_but_the_key(
    grafana: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(grafana) == 0
    assert set(grafana.boards) == {*(board.uid for board in BOARDS), "llm-server"}
    assert set(grafana.folders) == {FOLDER_UID}
    assert {source["type"] for source in grafana.sources.values()} == {
        "simpod-json-datasource", "jaeger", "tempo", "prometheus", "yesoreyeram-infinity-datasource",
    }  # fmt: skip
    assert all(KEY in str(secret) for secret in grafana.secrets.values())
    assert set(grafana.groups) == {name for name, _, _ in PACK}
    assert set(grafana.templates) == {"llm-observatory"}
    grafana.writes.clear()
    assert main(["grafana", "install", "--url", grafana.url, "--token", TOKEN]) == 0
    assert grafana.writes == []
    assert "create" not in capsys.readouterr().out.rpartition("folder")[2]


def test_a_dry_run_writes_nothing(grafana: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(grafana, "--dry-run") == 0
    assert grafana.writes == []
    assert "create    dashboard LLM overview" in capsys.readouterr().out


def test_what_somebody_edited_is_kept_unless_forced(grafana: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(grafana) == 0
    grafana.boards["llm-cost"]["title"] = "Our cost"
    grafana.messages["llm-cost"].append("my change")
    grafana.sources["llmtraces"]["url"] = "http://elsewhere"
    group = next(iter(grafana.groups.values()))
    group["rules"][0]["for"] = "1h"
    grafana.templates["llm-observatory"]["template"] += "more"
    grafana.writes.clear()
    assert main(["grafana", "install", "--url", grafana.url, "--token", TOKEN]) == 0
    assert grafana.writes == []
    assert capsys.readouterr().out.count("edited in Grafana") == 4
    assert install(grafana, "--force") == 0
    assert grafana.boards["llm-cost"]["title"] == "LLM cost"
    assert grafana.sources["llmtraces"]["url"].endswith("/grafana")
    assert next(iter(grafana.groups.values()))["rules"][0]["for"] != "1h"


def test_dashboards_of_an_earlier_release_are_renewed(grafana: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(grafana) == 0
    grafana.boards["llm-cost"]["title"] = "The title of an earlier release"
    assert install(grafana) == 0
    assert grafana.boards["llm-cost"]["title"] == "LLM cost"
    grafana.messages["llm-cost"][-1] = "llm-observatory 0123456789abcdef"
    assert install(grafana) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "dashboard" in line]
    assert [line.split()[0] for line in lines if "LLM cost" in line] == ["create", "update", "update"]
    assert sum("update" in line for line in lines) == 2


def test_uninstall_takes_away_what_is_ours_and_no_more(grafana: StandIn) -> None:
    assert install(grafana) == 0
    grafana.foreign.append("somebody-elses")
    assert main(["grafana", "uninstall", "--url", grafana.url, "--token", TOKEN]) == 0
    assert (grafana.boards, grafana.sources, grafana.groups, grafana.templates) == ({}, {}, {}, {})
    assert set(grafana.folders) == {FOLDER_UID}, "a folder with a dashboard of somebody stays"
    grafana.foreign.clear()
    assert main(["grafana", "uninstall", "--url", grafana.url, "--user", ":".join(USER)]) == 0
    assert grafana.folders == {}


def test_rules_ask_the_source_of_choice_and_no_rule_stays_of_the_other(
    grafana: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(grafana) == 0
    assert install(grafana, "--alerts", "infinity", "--runbooks", "https://wiki.example.org/alerts") == 0
    assert set(grafana.groups) == {"llm-budgets"}
    rules = grafana.groups["llm-budgets"]["rules"]
    assert {step["datasourceUid"] for rule in rules for step in rule["data"]} == {"llmapi", "__expr__"}
    assert rules[0]["annotations"]["runbook_url"] == "https://wiki.example.org/alerts#llmbudgetwarning"
    assert "delete    alert rules llm-traffic" in capsys.readouterr().out
    assert install(grafana) == 0
    assert set(grafana.groups) == {name for name, _, _ in PACK}


def test_without_infinity_only_its_data_source_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as grafana:
        grafana.plugins.remove("yesoreyeram-infinity-datasource")
        assert install(grafana) == 0
        assert "llmapi" not in grafana.sources
        assert "skip      data source LLM API" in capsys.readouterr().out
        assert install(grafana, "--alerts", "infinity") == 1
        assert "yesoreyeram-infinity-datasource" in capsys.readouterr().err


def test_without_a_plugin_nothing_of_one_is_installed_or_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as grafana:
        grafana.plugins.clear()
        assert install(grafana, "--without-plugin") == 0
        assert {source["type"] for source in grafana.sources.values()} == {"jaeger", "tempo", "prometheus"}
        assert set(grafana.boards) == {*(board.uid for board in BOARDS_WITHOUT_PLUGIN), "llm-server"}
        links = [rule["annotations"] for group in grafana.groups.values() for rule in group["rules"]]
        for link in links:
            if "__dashboardUid__" in link:
                panels = grafana.boards[link["__dashboardUid__"]]["panels"]
                assert link["__panelId__"] in {str(panel["id"]) for panel in panels}
        assert sum("__panelId__" in link for link in links) >= 11
        asked: list[Json] = []

        def answer(body: Json) -> tuple[int, Json]:
            asked.append(body)
            frame = {"schema": {}, "data": {"values": [[1], [2]]}}
            return 200, {"results": {query["refId"]: {"frames": [frame]} for query in body["queries"]}}

        def traces(path: str, body: Json) -> tuple[int, Json]:
            searched.append(path)
            return 200, "echo" if path == "api/echo" else {"traces": [{"traceID": "1"}]}

        searched: list[str] = []
        grafana.queried, grafana.proxied = answer, traces
        assert main(["grafana", "check", "--url", grafana.url, "--token", TOKEN, "--without-plugin"]) == 0
        queries = [query for body in asked for query in body["queries"]]
        assert len(queries) > 90
        assert {query["datasource"]["uid"] for query in queries} == {"llmtraces-prometheus"}
        assert searched.count("api/search") > 5, "older Grafanas leave the search of traces to the browser"
        left = {name for query in queries for name in re.findall(r"\$\{?(\w+)", query.get("expr", ""))}
        assert left <= {"__interval", "__range"}, "variables of the dashboard are filled in"
        results = {"A": {"frames": [{}] * 10_000}, "B": {"error": "no such host"}}
        for failure in ((200, {"results": results}), (400, {"results": results}), (500, {"message": "no such host"})):
            grafana.queried = lambda body, failure=failure: failure  # type: ignore[misc]
            assert main(["grafana", "check", "--url", grafana.url, "--token", TOKEN, "--without-plugin"]) == 1
            lines = capsys.readouterr().out.splitlines()
            assert any("no such host" in line for line in lines)
            assert max(map(len, lines)) < 500


def test_a_missing_plugin_is_named_with_the_way_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as grafana:
        grafana.plugins.clear()
        assert install(grafana) == 1
        assert "grafana cli plugins install simpod-json-datasource" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "token", "key", "sentence"),
    [
        ("10.4.2", TOKEN, KEY, "is too old"),
        ("12.4.0", "wrong", KEY, "does not know this token"),
        ("12.4.0", TOKEN, "", "needs a key"),
    ],
)
def test_what_does_not_work_is_said_with_what_to_do(
    version: str, token: str, key: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(version) as grafana:
        assert main(["grafana", "install", "--url", grafana.url, "--token", token, "--key", key]) == 1
        assert sentence in capsys.readouterr().err


def test_an_address_that_is_no_grafana_is_refused() -> None:
    with pytest.raises(GrafanaRefused, match="is not an address"):
        Grafana("localhost:3000", TOKEN)
    with pytest.raises(GrafanaRefused, match="is not reached"):
        Grafana("http://127.0.0.1:9", TOKEN).version()


def test_check_reports_each_panel_and_fails_with_the_first_error(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as grafana:
        assert install(grafana) == 0
        frame = {"schema": {"meta": {}}, "data": {"values": [[1], [2]]}}

        def answer(path: str, body: dict[str, object]) -> tuple[int, object]:
            return {"": (200, {"status": "ok"}), "api/echo": (200, "echo")}.get(path, (200, [frame]))

        grafana.proxied = answer
        assert main(["grafana", "check", "--url", grafana.url, "--token", TOKEN]) == 0
        lines = capsys.readouterr().out.splitlines()
        panels = sum(len(board.render()["panels"]) for board in BOARDS)
        rules = sum(len(alerts) for _, _, alerts in PACK)
        assert 60 + rules < len(lines) <= panels + rules + 4
        grafana.failing["LLMCostSpike"] = "the data source is gone"
        assert main(["grafana", "check", "--url", grafana.url, "--token", TOKEN]) == 1
        assert "failed alert rule LLMCostSpike: the data source is gone" in capsys.readouterr().out
        grafana.failing.clear()
        grafana.proxied = lambda path, body: (200, {"status": "ok"}) if path == "" else (400, {"message": "boom"})
        assert main(["grafana", "check", "--url", grafana.url, "--token", TOKEN]) == 1
        output = capsys.readouterr().out
        assert "boom" in output
        assert "failed data source LLM traces (Tempo)" in output, "its server part does not check it in this Grafana"


def test_provision_writes_what_a_grafana_mounts(tmp_path: Path) -> None:
    assert main(["grafana", "provision", str(tmp_path), "--observatory-url", "http://llm:8080"]) == 0
    sources = yaml.safe_load((tmp_path / "provisioning/datasources/llm-observatory.yaml").read_text())["datasources"]
    assert all(source["url"].startswith("http://llm:8080") for source in sources)
    assert len(list((tmp_path / "dashboards").glob("*.json"))) == len(BOARDS) + 1


def test_a_key_is_never_part_of_what_is_compared() -> None:
    with_key = {item["uid"]: item["jsonData"] for item in DesiredState("http://x", "secret").datasources()}
    without = {item["uid"]: item["jsonData"] for item in DesiredState("http://x").datasources()}
    assert with_key == without
    assert "secret" not in str(with_key)
