"""Parquet by pyarrow, written a row group at a time to a sink that can only be appended to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

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
GROUP_BYTES: Final = 2 << 20
"""Approximate bytes in memory at which a row group is written."""
RANGED: Final = (FieldType.TIME, FieldType.INTEGER, FieldType.NUMBER, FieldType.MONEY)
"""Types whose least and greatest values are written for each row group. Those of texts would let no reader leave out a
group, as rows are in the order of time, and they are most of what a writer has to keep until the footer."""
GROUP_ROWS: Final = 50_000
# Arrow's own allocator keeps what it once had: 13 MB more beside a slow client.
pa.set_memory_pool(pa.system_memory_pool())
_CODECS: Final = {"none": "zstd", "gzip": "gzip", "zstd": "zstd"}


class _Sink:
    """The file that ParquetWriter writes to: the bytes since they were last taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

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
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression=_CODECS[compression],
            write_statistics=[field.name for field in fields if field.type in RANGED],
        )
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self.volume = 0

    def begin(self) -> bytes:
        """Return the magic bytes of the format."""
        return self._sink.taken()

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return a row group if enough rows wait, else nothing."""
        for name in self._documents:
            for row in rows:
                if row[name] is not None:
                    row[name] = dumps(row[name]).decode()
        batch = pa.RecordBatch.from_pylist(list(rows), schema=self._schema)
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self.volume += batch.nbytes
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            self._write_group()
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the last row group and the footer."""
        if self._rows:
            self._write_group()
        self._writer.close()
        return self._sink.taken()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._waiting, self._rows, self._bytes = [], 0, 0
        del table
        # The buffers of a group are many and small, so the system's allocator would keep 10 MB of them.
        pa.default_memory_pool().release_unused()
