"""From spans to stored vectors: read their content, embed new texts, store."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from server.embedding.embedder import Embedder, EmbedderFailed, TextRefused
from server.embedding.vectors import from_bytes, to_bits, to_bytes, to_sizes
from server.errors import ApiError, DatabaseUnavailable
from server.queries.lists.change_reader import Change, read_changed_spans
from server.queries.lists.feed_position import FeedPosition
from server.semantic.backlog import SpanKey
from server.semantic.embedding_models import EmbeddingModel
from server.semantic.span_text import NEEDED_FIELDS, added_text, text_hash
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.telemetry.observations import TextsEmbedded, observe

ATTEMPTS: Final = 4
WEEK: Final = timedelta(days=7)

StoredVector = bytes
"""A vector in half precision."""


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a batch."""

    tokens: int
    absent: frozenset[str]
    """Projects whose node of the database is away: nothing of theirs is stored."""


@dataclass(frozen=True, slots=True)
class _ReadSpan:
    key: SpanKey
    version: int
    text: str | None
    is_update: bool

    @property
    def hash(self) -> bytes | None:
        return None if self.text is None else text_hash(self.text)


class VectorWriter:
    """Makes the vectors of batches of spans."""

    def __init__(self, reads: Database, writes: Database, embedder: Embedder, *, price: float) -> None:
        """``price``: US dollars for a million tokens."""
        self._reads = reads
        self._writes = writes
        self._embedder = embedder
        self._price = price
        self._days: set[date] = set()

    async def write(self, model: EmbeddingModel, batch: Sequence[tuple[SpanKey, bool]]) -> Written:
        """Store the vectors of ``batch``, each span with whether it is an update.

        Equal texts of a project are embedded once. A text that the embedder refuses counts as nothing to embed.

        :raises EmbedderFailed: nothing is stored then.
        """
        started = time.monotonic()
        by_project: dict[str, list[tuple[SpanKey, bool]]] = defaultdict(list)
        for key, is_update in batch:
            by_project[key.project_id].append((key, is_update))
        spans: dict[str, list[_ReadSpan]] = {}
        known: dict[tuple[str, bytes], StoredVector] = {}
        absent: set[str] = set()
        for project, keys in by_project.items():
            try:
                read = await self._read(project, keys)
                hashes = list({span.hash for span in read if span.hash is not None})
                known |= {(project, found): vector for found, vector in await self._known(project, model, hashes)}
            except DatabaseUnavailable as error:
                if not error.absent:
                    raise
                absent.add(project)
            else:
                spans[project] = read
        new = {
            (project, span.hash): span.text
            for project, read in spans.items()
            for span in read
            if span.hash is not None and span.text is not None and (project, span.hash) not in known
        }
        made, tokens = await self._embedded(model, list(dict.fromkeys(new.values())))
        known |= {place: made[text] for place, text in new.items() if text in made}
        stored = 0
        for project, read in spans.items():
            try:
                stored += await self._store(project, model, read, known)
            except ApiError as error:
                if isinstance(error, DatabaseUnavailable) and error.absent:
                    absent.add(project)
                    continue
                self._days.clear()  # a week that retention dropped is made again
                raise
        cost = tokens * self._price / 1e6
        observe(TextsEmbedded(len(made), stored, tokens, cost, time.monotonic() - started))
        return Written(tokens, frozenset(absent))

    async def _read(self, project: str, keys: Sequence[tuple[SpanKey, bool]]) -> list[_ReadSpan]:
        """Return the spans that still exist, with their texts: the only place that reads content."""
        updates = {_id(key): is_update for key, is_update in keys}
        columns = [list(column) for column in zip(*updates, strict=True)]
        changes = [Change(project, *found, False, FeedPosition("")) for found in updates]
        async with self._reads.read(RowScope((project,))) as connection:
            versions = await connection.fetch(statement("list_span_versions"), project, *columns)
            rows = await read_changed_spans(connection, RowScope((project,)), NEEDED_FIELDS, [None], changes)
        texts = {(row.change.trace_id, row.change.span_id, row.change.ts): added_text(row.row) for row in rows}
        return [
            _ReadSpan(
                SpanKey(ts, project, trace_id, span_id),
                version,
                texts.get((trace_id, span_id, ts)),
                updates[trace_id, span_id, ts],
            )
            for trace_id, span_id, ts, version in versions
        ]

    async def _known(
        self, project: str, model: EmbeddingModel, hashes: Sequence[bytes]
    ) -> list[tuple[bytes, StoredVector]]:
        if not hashes:
            return []
        async with self._reads.read(RowScope((project,))) as connection:
            records = await connection.fetch(statement("known_vectors"), project, model.model_id, hashes)
        return [(record["text_hash"], record["vector"]) for record in records]

    async def _embedded(self, model: EmbeddingModel, texts: Sequence[str]) -> tuple[dict[str, StoredVector], int]:
        """Return the vectors of ``texts``, without those that the embedder refuses, and the tokens."""
        if not texts:
            return {}, 0
        try:
            answer = await self._embedder.embed(texts, model.name, attempts=ATTEMPTS)
        except TextRefused:
            if len(texts) == 1:
                return {}, 0
            half = len(texts) // 2
            first, second = await self._embedded(model, texts[:half]), await self._embedded(model, texts[half:])
            return first[0] | second[0], first[1] + second[1]
        if answer.vectors.shape[1] != model.dimensions:
            raise EmbedderFailed(f"the embedder's vectors of {model.name} have another length than before")
        return dict(zip(texts, map(to_bytes, answer.vectors), strict=True)), answer.tokens

    async def _store(
        self, project: str, model: EmbeddingModel, read: Sequence[_ReadSpan], known: Mapping[Any, StoredVector]
    ) -> int:
        if not read:
            return 0
        for day in {span.key.ts.date(): span.key.ts for span in read}.values():
            await self._ensure_partition(day)
        async with self._writes.write([project]) as connection:
            if not await connection.fetchval(statement("hold_project"), project):
                return 0
            columns = [list(column) for column in zip(*(_id(span.key) for span in read), strict=True)]
            held = {tuple(record) for record in await connection.fetch(statement("hold_spans"), project, *columns)}
            rows = []
            for span in read:
                if _id(span.key) not in held:
                    continue
                vector = None if span.hash is None else known.get((project, span.hash))
                rows.append((*_id(span.key), span.version, span.hash if vector else None, *_columns(vector, model)))
            if not rows:
                return 0
            await connection.fetch(
                statement("store_vectors"), project, model.model_id, *map(list, zip(*rows, strict=True)), _mark()
            )
            moved = [_id(span.key) for span in read if span.is_update]
            if moved:
                await connection.execute(statement("drop_moved_vectors"), project, *map(list, zip(*moved, strict=True)))
            await connection.execute(statement("fold_vector_counts"), project, list({row[2] for row in rows}), _mark())
        return len(rows)

    async def _ensure_partition(self, ts: datetime) -> None:
        if ts.date() in self._days:
            return
        async with self._writes.plain() as connection:
            await connection.execute(statement("ensure_vector_partition"), ts)
        with suppress(DatabaseUnavailable):  # that of the next week, since none can be made while a node is away
            async with self._writes.plain() as connection:
                await connection.execute(statement("ensure_vector_partition"), ts + WEEK)
            self._days.add(ts.date())


def _columns(vector: StoredVector | None, model: EmbeddingModel) -> tuple[Any, Any, StoredVector | None]:
    """Return signs, sizes and elements as they are stored."""
    if vector is None:
        return None, None, None
    (elements,) = from_bytes([vector], model.dimensions)
    return to_bits(elements), to_sizes(elements), vector


def _mark() -> int:
    """Return a number that no other change of an hour has."""
    return secrets.randbits(63)


def _id(key: SpanKey) -> tuple[str, str, datetime]:
    return key.trace_id, key.span_id, key.ts
