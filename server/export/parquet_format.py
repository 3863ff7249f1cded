"""Parquet by pyarrow, a row group at a time, each as a file of its own at its place in the whole one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from server.export.parquet_footer import MAGIC, Footer
from server.queries.filters.span_fields import FieldType, TraceField
from server.queries.lists.row_layout import Row
from server.text.json_text import dumps

# decimal128, since DuckDB reads decimal256 as a double and polars refuses it; microseconds, since nanoseconds lose
# digits in Python. JSON columns are text: one column would have as many types as it has keys.
TYPES: Final[dict[FieldType, pa.DataType]] = {
    FieldType.KEYWORD: pa.string(),
    FieldType.TEXT: pa.string(),
    FieldType.INTEGER: pa.int64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.MONEY: pa.decimal128(20, 10),
    FieldType.TIME: pa.timestamp("us", tz="UTC"),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TAGS: pa.list_(pa.string()),
    FieldType.JSON: pa.string(),
}
GROUP_BYTES: Final = 1 << 20
"""Approximate bytes in memory at which a row group is written."""
RANGED: Final = (FieldType.TIME, FieldType.INTEGER, FieldType.NUMBER, FieldType.MONEY)
"""Types whose least and greatest values are written for each row group. Those of texts would let no reader leave out a
group, as rows are in the order of time, and they are most of what the footer would hold."""
GROUP_ROWS: Final = 50_000
_PAGE_BYTES: Final = 1 << 16
"""Bytes of a column's page, and of its dictionary: a writer has buffers for twice as much."""
_CODECS: Final = {"none": "zstd", "gzip": "gzip", "zstd": "zstd"}


class _Sink:
    """The file that ParquetWriter writes to: the bytes since they were last taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: this sink has no buffer of its own to flush."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class ParquetEncoder:
    """Encodes rows as Parquet. The footer comes last: a file that was cut off cannot be opened."""

    def __init__(self, fields: Sequence[TraceField], *, compression: str) -> None:
        self._schema = pa.schema([pa.field(field.name, TYPES[field.type]) for field in fields])
        self._documents = [field.name for field in fields if field.type is FieldType.JSON]
        self._codec = _CODECS[compression]
        self._ranged = [field.name for field in fields if field.type in RANGED]
        self._footer = Footer()
        self._size = len(MAGIC)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self.volume = 0

    def begin(self) -> bytes:
        """Return the magic bytes of the format."""
        return MAGIC

    def page(self, rows: list[Row]) -> bytes:
        """Return a row group if enough rows wait, else nothing."""
        for name in self._documents:
            for row in rows:
                if row[name] is not None:
                    row[name] = dumps(row[name]).decode()
        batch = pa.RecordBatch.from_pylist(rows, schema=self._schema)
        rows.clear()  # as objects they are the largest part while a group is written
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self.volume += batch.nbytes
        is_full = self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS
        data = self._group() if is_full else b""
        # Otherwise Arrow's allocator keeps the memory of a page's buffers.
        pa.default_memory_pool().release_unused()
        return data

    def end(self) -> Iterator[bytes]:
        """Yield the last row group and the footer, in pieces."""
        # A file without rows has the schema in its footer all the same.
        yield self._group()
        pa.default_memory_pool().release_unused()
        yield from self._footer.pieces()

    def _group(self) -> bytes:
        """Return what waits as a row group, or nothing if no rows wait. The footer then knows of it."""
        sink = _Sink()
        with pq.ParquetWriter(
            sink,
            self._schema,
            compression=self._codec,
            write_statistics=self._ranged,
            data_page_size=_PAGE_BYTES,
            dictionary_pagesize_limit=_PAGE_BYTES,
        ) as writer:
            sink.taken()  # the magic bytes
            if self._rows:
                table = pa.Table.from_batches(self._waiting, schema=self._schema)
                writer.write_table(table, row_group_size=table.num_rows)
                del table
            self._waiting, self._rows, self._bytes = [], 0, 0
            data = sink.taken()
        self._footer.add(sink.taken(), self._size - len(MAGIC))
        self._size += len(data)
        return data
