"""Content that several spans carry, stored once: the layout ``shared``.

A call of an agent carries the whole conversation before it. Its messages become rows of ``content_parts``, one a
project and week, under a hash with a key of the project; the span holds the list of their ids. So do the attributes of
its resource, which become a row of ``span_resources``.

A process remembers the parts that it has stored, so that a turn which repeats twenty messages sends one. Nobody
removes parts while a writer holds their project (``hold_content``), and a removal raises the project's generation,
after which nothing counts that was remembered before.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID  # hashed in a fifth of the time

from server.ingest.writing.content_layout import ContentPart
from server.ingest.writing.content_start import ALWAYS, NEVER
from server.ingest.writing.prepared_span import MONDAY, WEEK, PreparedSpan
from server.ingest.writing.text_vector import is_plain, text_vector
from server.queries.filters.search_text import search_document
from server.storage.database import Database
from server.storage.statements import statement

MOST_REMEMBERED: Final = 50_000
"""Parts that a process knows to be stored: 10 MB."""

MOST_RESOURCES: Final = 10_000
"""Resources of one project in one week; a process that has met as many leaves further ones in their spans. So the
table stays small, and filters need not look for each span.
"""

LONGEST_PLAIN: Final = 4096
"""Characters of a part whose words are not stored but those of its text: to look for a word in a text takes as long as
the text is.
"""

PartKey = tuple[str, datetime, UUID]
"""Project, start of the week, and id of a part or resource."""


class KeysChanged(Exception):
    """A project has another key than a moment ago: it was deleted for good, and made again."""


@dataclass(slots=True)
class ContentBatch:
    """The parts and resources of a batch of spans."""

    parts: dict[PartKey, ContentPart] = field(default_factory=dict)
    resources: dict[PartKey, str] = field(default_factory=dict)
    """Attributes as JSON."""
    keys: dict[str, bytes] = field(default_factory=dict)
    """Keys of the batch's projects."""
    generations: dict[str, int] = field(default_factory=dict)
    """Generations of the projects, as the transaction that stores the batch sees them."""
    named: int = 0
    """Number of parts that its spans name."""
    added: list[PartKey] = field(default_factory=list)
    """Parts that were not there."""
    added_resources: list[PartKey] = field(default_factory=list)
    words: int = 0
    """About how many entries those add to the text index, and spans to the index of parts."""


