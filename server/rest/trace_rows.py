"""Rows as REST shows them: flat, every key always there, times both for people and for Grafana."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from server.queries.time_range import format_instant

Row = dict[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Columns that are times, and what their twin is called.
TIMES: Final[dict[str, str | None]] = {"ts": "ts_ms", "end_ts": "end_ts_ms", "ingested_at": None}
_MILLISECOND: Final = timedelta(milliseconds=1)


def render_row(row: Row) -> Row:
    """``row`` with each time as RFC 3339 in UTC with microseconds, and for ``ts`` and ``end_ts`` a twin in
    epoch milliseconds (``ts_ms``) at the end, which Grafana's Infinity data source reads without a parser."""
    shown = dict(row)
    for name, twin in TIMES.items():
        moment = shown.get(name)
        if moment is not None:
            shown[name] = format_instant(moment)
            if twin is not None:
                shown[twin] = (moment - EPOCH) // _MILLISECOND
    for name in ("children", "scores"):
        if name in shown:
            shown[name] = [render_row(part) for part in shown[name]]
    return shown
