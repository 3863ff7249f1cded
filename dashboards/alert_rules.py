"""Alert rules for Grafana, in the form in which it provisions them.

Grafana's alerting asks from its back end, where the JSON data source cannot follow: rules ask the REST API through the
Infinity data source. A query is a *numeric table*: columns of text, which become the labels of an alert, and exactly
one column of numbers. Names are those of mixins: what is wrong, in CamelCase, with a label ``severity``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards import llm_cost
from dashboards.board import Board
from dashboards.queries import Json

INFINITY_UID: Final = "llmapi"
RUNBOOK: Final = "docs/how-to/alert-on-budgets.md"
_EXPRESSION: Final = "__expr__"
_RANGE: Final = {"from": 600, "to": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule. ``steps`` are queries and expressions; the last decides: not 0 means firing. ``uid`` never changes."""

    uid: str
    title: str
    severity: str
    summary: str
    description: str
    steps: tuple[Json, ...]
    hold: str
    panel: tuple[Board, str]

    def render(self) -> Json:
        """Return the rule as the provisioning file has it."""
        board, title = self.panel
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": self.steps[-1]["refId"],
            "for": self.hold,
            # No budgets, no answer: that is no alarm. An answer that does not come is one.
            "noDataState": "OK",
            "execErrState": "Error",
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": RUNBOOK,
                "__dashboardUid__": board.uid,
                "__panelId__": str(_panel_id(board, title)),
            },
            "data": list(self.steps),
        }


def budget_column(ref_id: str, name: str) -> Json:
    """Return a query: the column ``name`` of every budget, labelled with project, id and name of the budget."""
    labels = [{"selector": label, "text": label, "type": "string"} for label in ("project_id", "budget_id", "name")]
    return _step(
        ref_id, INFINITY_UID, type="json", source="url", parser="backend", format="table", url="/api/v1/budgets",
        url_options={"method": "GET"}, root_selector="data",
        columns=[*labels, {"selector": name, "text": name, "type": "number"}],
    )  # fmt: skip


def last(ref_id: str, of: str) -> Json:
    """Return an expression: the newest number of each label set of ``of``."""
    return _step(ref_id, _EXPRESSION, type="reduce", expression=of, reducer="last")


def threshold(ref_id: str, of: str, kind: str, *bounds: float) -> Json:
    """Return an expression: 1 where ``of`` is ``gt`` its bound, or within (without) two bounds: ``within_range``."""
    return _step(
        ref_id, _EXPRESSION, type="threshold", expression=of,
        conditions=[{"evaluator": {"type": kind, "params": list(bounds)}}],
    )  # fmt: skip


def math(ref_id: str, expression: str) -> Json:
    """Return an expression over other steps, such as ``$C > 100 && $D > 10``; what is compared has the same labels."""
    return _step(ref_id, _EXPRESSION, type="math", expression=expression)


def _step(ref_id: str, datasource: str, **model: object) -> Json:
    return {
        "refId": ref_id,
        "relativeTimeRange": dict(_RANGE),
        "datasourceUid": datasource,
        "model": {"refId": ref_id, **model},
    }


def _panel_id(board: Board, title: str) -> int:
    (found,) = [panel["id"] for panel in board.render()["panels"] if panel["title"] == title]
    return int(found)


_BUDGET: Final = "Budget {{ $labels.name }} of project {{ $labels.project_id }}"
_USED: Final = '{{ printf "%.0f" $values.D.Value }} % of the amount of the period is spent.'
_OF_BUDGETS: Final = (llm_cost.BOARD, llm_cost.BUDGETS)

BUDGET_RULES: Final = (
    AlertRule(
        uid="llm-budget-warning", title="LLMBudgetWarning", severity="warning",
        summary=f"{_BUDGET} has reached its warning threshold.", description=_USED,
        steps=(budget_column("A", "status_level"), last("B", "A"), budget_column("C", "used_pct"), last("D", "C"),
               threshold("E", "B", "within_range", 0.5, 1.5)),
        hold="0s", panel=_OF_BUDGETS,
    ),
    AlertRule(
        uid="llm-budget-critical", title="LLMBudgetCritical", severity="critical",
        summary=f"{_BUDGET} has reached its critical threshold.", description=_USED,
        steps=(budget_column("A", "status_level"), last("B", "A"), budget_column("C", "used_pct"), last("D", "C"),
               threshold("E", "B", "gt", 1.5)),
        hold="0s", panel=_OF_BUDGETS,
    ),
    AlertRule(
        uid="llm-budget-projected", title="LLMBudgetProjectedOver", severity="warning",
        summary=f"{_BUDGET} will not last until the end of its period.",
        description='At the rate so far, {{ printf "%.0f" $values.B.Value }} % of the amount will be spent. '
                    "The first tenth of a period is not judged: little says little.",
        steps=(budget_column("A", "projected_pct"), last("B", "A"), budget_column("C", "elapsed_pct"), last("D", "C"),
               math("E", "$B > 100 && $D > 10")),
        hold="30m", panel=_OF_BUDGETS,
    ),
)  # fmt: skip


def groups() -> list[Json]:
    """Return all groups of rules: the value of ``groups`` in a provisioning file."""
    return [
        {
            "orgId": 1,
            "name": "llm-budgets",
            "folder": "LLM Observatory",
            "interval": "5m",
            "rules": [rule.render() for rule in BUDGET_RULES],
        }
    ]
