"""The provisioned alert rules: asked and evaluated as Grafana does, and firing for whom they should."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from dashboards import llm_cost
from dashboards.alert_rules import INFINITY_UID, RUNBOOK
from plugin.provisioning_files import FOLDER
from server.queries.records.budgets import PERIODS
from tests.dashboards.dashboard_files import load
from tests.datasource.infinity_backend import Infinity, Json
from tests.datasource.seed import ACME, GLOBEX, TRACES, Seed
from tests.docs.markdown import ROOT, Page
from tests.plugin.alert_evaluation import Numbers, RuleError, evaluate, express, numeric_table

Bearer = Callable[..., dict[str, str]]

(GROUP,) = yaml.safe_load((FOLDER / "alerting" / "llm-observatory.yaml").read_text())["groups"]
RULES: dict[str, Json] = {rule["title"]: rule for rule in GROUP["rules"]}
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
    """Ids of the budgets that the rule fires for."""
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


def test_rules_are_complete_and_lead_to_the_panel_of_budgets() -> None:
    (panel,) = [item for item in llm_cost.BOARD.render()["panels"] if item["title"] == llm_cost.BUDGETS]
    sources = yaml.safe_load((FOLDER / "datasources" / "llm-observatory.yaml").read_text())["datasources"]
    assert INFINITY_UID in {source["uid"] for source in sources}
    for title, rule in RULES.items():
        assert re.fullmatch(r"LLM([A-Z][a-z]+)+", title)
        assert re.fullmatch(r"[a-z-]{1,40}", rule["uid"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["condition"] == rule["data"][-1]["refId"]
        assert {step["datasourceUid"] for step in rule["data"]} == {INFINITY_UID, "__expr__"}
        link = rule["annotations"]
        assert (link["__dashboardUid__"], link["__panelId__"]) == ("llm-cost", str(panel["id"]))
        assert link["runbook"] == RUNBOOK
        assert f"## {title}" in Page(ROOT / RUNBOOK).text
        # Texts may only use what the rule has: labels of its queries, values of its steps.
        texts = link["summary"] + link["description"]
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= {"project_id", "budget_id", "name"}
        assert set(re.findall(r"\$values\.(\w+)", texts)) <= {step["refId"] for step in rule["data"]}


async def test_the_examples_of_the_page_make_budgets(client: httpx.AsyncClient, bearer: Bearer) -> None:
    page = Page(ROOT / RUNBOOK)
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
