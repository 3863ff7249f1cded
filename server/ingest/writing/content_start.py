"""From when on new spans have their content in parts, the results of tools too, and resource attributes elsewhere."""

from __future__ import annotations

from typing import Final

from server.content_settings import AUTO, INLINE
from server.distribution_settings import NONE
from server.storage.database import Database
from server.storage.statements import statement
from server.text.instants import EARLIEST, LATEST

NEVER: Final = LATEST
ALWAYS: Final = EARLIEST


class ContentStart:
    """The moment from which content is shared: by the setting, or with ``auto`` by the database."""

    def __init__(self, layout: str, database: Database) -> None:
        self._database = database
        self.may_share = layout != INLINE and database.distribution == NONE
        self._is_auto = layout == AUTO
        self._is_open = self.may_share
        self.moment = ALWAYS if self.may_share and not self._is_auto else NEVER
        """The start of the first spans whose content is shared."""
        self.resources = NEVER
        """The same of resource attributes, never before :attr:`moment`."""
        self.results = NEVER
        """The same of the results of tools."""

    async def learn(self) -> None:
        """Ask the database, once. Raises the errors of :class:`Database`."""
        if self._is_open:
            async with self._database.plain() as connection:
                begins = ALWAYS
                if self._is_auto:
                    begins = await connection.fetchval(statement("read_content_start"), ALWAYS)
                resources = await connection.fetchval(statement("read_resource_start"), begins)
                results = await connection.fetchval(statement("read_result_start"), begins)
            self.moment, self.resources, self.results, self._is_open = begins, resources, results, False
