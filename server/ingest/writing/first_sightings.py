"""First spans of service versions, models and prompt versions, noted as they are stored.

The span writer calls this after COMMIT with the spans it stored. Known versions are cached in the process, so only
something new, or a span older than the first known one, costs a statement. A failure is logged and repaired by the next
span of that version, because only success is cached.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from cachetools import LRUCache

from server.errors import ApiError
from server.ingest.writing.prepared_span import COLUMNS, DIMENSIONS, PreparedSpan
from server.storage.database import Database
from server.storage.statements import statement

logger = logging.getLogger("observatory.ingest")

MAX_REMEMBERED: Final = 50_000
MAX_LENGTH: Final = 200

Sighted = tuple[str, str, str]
"""Kind, owner, value: ``("service_version", "checkout", "1.4.2")``."""

_SERVICE_VERSION: Final = COLUMNS.index("service_version")
_SERVICE, _PROVIDER, _MODEL, _PROMPT, _PROMPT_VERSION, _IS_GENERATION = (
    DIMENSIONS.index(name)
    for name in ("service_name", "provider", "model", "prompt_name", "prompt_version", "is_generation")
)


def sighted(span: PreparedSpan) -> Iterator[Sighted]:
    """Yield the versions that ``span`` shows."""
    dimension, service_version = span.dimension, span.values[_SERVICE_VERSION]
    if service_version and dimension[_SERVICE]:
        yield "service_version", dimension[_SERVICE], service_version
    if dimension[_MODEL] and dimension[_IS_GENERATION]:
        yield "model", dimension[_PROVIDER] or "", dimension[_MODEL]
    if dimension[_PROMPT] and dimension[_PROMPT_VERSION]:
        yield "prompt_version", dimension[_PROMPT], dimension[_PROMPT_VERSION]


def earliest(spans: Iterable[PreparedSpan]) -> Iterable[PreparedSpan]:
    """Return, of spans with the same versions, the first in time."""
    first: dict[tuple[object, ...], PreparedSpan] = {}
    for span in spans:
        shown = (span.project_id, span.dimension, span.values[_SERVICE_VERSION])
        other = first.setdefault(shown, span)
        if span.ts < other.ts:
            first[shown] = span
    return first.values()


class FirstSightings:
    """Keeps ``first_sightings`` up to date for one writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: LRUCache[tuple[str, Sighted], datetime] = LRUCache(MAX_REMEMBERED)

    async def note(self, spans: Iterable[PreparedSpan]) -> None:
        """Record new versions in ``spans``, which were stored. Never raises for the database."""
        news: dict[str, dict[Sighted, datetime]] = {}
        for span in earliest(spans):
            for seen in sighted(span):
                known = self._known.get((span.project_id, seen))
                if known is None or span.ts < known:
                    found = news.setdefault(span.project_id, {})
                    found[seen] = min(span.ts, found.get(seen, span.ts))
        for project_id, found in news.items():
            await self._record(project_id, sorted((seen, at) for seen, at in found.items() if is_storable(seen)))

    async def _record(self, project_id: str, found: list[tuple[Sighted, datetime]]) -> None:
        if not found:
            return
        columns = [[seen[place] for seen, _ in found] for place in range(3)]
        try:
            async with self._database.write((project_id,)) as connection:
                await connection.fetch(statement("record_sightings"), project_id, *columns, [at for _, at in found])
        except ApiError as error:
            logger.warning("first sightings were not stored", extra={"code": error.code, "project_id": project_id})
            return
        for seen, at in found:
            self._known[project_id, seen] = at


def is_storable(seen: Sighted) -> bool:
    """Return whether a name has a usual length: others are not versions that anybody would look for in a chart."""
    return max(map(len, seen)) <= MAX_LENGTH
