"""Daily figures of coding agents: sessions, lines, commits, edits, active time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

SPLITS: Final = ("day", "kind", "agent", "person", "repository", "model", "tool")
"""Columns that figures can be split by."""
MAX_ROWS: Final = 10_000


async def list_agent_figures(
    database: Database, scope: RowScope, *, start: datetime, end: datetime, figures: Sequence[str], split: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row for each figure and each combination of ``split`` on the days (UTC) from ``start`` to ``end``."""
    wanted = [name in split for name in SPLITS]
    async with database.read(scope) as connection:
        rows = await connection.fetch(
            statement("list_agent_figures"),
            list(scope.projects), start.date(), end.date(), list(figures) or None, *wanted, MAX_ROWS,
        )  # fmt: skip
    shown = ("figure", *(name for name in SPLITS if name in split), "value")
    return [{name: row[name] for name in shown} for row in rows]
