"""Scores beside the spans of an export that has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from server.export.otlp_format import SCORES
from server.queries.lists.row_layout import Row
from server.queries.lists.score_reader import scores_until
from server.storage.database import Database
from server.storage.row_scope import RowScope

_TRACES: Final = 200
"""Traces whose scores are read at once."""


async def add_scores(database: Database, scope: RowScope, rows: Sequence[Row], cut: datetime) -> None:
    """Give each of ``rows`` the scores of its span that were added until ``cut``; a root has those of its trace, too.

    Raises the errors of :class:`Database`.
    """
    traces: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        traces[row["project_id"]][row["trace_id"]] = None
    found: defaultdict[tuple[str, str, str | None], list[dict[str, Any]]] = defaultdict(list)
    for project, ids in traces.items():
        named = list(ids)
        for first in range(0, len(named), _TRACES):
            async with database.read(scope) as connection:
                for score in await scores_until(connection, scope, project, named[first : first + _TRACES], cut):
                    found[project, score["trace_id"], score["span_id"]].append(score)
    for row in rows:
        key = row["project_id"], row["trace_id"]
        row[SCORES] = [
            *found.get((*key, row["span_id"]), ()),
            *(() if row["parent_span_id"] else found.get((*key, None), ())),
        ]
