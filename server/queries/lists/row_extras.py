"""Additions to the rows of a page by ``include``: scores, children, snippets of a search.

Each is one statement per project of the page, in the transaction that read the page.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from server.queries.filters.search_text import SearchQuery, search_query, snippet
from server.queries.lists.list_question import ListQuestion, search_text_of
from server.queries.lists.score_reader import list_scores
from server.storage.row_scope import RowScope
from server.storage.statements import fragment

MOST_CHILDREN: Final = 100
"""Children shown for one row."""
MARGIN: Final = timedelta(days=1)
"""Longest time between a child and its parent, or the start of its trace, within which it is searched for."""
_SNIPPET_FIELDS: Final = ("output_text", "input_text")

Row = dict[str, Any]


async def add_extras(connection: asyncpg.Connection, scope: RowScope, question: ListQuestion, rows: list[Row]) -> None:
    """Add the keys named in ``question.include`` to each of ``rows``."""
    by_project: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_project[row["project_id"]].append(row)
    for project, members in by_project.items():
        if "scores" in question.include:
            await _add_scores(connection, scope, project, members)
        if "children" in question.include:
            await _add_children(connection, project, members)
        if "snippets" in question.include:
            await _add_snippets(connection, scope, question, project, members)


async def _add_scores(connection: asyncpg.Connection, scope: RowScope, project: str, rows: list[Row]) -> None:
    scores = await list_scores(connection, scope, project, list({row["trace_id"] for row in rows}))
    of_trace: dict[str, list[Row]] = defaultdict(list)
    for score in scores:
        of_trace[score["trace_id"]].append(score)
    for row in rows:
        span_id = row.get("span_id")
        row["scores"] = [
            score for score in of_trace[row["trace_id"]] if span_id is None or score["span_id"] in {None, span_id}
        ]


async def _add_children(connection: asyncpg.Connection, project: str, rows: list[Row]) -> None:
    start, end = _window(rows)
    trace_ids = list({row["trace_id"] for row in rows})
    of_spans = "span_id" in rows[0]
    name = "list_children" if of_spans else "list_spans_of_traces"
    parents = [list({row["span_id"] for row in rows})] if of_spans else []
    records = await connection.fetch(
        fragment(name).format(most=MOST_CHILDREN), project, trace_ids, *parents, start, end
    )
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for record in records:
        child = dict(record)
        key = (child["trace_id"], child["parent_span_id"]) if of_spans else (child["trace_id"],)
        found[key].append(child)
    for row in rows:
        row["children"] = found[(row["trace_id"], row["span_id"]) if of_spans else (row["trace_id"],)]


async def _add_snippets(
    connection: asyncpg.Connection, scope: RowScope, question: ListQuestion, project: str, rows: list[Row]
) -> None:
    text = search_text_of(question.filter)
    if text is None or not scope.may_read_content or "span_id" not in rows[0]:
        for row in rows:
            row["snippets"] = []
        return
    start, end = _window(rows)
    records = await connection.fetch(
        fragment("list_search_texts"),
        project,
        list({row["trace_id"] for row in rows}),
        list({row["span_id"] for row in rows}),
        start,
        end,
    )
    query = search_query(text)
    found = {(record["trace_id"], record["span_id"], record["ts"]): _snippets(record, query) for record in records}
    for row in rows:
        row["snippets"] = found.get((row["trace_id"], row["span_id"], row["ts"]), [])


def _snippets(record: asyncpg.Record, query: SearchQuery) -> list[Row]:
    cut = ((name, snippet(record[name], query)) for name in _SNIPPET_FIELDS if record[name])
    return [{"field": name, "snippet": text} for name, text in cut if text is not None]


def _window(rows: list[Row]) -> tuple[datetime, datetime]:
    times = [row["ts"] for row in rows]
    return min(times) - MARGIN, max(times) + MARGIN
