"""Budgets as a table: the spending of each, its projection, and its status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, FrameMeta, table
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from server.queries.records.budgets import list_budgets
from server.reports.budget_report import budget_state
from server.reports.report_window import ReportSource

_MONEY: Final = {"unit": "currencyUSD"}
_STATUS: Final = {
    "mappings": [
        {
            "type": "value",
            "options": {
                "ok": {"color": "green", "index": 0},
                "warning": {"color": "orange", "index": 1},
                "critical": {"color": "red", "index": 2},
            },
        }
    ]
}
_COLUMNS: Final = (
    Column("name", FieldType.STRING, {"displayName": "Budget", "custom": {"minWidth": 140}}),
    Column("applies_to", FieldType.STRING, {"displayName": "Applies to", "custom": {"minWidth": 200}}),
    Column("period", FieldType.STRING, {"displayName": "Period", "custom": {"width": 85}}),
    Column("spent_usd", FieldType.NUMBER, {"displayName": "Spent", "custom": {"width": 100}, **_MONEY}),
    Column("amount_usd", FieldType.NUMBER, {"displayName": "Amount", "custom": {"width": 100}, **_MONEY}),
    Column("used_pct", FieldType.NUMBER, {"displayName": "Used", "unit": "percent", "custom": {"minWidth": 160}}),
    Column("projected_usd", FieldType.NUMBER, {"displayName": "Projected", "custom": {"width": 100}, **_MONEY}),
    Column("projected_pct", FieldType.NUMBER, {"displayName": "Projected use", "unit": "percent", "decimals": 0,
                                               "custom": {"width": 130}}),
    Column("exhausted_at", FieldType.TIME, {"displayName": "Used up at", "custom": {"width": 155}}),
    Column("status", FieldType.STRING, {"displayName": "Status", "custom": {"width": 90}, **_STATUS}),
    Column("project_id", FieldType.STRING, {"displayName": "Project", "custom": {"width": 110}}),
)  # fmt: skip


async def budget_table(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row per budget, the fullest first, at the end of the range (now, if that is in the future)."""
    moment = min(question.time_range.end, datetime.now(UTC))
    source = ReportSource(core.database, core.scope)
    rows: list[list[Any]] = []
    for budget in await list_budgets(core.database, core.scope):
        state = await budget_state(source, budget, moment)
        found = {name: getattr(budget, name, None) for name in budget.__dataclass_fields__} | state
        found["applies_to"] = f"{budget.dimension} {budget.value}" if budget.dimension else "everything"
        rows.append([found[column.name] for column in _COLUMNS])
    used = next(place for place, column in enumerate(_COLUMNS) if column.name == "used_pct")
    rows.sort(key=lambda row: -row[used])
    meta = FrameMeta(notices=list(question.notices))
    # A table of headers alone would hide the panel's own text on how to set the first budget.
    columns = _COLUMNS if rows else ()
    return [table(question.ref_id, question.definition.name, columns, rows, meta)]
