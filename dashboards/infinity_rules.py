"""The budget rules over the REST API, through the Infinity plugin, for a Grafana that uses it already.

A query is a *numeric table*: columns of text, which become the labels of an alert, and exactly one column of numbers.
The uids are those of the same rules in :mod:`dashboards.alert_pack`, so that one set replaces the other.
"""

from __future__ import annotations

from typing import Final

from dashboards import llm_cost
from dashboards.alert_rules import AlertGroup, AlertRule, last, math, step, threshold
from dashboards.queries import Json

INFINITY_UID: Final = "llmapi"


def budget_column(ref_id: str, name: str) -> Json:
    """Return a query: the column ``name`` of every budget, labelled with project, id and name of the budget."""
    labels = [{"selector": label, "text": label, "type": "string"} for label in ("project_id", "budget_id", "name")]
    return step(
        ref_id, INFINITY_UID, type="json", source="url", parser="backend", format="table", url="/api/v1/budgets",
        url_options={"method": "GET"}, root_selector="data",
        columns=[*labels, {"selector": name, "text": name, "type": "number"}],
    )  # fmt: skip


_BUDGET: Final = "Budget {{ $labels.name }} of project {{ $labels.project_id }}"
_USED: Final = '{{ printf "%.0f" .Value }} % of the amount of the period is spent.'
_OF_BUDGETS: Final = (llm_cost.BOARD, llm_cost.BUDGETS)

INFINITY_GROUPS: Final = (
    AlertGroup("llm-budgets", "5m", (
        AlertRule(
            uid="llm-budget-warning", title="LLMBudgetWarning", severity="warning",
            summary=f"{_BUDGET} has reached its warning threshold.", description=_USED,
            steps=(budget_column("A", "status_level"), last("B", "A"), budget_column("C", "used_pct"), last("D", "C"),
                   threshold("E", "B", "within_range", 0.5, 1.5)),
            value="D", hold="0s", panel=_OF_BUDGETS,
        ),
        AlertRule(
            uid="llm-budget-critical", title="LLMBudgetCritical", severity="critical",
            summary=f"{_BUDGET} has reached its critical threshold.", description=_USED,
            steps=(budget_column("A", "status_level"), last("B", "A"), budget_column("C", "used_pct"), last("D", "C"),
                   threshold("E", "B", "gt", 1.5)),
            value="D", hold="0s", panel=_OF_BUDGETS,
        ),
        AlertRule(
            uid="llm-budget-projected", title="LLMBudgetProjectedOver", severity="warning",
            summary=f"{_BUDGET} will not last until the end of its period.",
            description='At the rate so far, {{ printf "%.0f" .Value }} % of the amount will be spent. '
                        "The first tenth of a period is not judged: little says little.",
            steps=(budget_column("A", "projected_pct"), last("B", "A"), budget_column("C", "elapsed_pct"),
                   last("D", "C"), math("E", "$B > 100 && $D > 10")),
            value="B", hold="30m", panel=_OF_BUDGETS,
        ),
    )),
)  # fmt: skip
