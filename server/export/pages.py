"""Reading of a list question to its end, page by page, without holding a transaction in between.

An export is made of many short reads: each page is a transaction of its own that continues after the last
row of the page before (keyset paging), so a slow client holds neither a snapshot nor a connection. The
pages are one whole because of the *cut*: the moment of the database's clock at which the export began. Spans
stored after it are left out, so every span that was there is read exactly once and none that came later is.
A span that is replaced by a later report of itself while the export runs counts as stored later.

A database that restarts or has no free connection for a moment is asked again, and so is one whose connections the
caller's other requests hold; the list goes on after the last row that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from server.errors import DatabaseUnavailable, PoolTimeout, QueryTimeout, ShareExhausted
from server.export.span_scores import add_scores
from server.queries.filters.filter_tree import And, Filter, Leaf
from server.queries.filters.span_fields import FIELDS
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import ListPage, list_spans
from server.queries.lists.row_layout import Row
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

FIRST_ROWS: Final = 50
"""Rows of the first page: small, so that the first bytes leave at once."""
FEWEST_ROWS: Final = 10
MOST_ROWS: Final = 5_000
MOST_VALUES: Final = 40_000
"""Values of a page: as Python objects they need some 100 bytes each, also where a format makes nothing of them."""
PAGE_BYTES: Final = 1 << 20
"""Intended size of an encoded page in bytes; the number of rows follows from the size of the rows before."""
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a page is asked for again while the database is away."""

_TRANSIENT: Final = (DatabaseUnavailable, PoolTimeout, QueryTimeout, ShareExhausted)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of an export, in order. ``position`` is where the list goes on; None after the last row."""

    rows: list[Row]
    position: Position | None
    hidden_fields: tuple[str, ...]


class PageReader:
    """The pages of one export. ``encoded`` tells it how large a page became, which sizes the next one."""

    def __init__(
        self,
        database: Database,
        scope: RowScope,
        question: ListQuestion,
        *,
        scores_until: datetime | None = None,
        most_values: int = MOST_VALUES,
    ) -> None:
        """``question`` already has the cut in its filter (:func:`cut_question`) and, if the export is resumed,
        a position. ``scores_until``: rows come with the scores that were added until then. ``most_values``: values of
        a page at most."""
        self._database = database
        self._scope = scope
        self._question = question
        self._scores_until = scores_until
        self._rows = FIRST_ROWS
        self._most = max(FEWEST_ROWS, min(MOST_ROWS, most_values // max(1, len(question.shown()))))

    def encoded(self, rows: int, size: int) -> None:
        """Note that ``rows`` rows became ``size`` bytes."""
        if rows and size:
            wanted = rows * PAGE_BYTES // size
            self._rows = max(FEWEST_ROWS, min(self._most, wanted, self._rows * 4))

    async def pages(self) -> AsyncIterator[Page]:
        """Yield every page; at least one, which may be empty.

        :raises ApiError: the database failed for longer than all pauses together, or the caller may not ask the
        question.
        """
        position = self._question.position
        while True:
            found = await self._read(replace(self._question, position=position, limit=self._rows))
            position = found.next_position
            yield Page(found.rows, position, found.hidden_fields)
            if position is None:
                return

    async def _read(self, question: ListQuestion) -> ListPage:
        for pause in RETRY_SECONDS:
            try:
                return await self._read_once(question)
            except _TRANSIENT:
                await asyncio.sleep(pause)
        return await self._read_once(question)

    async def _read_once(self, question: ListQuestion) -> ListPage:
        found = await list_spans(self._database, self._scope, question)
        if self._scores_until is not None:
            await add_scores(self._database, self._scope, found.rows, self._scores_until)
        return found


async def database_now(database: Database) -> datetime:
    """Return the time of the database's clock: the cut of an export that begins now."""
    async with database.plain() as connection:
        moment: datetime = await connection.fetchval(statement("database_now"))
    return moment


def cut_question(question: ListQuestion, cut: datetime) -> ListQuestion:
    """Leave out what is stored after ``cut``. Whole traces grow span by span and have no such moment."""
    if question.view != "spans":
        return question
    stored: Filter = Leaf(FIELDS["ingested_at"], "lte", cut)
    return replace(question, filter=stored if question.filter is None else And((question.filter, stored)))
