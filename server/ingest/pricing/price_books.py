"""The price book of each project, cached for a moment: the catalogue with the operator's overrides over it."""

from __future__ import annotations

import time
from typing import Final

from server.ingest.pricing.price_book import PriceBook, PriceOverride
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

FRESH_SECONDS: Final = 10.0


class PriceBooks:
    """Reads overrides; a change is in force in every process within :data:`FRESH_SECONDS`, here at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, PriceBook]] = {}

    async def of(self, project_id: str) -> PriceBook:
        """Return the prices of ``project_id``. Raises the errors of :class:`Database`."""
        known = self._known.get(project_id)
        if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
            return known[1]
        async with self._database.read(RowScope((project_id,))) as connection:
            rows = await connection.fetch(statement("list_price_overrides"), project_id)
        book = PriceBook(
            PriceOverride(**{name: row[name] for name in PriceOverride.__dataclass_fields__}) for row in rows
        )
        self._known[project_id] = (time.monotonic(), book)
        return book

    def forget(self, project_id: str) -> None:
        """Read the overrides of ``project_id`` again at the next use: call after a change."""
        self._known.pop(project_id, None)
