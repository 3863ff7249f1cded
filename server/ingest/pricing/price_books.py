"""The price book of each project, cached for a moment: the catalogue with the operator's overrides over it."""

from __future__ import annotations

import logging
import time
from typing import Final

import orjson

from server.ingest.pricing.price_book import PriceBook, PriceOverride
from server.ingest.pricing.project_prices import InvalidPrices, ProjectPrices, parse_project_prices
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

logger = logging.getLogger("observatory.ingest")

FRESH_SECONDS: Final = 10.0


class PriceBooks:
    """Reads overrides and the project's own settings.

    a change is in force in every process within :data:`FRESH_SECONDS`, here at once."""

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
        async with self._database.plain() as connection:
            settings = await connection.fetchval(statement("project_price_settings"), project_id)
        overrides = [PriceOverride(**{name: row[name] for name in PriceOverride.__dataclass_fields__}) for row in rows]
        book = PriceBook(overrides, project=_project_prices(project_id, settings))
        self._known[project_id] = (time.monotonic(), book)
        return book

    def forget(self, project_id: str) -> None:
        """Read the overrides of ``project_id`` again at the next use: call after a change."""
        self._known.pop(project_id, None)


def _project_prices(project_id: str, settings: str | None) -> ProjectPrices:
    try:
        return parse_project_prices(orjson.loads(settings or "{}"))
    except InvalidPrices:  # written past the API: calls are stored without it, and can be priced again
        logger.warning("the price settings of a project cannot be used", extra={"project_id": project_id})
        return ProjectPrices()
