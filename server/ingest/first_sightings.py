"""Notices the first span of a service version, a model or a prompt version.

Called by the span writer after COMMIT with what it stored. What is already known is remembered in the
process, so that only something new, or a span older than the first known one, costs a statement. A
failure is logged and mended by the next span of that version: the memory is only filled on success.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from server.database import Database
from server.errors import ApiError
from server.ingest.span_record import SpanRecord
from server.queries.statements import statement

logger = logging.getLogger("observatory.ingest")

MAX_REMEMBERED: Final = 50_000
MAX_LENGTH: Final = 200

Sighted = tuple[str, str, str]
"""Kind, owner, value: ``("service_version", "checkout", "1.4.2")``."""


def sighted(span: SpanRecord) -> Iterator[Sighted]:
    """What ``span`` shows of versions."""
    if span.service_name and span.service_version:
        yield "service_version", span.service_name, span.service_version
    if span.is_generation and span.model:
        yield "model", span.provider or "", span.model
    if span.prompt_name and span.prompt_version:
        yield "prompt_version", span.prompt_name, span.prompt_version


class FirstSightings:
    """Keeps ``first_sightings`` up to date; shared by all writers of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[tuple[str, Sighted], datetime] = OrderedDict()

    async def note(self, project_id: str, spans: Iterable[SpanRecord]) -> None:
        """Record what is new in ``spans``, which were stored for ``project_id``. Never raises for the database."""
        earliest: dict[Sighted, datetime] = {}
        for span in spans:
            for seen in sighted(span):
                if max(map(len, seen)) <= MAX_LENGTH and (seen not in earliest or span.ts < earliest[seen]):
                    earliest[seen] = span.ts
        new = sorted((seen, at) for seen, at in earliest.items() if self._is_news(project_id, seen, at))
        if not new:
            return
        try:
            async with self._database.write((project_id,)) as connection:
                await connection.fetch(
                    statement("record_sightings"),
                    project_id,
                    [seen[0] for seen, _ in new],
                    [seen[1] for seen, _ in new],
                    [seen[2] for seen, _ in new],
                    [at for _, at in new],
                )
        except ApiError as error:
            logger.warning("first sightings were not stored", extra={"code": error.code, "project_id": project_id})
            return
        for seen, at in new:
            self._known[project_id, seen] = at
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _is_news(self, project_id: str, seen: Sighted, at: datetime) -> bool:
        known = self._known.get((project_id, seen))
        return known is None or at < known
