"""Spans that were stored since a reader last looked, each once, with the filters that each matches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import Filter
from server.queries.lists.feed_position import FeedPosition
from server.queries.lists.list_question import Sort
from server.queries.lists.row_layout import Row, row_layout
from server.queries.lists.shown_rows import render_rows
from server.storage.row_scope import RowScope
from server.storage.statements import fragment, statement

FEED_ROWS: Final = 8
"""Rows of the feed that one statement reads; each row names the spans of one transaction and project."""
MOST_BINDS: Final = 500
"""Most comparisons in all filters of one statement; a single filter may have about as many."""
_TIME: Final = (Sort("ts"),)


@dataclass(frozen=True, slots=True)
class Change:
    """A span that is new, or (``is_update``) that replaced an earlier report of itself."""

    project_id: str
    trace_id: str
    span_id: str
    ts: datetime
    is_update: bool
    position: FeedPosition
    """Behind it."""

    @property
    def key(self) -> tuple[str, str, str, datetime]:
        """The values that identify its row."""
        return self.project_id, self.trace_id, self.span_id, self.ts


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Some changes in their order, and the position after them. ``has_more``: others can be read at once."""

    changes: list[Change]
    position: FeedPosition
    has_more: bool


async def feed_now(connection: asyncpg.Connection) -> FeedPosition:
    """Return the position after everything that the transaction of ``connection`` sees."""
    return FeedPosition(await connection.fetchval(statement("feed_now")))


async def read_feed(
    connection: asyncpg.Connection, position: FeedPosition, *, most: int, until: FeedPosition | None = None
) -> FeedPage:
    """Return about ``most`` changes after ``position``, in a transaction with one snapshot for all statements.

    ``until``: stop at this position, whose own ``until`` must be empty.
    """
    snapshot = position.until or (until or await feed_now(connection)).after
    rows = await connection.fetch(
        statement("read_feed"), position.after, snapshot, position.seq - bool(position.place), FEED_ROWS + 1
    )
    changes: list[Change] = []
    for row in rows[:FEED_ROWS]:
        skipped = position.place if row["seq"] == position.seq else 0
        spans = zip(row["trace_ids"], row["span_ids"], row["starts"], row["updates"], strict=True)
        for place, (trace_id, span_id, start, is_update) in enumerate(spans, 1):
            if place <= skipped:
                continue
            if len(changes) == most:
                return FeedPage(_latest(changes), changes[-1].position, True)
            behind = position.behind(row["seq"], place, snapshot)
            changes.append(Change(row["project_id"], trace_id, span_id, start, is_update, behind))
    if len(rows) > FEED_ROWS:
        last = rows[FEED_ROWS - 1]
        return FeedPage(_latest(changes), position.behind(last["seq"], len(last["span_ids"]), snapshot), True)
    end = FeedPosition(snapshot)
    has_more = bool(position.until) and (until is None or until.after != snapshot)
    return FeedPage(_latest(changes), end, has_more)


def _latest(changes: list[Change]) -> list[Change]:
    """Leave out a change of a span that changes again later: both would show the row as it is now."""
    last = {change.key: index for index, change in enumerate(changes)}
    if len(last) == len(changes):
        return changes
    came = {change.key for change in changes if not change.is_update}
    return [
        Change(*change.key, change.is_update and change.key not in came, change.position)
        for index, change in enumerate(changes)
        if last[change.key] == index
    ]


@dataclass(frozen=True, slots=True)
class ChangedSpan:
    """A change with its row, as lists show it. ``matches``: the indexes of the filters that the row passes."""

    change: Change
    row: Row
    matches: tuple[int, ...]


async def read_changed_spans(
    connection: asyncpg.Connection,
    scope: RowScope,
    fields: tuple[str, ...],
    filters: Sequence[Filter | None],
    changes: Sequence[Change],
    *,
    clipped: tuple[str, ...] = (),
) -> list[ChangedSpan]:
    """Return those of ``changes`` that pass at least one of ``filters``, with ``fields``. A span that is gone is left
    out. Of the fields ``clipped``, rows have the first characters, and one more if the text is longer.
    """
    if not changes:
        return []
    layout = row_layout("spans", fields, _TIME, scope.may_read_content, None, clipped)
    params: list[Any] = [list(column) for column in zip(*(change.key for change in changes), strict=True)]
    predicates = ["true" if tree is None else compile_filter(tree, params, scope=scope) for tree in filters]
    text = fragment("list_changed_spans").format(
        columns=layout.columns,
        matches=", ".join(f"({predicate}) IS TRUE AS matches_{n}" for n, predicate in enumerate(predicates)),
        any_match="true" if None in filters else " OR ".join(f"({predicate})" for predicate in predicates),
    )
    if layout.clipped:
        others = ", ".join(("place", *(f"matches_{n}" for n in range(len(filters)))))
        text = fragment("clip_changed_spans").format(spans=text, columns=layout.preview_columns, others=others)
    # Sorted in the order of the feed, which differs from that of the rows: sorting here costs less than in the
    # statement.
    first = -len(filters)
    records = sorted(await connection.fetch(text, *params), key=lambda record: int(record[first - 1]))
    rows = render_rows(layout.rows(records))
    return [
        ChangedSpan(
            changes[record[first - 1] - 1], row, tuple(n for n, is_match in enumerate(record[first:]) if is_match)
        )
        for record, row in zip(records, rows, strict=True)
    ]


def filter_groups(filters: Iterable[Filter | None]) -> list[list[Filter | None]]:
    """Put ``filters`` into groups that fit into one statement each."""
    groups: list[list[Filter | None]] = []
    room = 0
    for tree in filters:
        binds: list[Any] = []
        if tree is not None:
            compile_filter(tree, binds, scope=RowScope(()))
        if not groups or len(binds) + 1 > room:
            groups.append([])
            room = MOST_BINDS
        groups[-1].append(tree)
        room -= len(binds) + 1
    return groups
