"""Rows as REST shows them: flat, every key always there, times both for people and for Grafana."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from server.queries.time_range import format_instant

Row = dict[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def render_row(row: Row) -> Row:
    """``row`` with each time as RFC 3339 in UTC with microseconds, and for ``ts`` and ``end_ts`` a twin in
    epoch milliseconds (``ts_ms``), which Grafana's Infinity data source reads without a parser."""
    shown: Row = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            shown[name] = format_instant(value)
            if name in {"ts", "end_ts"}:
                shown[f"{name}_ms"] = (value - EPOCH) // timedelta(milliseconds=1)
        elif name == "children":
            shown[name] = [render_row(child) for child in value]
        else:
            shown[name] = value
    return shown
