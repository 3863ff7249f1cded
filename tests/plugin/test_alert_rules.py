"""The provisioned alert rules: asked and evaluated as Grafana does, and firing for whom they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from dashboards.alert_pack import BOUNDS, GROUPS, PACK
from dashboards.alert_rules import PROMETHEUS_UID, RUNBOOK, AlertGroup
from dashboards.infinity_rules import INFINITY_GROUPS, INFINITY_UID
from datasource.prometheus.gauges import GAUGES
from datasource.prometheus.promql.engine import parsed
from datasource.prometheus.promql.syntax import NAME_LABEL, Selector, walk
from datasource.prometheus.series_catalog import FAMILY_OF
from plugin.provisioning_files import FOLDER, Provisioning
from server.queries.records.budgets import PERIODS
from tests.dashboards.dashboard_files import load
from tests.datasource.infinity_backend import Infinity, Json
from tests.datasource.seed import ACME, GLOBEX, TRACES, Seed
from tests.docs.markdown import ROOT, Page
from tests.plugin.alert_evaluation import Numbers, RuleError, evaluate, express, numeric_table

Bearer = Callable[..., dict[str, str]]

RULES: dict[str, Json] = {rule.title: rule.render() for group in INFINITY_GROUPS for rule in group.rules}
PROMETHEUS_FILE = FOLDER / "prometheus" / "llm-observatory.rules.yaml"
BUDGETS_PAGE = "docs/how-to/alert-on-budgets.md"
SPENT = TRACES * 0.0012
# Id of the budget and its amount; the warning is at 80 %, critical at 100 %.
BUDGETS = {"roomy": SPENT * 100, "nearly": SPENT / 0.9, "over": SPENT / 2}


def test_every_documented_rule_names_a_dashboard_and_its_panel_or_neither() -> None:
    """Grafana does not start with a provisioned rule that names one of them alone."""
    boards = {board["uid"]: board for board in load().values()}
    found = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            document = yaml.safe_load(block)
            groups = document.get("groups", []) if isinstance(document, dict) else []
            for rule in (rule for group in groups for rule in group["rules"]):
                links = {key: rule["annotations"].get(key) for key in ("__dashboardUid__", "__panelId__")}
                assert all(links.values()) or not any(links.values()), f"{page.name}: {rule['title']}"
                ids = [str(panel["id"]) for panel in boards[links["__dashboardUid__"]]["panels"]]
                assert links["__panelId__"] in ids
                found += 1
    assert found


@pytest.fixture
async def infinity(client: httpx.AsyncClient, bearer: Bearer, seeded_history: Seed) -> Infinity:
    """The provisioned source with a viewer's key, and budgets of all states for the whole year."""
    admin = bearer("admin", ["*"])
    for project in (ACME, GLOBEX):
        for name, amount in BUDGETS.items():
            body = {"name": f"Budget {name}", "amount_usd": str(round(amount, 12)), "period": "year"}
            made = await client.put(f"/api/v1/budgets/{project}/{name}", json=body, headers=admin)
            assert made.status_code == 201, made.text
    credential = bearer("viewer", [ACME])["Authorization"]
    return Infinity(client, str(client.base_url).rstrip("/"), credential, seeded_history.start, seeded_history.end)


def alerts(rule: Json, found: dict[str, Numbers]) -> set[str]:
    """Return the ids of the budgets that the rule fires for."""
    assert all(dict(labels)["project_id"] == ACME for labels in found[rule["condition"]]), "another's budgets"
    return {dict(labels)["budget_id"] for labels, value in found[rule["condition"]].items() if value}


