"""Rows as JSON shows them: flat, with every key always present, and times both for people and for Grafana."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from server.text.instants import EPOCH, format_instant

Row = dict[str, Any]
# Columns that are times, and the names of their twins.
TIMES: Final[dict[str, str | None]] = {"ts": "ts_ms", "end_ts": "end_ts_ms", "ingested_at": None}
_MILLISECOND: Final = timedelta(milliseconds=1)


def render_rows(rows: list[Row]) -> list[Row]:
    """Change ``rows``, which all have the same keys, into REST's form.

    Each time becomes RFC 3339 in UTC with microseconds, and ``ts`` and ``end_ts`` get a twin in epoch milliseconds
    (``ts_ms``) at the end, which Grafana's Infinity data source reads without a parser.

    A time that has microseconds stays a datetime: :func:`server.http.envelope.dumps` writes it in that very form.
    """
    if not rows:
        return rows
    for name, twin in TIMES.items():
        if name not in rows[0]:
            continue
        for row in rows:
            moment = row[name]
            if moment is None:
                continue
            if twin is not None:
                row[twin] = (moment - EPOCH) // _MILLISECOND
            if not moment.microsecond:
                row[name] = format_instant(moment)
    for name in ("children", "scores"):
        if name in rows[0]:
            for row in rows:
                row[name] = render_rows([dict(part) for part in row[name]])
    return rows


def render_row(row: Row) -> Row:
    """Return a copy of ``row`` in the form of :func:`render_rows`."""
    return render_rows([dict(row)])[0]
