"""One export at work: pages in, encoded and compressed bytes out, with sums and a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from server.export.compression import compressed
from server.export.export_question import columns_of
from server.export.formats import FORMATS, EncodingOptions
from server.export.pages import PageReader, cut_question
from server.fairness.off_loop import in_thread
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.row_layout import Row
from server.storage.database import Database
from server.storage.row_scope import RowScope


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the file. After them the export has ``rows`` rows and goes on at ``position``."""

    data: bytes
    rows: int
    position: Position | None


class ExportRun:
    """Writes one file. Counts what it wrote: ``rows`` (with those before), ``size`` and ``sha256``."""

    def __init__(
        self,
        database: Database,
        scope: RowScope,
        question: ListQuestion,
        cut: datetime,
        name: str,
        options: EncodingOptions,
    ) -> None:
        """``name`` is that of the format; ``question`` may have a position to go on from.

        :raises FormatUnavailable: this server cannot write it.
        """
        self._format = FORMATS[name]
        self._options = options
        self._encoder = self._format.make(columns_of(question), options)
        has_scores = self._format.has_whole_spans
        self._reader = PageReader(
            database,
            scope,
            cut_question(question, cut),
            scores_until=cut if has_scores else None,
            most_values=self._format.page_values,
        )
        self._end: Iterator[bytes] = iter(())
        self._checksum = hashlib.sha256()
        self.rows = options.rows_before
        self.size = 0
        self.hidden_fields: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The checksum of the bytes so far."""
        return self._checksum.hexdigest()

    async def pieces(self, *, most_bytes: int | None = None) -> AsyncIterator[Piece]:
        """Yield the file. ``most_bytes``: end it with the page after so many (before compression), though the list
        goes on.

        :raises ApiError: the database failed, before the first piece or between two.
        """
        async for page in self._reader.pages():
            is_first = self.size == 0
            self.hidden_fields = page.hidden_fields
            before = self._encoder.volume
            is_full = most_bytes is not None and before >= most_bytes
            is_last = page.position is None or is_full
            count = len(page.rows)
            data = await in_thread(partial(self._encode, page.rows, is_first, is_last))
            self._reader.encoded(count, self._encoder.volume - before)
            self.rows += count
            while is_last and (more := await in_thread(self._more_of_the_end)):
                yield self._piece(data, page.position)
                data = more
            yield self._piece(data, page.position)
            if is_last:
                return

    def _encode(self, rows: list[Row], is_first: bool, is_last: bool) -> bytes:
        data = self._encoder.begin() if is_first else b""
        data += self._encoder.page(rows)
        if is_last:
            self._end = self._encoder.end()
            data += next(self._end, b"")
        return self._compressed(data)

    def _more_of_the_end(self) -> bytes:
        return self._compressed(next(self._end, b""))

    def _compressed(self, data: bytes) -> bytes:
        return data if self._format.is_compressed_inside else compressed(data, self._options.compression)

    def _piece(self, data: bytes, position: Position | None) -> Piece:
        self._checksum.update(data)
        self.size += len(data)
        return Piece(data, self.rows, position)


def resumed(options: EncodingOptions, rows_before: int) -> EncodingOptions:
    """Return ``options`` for a file that continues another with ``rows_before`` rows."""
    return replace(options, is_resumed=True, rows_before=rows_before)