@pytest.mark.parametrize(("title", "firing"), [("LLMBudgetWarning", {"nearly"}), ("LLMBudgetCritical", {"over"})])
async def test_a_spent_budget_fires_at_its_own_thresholds(infinity: Infinity, title: str, firing: set[str]) -> None:
    rule = RULES[title]
    found = await evaluate(rule, infinity)
    assert alerts(rule, found) == firing
    assert len(found[rule["condition"]]) == len(BUDGETS), "a budget that is fine is a number, too: 0"
    used = {dict(labels)["budget_id"]: value for labels, value in found["D"].items()}
    assert used == {name: pytest.approx(SPENT / amount * 100, rel=1e-3) for name, amount in BUDGETS.items()}


async def test_a_budget_that_will_not_last_fires(infinity: Infinity) -> None:
    rule = RULES["LLMBudgetProjectedOver"]
    found = await evaluate(rule, infinity)
    rows = (await infinity.http.get("/api/v1/budgets", headers={"Authorization": str(infinity.credential)})).json()
    assert alerts(rule, found) == {
        row["budget_id"] for row in rows["data"] if row["projected_pct"] > 100 and row["elapsed_pct"] > 10
    }


@pytest.mark.parametrize(("projected", "elapsed", "fires"), [(250, 9.9, 0), (250, 10.1, 1), (99, 50, 0)])
def test_the_first_tenth_of_a_period_is_not_judged(projected: float, elapsed: float, fires: float) -> None:
    budget = (("budget_id", "b"),)
    found = express(RULES["LLMBudgetProjectedOver"], {"A": {budget: projected}, "C": {budget: elapsed}})
    assert found["E"] == {budget: fires}


async def test_without_budgets_there_is_no_data_and_no_alarm(
    client: httpx.AsyncClient, bearer: Bearer, seeded_history: Seed
) -> None:
    credential = bearer("viewer", [ACME])["Authorization"]
    base = str(client.base_url).rstrip("/")
    infinity = Infinity(client, base, credential, seeded_history.start, seeded_history.end)
    for rule in RULES.values():
        assert (await evaluate(rule, infinity))[rule["condition"]] == {}
        assert rule["noDataState"] == "OK"


def test_what_is_no_numeric_table_is_an_error() -> None:
    model = RULES["LLMBudgetCritical"]["data"][0]["model"]
    two_numbers = {**model, "columns": [*model["columns"], {"selector": "x", "text": "x", "type": "number"}]}
    with pytest.raises(RuleError, match="wide series"):
        numeric_table(two_numbers, [])
    with pytest.raises(RuleError, match="duplicate"):
        numeric_table(model, [["p", "b", "n", 1], ["p", "b", "n", 2]])