class SharedParts:
    """The stored parts and the keys of projects that a process knows."""

    def __init__(self, database: Database, *, full_text: bool, most_resources: int = MOST_RESOURCES) -> None:
        self._database = database
        self._full_text = full_text
        self._most_resources = most_resources
        self._keys: dict[str, bytes] = {}
        self._plain_from = NEVER
        """Start of the first week of parts whose words are those of their text."""
        self._stored: OrderedDict[PartKey, int] = OrderedDict()
        """Parts and resources that are stored, with the generation in which they were."""
        self._met: Counter[tuple[str, datetime]] = Counter()
        """Number of resources by project and week."""

    async def name(self, batch: Iterable[PreparedSpan]) -> ContentBatch | None:
        """Give each span with shared content or resource the ids of them; None if there is none. Raises the errors of
        :class:`Database`.
        """
        spans = [span for span in batch if span.content is not None or span.resource is not None]
        if not spans:
            return None
        found = ContentBatch(keys=await self._keys_of(sorted({span.project_id for span in spans})))
        suffix = b"" if self._full_text else b"\0"  # parts without words are others
        resource_ids: dict[tuple[str, int, str], UUID | None] = {}
        part_ids: dict[tuple[str, int], dict[int, UUID]] = {}
        for span in spans:
            project = span.key[0]
            key, week = found.keys[project], MONDAY + span.week * WEEK
            if span.resource is not None:
                place = project, span.week, span.resource
                if place not in resource_ids:
                    resource_ids[place] = self._name_resource(found, key, (project, week), span.resource)
                span.set_resource(resource_ids[place])
            if span.content is None:
                continue
            # Spans of one conversation have not only equal parts, but the same ones.
            known = part_ids.setdefault((project, span.week), {})
            for part in span.content.parts:
                if id(part) not in known:
                    known[id(part)] = part_id = part.id_under(key, suffix)
                    found.parts[project, week, part_id] = part
            span.set_parts([known[id(part)] for part in span.content.parts])
            found.named += len(span.content.parts)
        return found

    def _name_resource(
        self, batch: ContentBatch, key: bytes, place: tuple[str, datetime], attributes: str
    ) -> UUID | None:
        """Return the id of the resource, and note it in ``batch``; None: its spans keep the attributes."""
        data = f"resource of {place[1]:%Y%m%d}\0{attributes}".encode()
        resource_id = UUID(hashlib.blake2b(data, digest_size=16, key=key).digest())
        if (*place, resource_id) not in self._stored and self._met[place] >= self._most_resources:
            return None
        batch.resources[*place, resource_id] = attributes
        return resource_id

    async def store(self, connection: asyncpg.Connection, batch: ContentBatch) -> None:
        """Hold the projects, and store the parts and resources that are not there, within the transaction of the spans.

        Raises :class:`KeysChanged`, after which the batch must be named again in a new transaction.
        """
        batch.added, batch.added_resources, batch.words = [], [], batch.named
        held = await connection.fetch(statement("hold_content"), sorted(batch.keys))
        if {row["project_id"]: row["key"] for row in held} != batch.keys:
            for project in batch.keys:
                self._keys.pop(project, None)
            raise KeysChanged
        batch.generations = {row["project_id"]: row["generation"] for row in held}
        await self._store_resources(connection, batch)
        missing = self._missing(batch, batch.parts)
        if not missing:
            return
        rows, entries = zip(*(self._row(key, batch.parts[key]) for key in missing), strict=True)
        columns = [list(column) for column in zip(*rows, strict=True)]
        for row in await connection.fetch(statement("store_content_parts"), *columns):
            batch.added.append((row["project_id"], row["week"], row["part_id"]))
        if batch.added:
            batch.words += sum(entries) * len(batch.added) // len(missing)

    async def _store_resources(self, connection: asyncpg.Connection, batch: ContentBatch) -> None:
        missing = self._missing(batch, batch.resources)
        if missing:
            columns = map(list, zip(*((*key, batch.resources[key]) for key in missing), strict=True))
            added = await connection.fetch(statement("store_resources"), *columns)
            batch.added_resources = [(row["project_id"], row["week"], row["resource_id"]) for row in added]

    def _missing(self, batch: ContentBatch, keys: Iterable[PartKey]) -> list[PartKey]:
        """Return those that this process does not know to be stored, in their order."""
        return sorted(key for key in keys if self._stored.get(key) != batch.generations[key[0]])

    async def note_unused(
        self, connection: asyncpg.Connection, batch: ContentBatch, spans: Iterable[PreparedSpan]
    ) -> None:
        """Have it looked at later whether what was added for ``spans`` is used: some were not stored."""
        named = {part for span in spans for part in (*span.part_ids(), span.resource_id())}
        for note, added in (("note_content", batch.added), ("note_resources", batch.added_resources)):
            unused = [key for key in added if key[2] in named]
            if unused:
                await connection.fetch(statement(note), *map(list, zip(*unused, strict=True)))

    def remember(self, batch: ContentBatch) -> None:
        """Know, after COMMIT, that parts and resources are stored."""
        if len(self._met) > MOST_REMEMBERED:
            self._met.clear()
        self._met.update(key[:2] for key in batch.resources if key not in self._stored)
        for key in (*batch.parts, *batch.resources):
            self._stored[key] = batch.generations[key[0]]
            self._stored.move_to_end(key)
        while len(self._stored) > MOST_REMEMBERED:
            self._stored.popitem(last=False)

    async def _keys_of(self, projects: Sequence[str]) -> dict[str, bytes]:
        unknown = [project for project in projects if project not in self._keys]
        if unknown:
            async with self._database.write(unknown) as connection:
                await connection.fetch(statement("make_content_keys"), unknown)
                rows = await connection.fetch(statement("read_content_keys"), unknown)
                self._plain_from = await connection.fetchval(statement("read_words_start"), ALWAYS)
            self._keys |= {row["project_id"]: row["key"] for row in rows}
        return {project: self._keys[project] for project in projects}

    def _row(self, key: PartKey, part: ContentPart) -> tuple[tuple[Any, ...], int]:
        """Return the arguments of store_content_parts for one part, and about how many words it has."""
        document = search_document(part.words) if self._full_text else ""
        place = (*key, part.body, part.text)
        is_new = key[1] >= self._plain_from
        if document and is_new and len(document) <= LONGEST_PLAIN and _is_plain(part, document):
            return (*place, None, None), len(set(document.split()))
        vector = text_vector(document)
        if vector is None:
            return (*place, None, document), document.count(" ")
        return (*place, vector, None), int.from_bytes(vector[:4], "big")


def _is_plain(part: ContentPart, document: str) -> bool:
    """Return whether the database finds the words of ``part`` in its text."""
    # plain_text() takes the content of a message for its text: that of a tool may have content beside its response.
    is_clear = part.text is not None or '"tool_call_response"' not in part.body or '"content":' not in part.body
    return is_clear and is_plain(part.words, document)
