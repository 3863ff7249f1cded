"""The shop's three budgets: one that is fine, one nearly used up, and one exceeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from server.demo.sender import Sender

PROJECT: Final = "demo"
LEAST_USD: Final = 0.5


@dataclass(frozen=True, slots=True)
class DemoBudget:
    """A budget whose amount is chosen so that ``used`` of it (1: all) is spent when the demo starts."""

    budget_id: str
    name: str
    used: float
    dimension: str = ""
    value: str = ""


BUDGETS: Final = (
    DemoBudget("all-models", "All models", 0.42),
    DemoBudget("support", "Support assistant", 0.87, "service", "support-assistant"),
    DemoBudget("reports", "Reports", 1.18, "service", "report-writer"),
)


def set_budgets(sender: Sender, admin_token: Callable[[], str]) -> None:
    """Create the budgets that do not exist yet; existing ones keep the changes that somebody made."""
    known = {item["budget_id"] for item in sender.get("/api/v1/budgets", admin_token())["data"]}
    for budget in BUDGETS:
        if budget.budget_id in known:
            continue
        question: dict[str, Any] = {"metric": "cost", "from": "now-30d", "to": "now"}
        if budget.dimension:
            question[budget.dimension] = budget.value
        found = sender.get("/api/v1/metrics", admin_token(), question)["data"]
        spent = sum(float(row["value"] or 0) for row in found)
        body: dict[str, Any] = {
            "name": budget.name,
            "amount_usd": f"{max(spent / budget.used, LEAST_USD):.2f}",
            "period": "month",
        }
        if budget.dimension:
            body |= {"dimension": budget.dimension, "value": budget.value}
        sender.put(f"/api/v1/budgets/{PROJECT}/{budget.budget_id}", body, admin_token())