@pytest.mark.parametrize("group", [*GROUPS, *INFINITY_GROUPS], ids=lambda group: group.name)
def test_rules_are_complete_and_lead_to_a_panel_and_a_runbook(group: AlertGroup) -> None:
    boards = {board["uid"]: board for board in load().values()}
    known_sources = {source["uid"] for source in Provisioning().datasources()}
    page = Page(ROOT / RUNBOOK).text
    for rule in (rule.render("https://wiki.example.org/alerts") for rule in group.rules):
        title = rule["title"]
        assert re.fullmatch(r"LLM([A-Z][a-z]+)+", title)
        assert re.fullmatch(r"[a-z-]{1,40}", rule["uid"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["condition"] == rule["data"][-1]["refId"]
        sources = {step["datasourceUid"] for step in rule["data"]}
        assert sources in ({INFINITY_UID, "__expr__"}, {PROMETHEUS_UID, "__expr__"})
        assert sources - {"__expr__"} <= known_sources
        link = rule["annotations"]
        panels = {str(panel["id"]): panel for panel in boards[link["__dashboardUid__"]]["panels"]}
        assert panels[link["__panelId__"]]["type"] not in ("row", "stat"), title
        assert link["runbook"] == f"{RUNBOOK}#{title.lower()}"
        assert link["runbook_url"] == f"https://wiki.example.org/alerts#{title.lower()}"
        assert f"## {title}\n" in page
        # Texts may only use what the rule has: labels of its queries, values of its steps.
        texts = link["summary"] + link["description"]
        assert set(re.findall(r"\$values\.(\w+)", texts)) <= {step["refId"] for step in rule["data"]}
        assert texts.count("{{ with $values") == texts.count("{{ else }}") == 2, (
            "without data there is nothing to print"
        )
    assert len({rule.uid for rule in group.rules}) == len(group.rules)


def test_expressions_ask_for_series_and_labels_that_there_are() -> None:
    """A misspelt label would be silent: it matches nothing, or everything."""
    for _, _, alerts in PACK:
        for alert in alerts:
            names = set()
            for part in walk(parsed(alert.expression)):
                if isinstance(part, Selector):
                    (name,) = [item.value for item in part.matchers if item.name == NAME_LABEL]
                    labels = (FAMILY_OF.get(name) or GAUGES[name]).labels
                    assert {item.name for item in part.matchers} - {NAME_LABEL} <= set(labels), alert.title
                    names.add(name)
            grouped = set(re.findall(r"by \(([^)]*)\)", alert.expression))
            by = {label for group in grouped for label in group.split(", ")} - {"le"}
            known = set().union(*((FAMILY_OF.get(name) or GAUGES[name]).labels for name in names))
            assert by <= known, alert.title
            # Without a grouping the labels are those of the series.
            used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
            assert used <= (by or known), alert.title


def test_bounds_are_in_one_place() -> None:
    """No rule has a number of its own: windows and percentiles aside, all are in the table."""
    bounds = {f"{getattr(BOUNDS, name):g}" for name in BOUNDS.__slots__}
    for _, _, alerts in PACK:
        for alert in alerts:
            bare = re.sub(
                r'"[^"]*"|\[[^\]]*\]|offset \d+[a-z]|_quantile\(0\.75|quantile_over_time\(0\.95', "", alert.expression
            )
            assert set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", bare)) <= bounds | {"0", "1"}, alert.title


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    provisioning = Provisioning(grafana="https://example.org/grafana/", runbooks="https://wiki.example.org/alerts")
    file = tmp_path / PROMETHEUS_FILE.name
    file.write_text(provisioning.files()["prometheus/llm-observatory.rules.yaml"])
    document = yaml.safe_load(file.read_text())
    boards = {board["uid"]: board for board in load().values()}
    assert [group["name"] for group in document["groups"]] == [name for name, _, _ in PACK]
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        parsed(rule["expr"])
        assert "$values" not in str(rule["annotations"])
        address, _, project = rule["annotations"]["panel_url"].partition("&")
        assert project == "var-project={{ $labels.project | urlquery }}"
        link = re.fullmatch(r"https://example\.org/grafana/d/([a-z-]+)\?viewPanel=(\d+)", address)
        assert link is not None, rule["alert"]
        (panel,) = [panel for panel in boards[link[1]]["panels"] if panel["id"] == int(link[2])]
        assert rule["annotations"]["dashboard"] == f"{link[1]}: {panel['title']}"
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.org/alerts#{rule['alert'].lower()}"
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    done = subprocess.run(
        [promtool, "check", "rules", PROMETHEUS_FILE, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_examples_of_the_page_make_budgets(client: httpx.AsyncClient, bearer: Bearer) -> None:
    page = Page(ROOT / BUDGETS_PAGE)
    (in_shell,) = re.findall(r"-d '(.+)'", "".join(page.examples("sh")))
    bodies = [in_shell, *page.examples("json")]
    for number, body in enumerate(bodies):
        answer = await client.put(
            f"/api/v1/budgets/{ACME}/example-{number}",
            content=body,
            headers={**bearer("admin", ["*"]), "Content-Type": "application/json"},
        )
        assert answer.status_code == 201, answer.text
        assert answer.json()["data"]["period"] in PERIODS
    assert Path(ROOT / "plugin/provisioning/alerting").is_dir()
    assert "plugin/provisioning/alerting" in page.text
