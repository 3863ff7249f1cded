"""Parquet files of many row groups, and the memory that each leaves behind."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

from server.export import parquet_format
from server.export.parquet_footer import Footer
from server.export.parquet_format import ParquetEncoder
from server.export.thrift_compact import read_struct, write_struct
from server.queries.filters.span_fields import FIELDS

FIELD_NAMES = ("ts", "trace_id", "total_cost_usd", "duration_ms", "tags", "attributes", "is_generation")
ROWS = 40


def page(number: int) -> list[dict[str, Any]]:
    """Return rows whose values differ from those of every other page."""
    begin = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=number)
    return [
        {
            "ts": begin + timedelta(microseconds=row),
            "trace_id": f"{number}-{row}",
            "total_cost_usd": Decimal(number * ROWS + row) / 10**10,
            "duration_ms": None if row % 7 == 0 else row * number,
            "tags": ["a", f"t{row}"] if row % 2 else [],
            "attributes": {"page": number},
            "is_generation": row % 3 == 0,
        }
        for row in range(ROWS)
    ]


def encoder() -> ParquetEncoder:
    """Return an encoder of some fields of every type."""
    return ParquetEncoder([FIELDS[name] for name in FIELD_NAMES], compression="none")


def ending(table: pa.Table, **options: Any) -> bytes:
    """Return the footer of a file as pyarrow writes it."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    data = sink.getvalue()
    return data[-8 - int.from_bytes(data[-8:-4], "little") :]


@pytest.mark.parametrize("pages", [0, 1, 14, 15, 40])
def test_every_reader_finds_all_row_groups(pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb
    import polars

    monkeypatch.setattr(parquet_format, "GROUP_BYTES", 1)
    parquet = encoder()
    path = tmp_path / "spans.parquet"
    rows = [row for number in range(pages) for row in page(number)]
    path.write_bytes(
        parquet.begin() + b"".join(parquet.page(page(number)) for number in range(pages)) + b"".join(parquet.end())
    )
    file = pq.ParquetFile(path)
    assert file.metadata.num_row_groups == pages
    table = file.read()
    table.validate(full=True)
    assert table.column("trace_id").to_pylist() == [row["trace_id"] for row in rows]
    assert table.column("total_cost_usd").to_pylist() == [row["total_cost_usd"] for row in rows]
    assert table.column("tags").to_pylist() == [row["tags"] for row in rows]
    for number in range(pages):
        group = file.read_row_group(number, columns=["trace_id"]).column("trace_id").to_pylist()
        assert group == [f"{number}-{row}" for row in range(ROWS)]
        least = file.metadata.row_group(number).column(0).statistics.min
        assert least == rows[number * ROWS]["ts"]
    assert polars.read_parquet(path)["duration_ms"].to_list() == [row["duration_ms"] for row in rows]
    query = "SELECT count(*), coalesce(sum(total_cost_usd), 0) FROM read_parquet(?)"
    assert duckdb.execute(query, [str(path)]).fetchone() == (len(rows), sum(row["total_cost_usd"] for row in rows))


def test_places_are_moved_beyond_four_gigabytes() -> None:
    table = pa.table({"n": [1, 2, 3], "text": ["a", "b", "a"]})
    footer = Footer()
    footer.add(ending(table), 0)
    footer.add(ending(table), 9 << 30)
    tail = b"".join(footer.pieces())
    assert tail.endswith(b"PAR1")
    metadata = pq.read_metadata(io.BytesIO(b"PAR1" + tail))
    assert (metadata.num_rows, metadata.num_row_groups) == (6, 2)
    for number in range(2):
        first, second = (metadata.row_group(group).column(number) for group in range(2))
        assert second.data_page_offset - first.data_page_offset == 9 << 30
        assert second.dictionary_page_offset - first.dictionary_page_offset == 9 << 30
        assert second.total_compressed_size == first.total_compressed_size


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"write_page_index": True, "row_group_size": 3},
        {"use_dictionary": False, "store_schema": False, "compression": "gzip"},
        {"sorting_columns": [pq.SortingColumn(0, descending=True)], "write_statistics": ["n"]},
    ],
)
def test_footers_of_pyarrow_are_read_and_written_as_they_are(options: dict[str, Any]) -> None:
    numbers = list(range(50))
    table = pa.table(
        {
            "n": numbers,
            "text": [str(number) for number in numbers],
            "flag": [number % 2 == 0 for number in numbers],
            "list": [[{"a": number}] for number in numbers],
            **{f"column {number}": numbers for number in range(20)},
        }
    )
    data = ending(table, **options)
    fields, end = read_struct(data)
    assert end == len(data) - 8
    assert write_struct(fields) == data[:-8]


def test_what_is_written_reads_as_thrift_s_own_library_reads_it() -> None:
    fields = {
        1: (5, -3),
        3: (9, (6, list(range(20)))),
        4: (1, b""),
        30: (12, {2: (8, b"text"), 40: (6, 2**62)}),
        31: (7, struct.pack("<d", 1.5)),
    }
    protocol = TCompactProtocol(TMemoryBuffer(write_struct(fields)))
    read = fields_by_thrift(protocol)
    assert read[1] == -3
    assert read[3] == list(range(20))
    assert read[4] is True
    assert read[31] == 1.5
    assert read[30] == {2: b"text", 40: 2**62}
    assert read_struct(write_struct(fields))[0] == fields


def fields_by_thrift(protocol: Any) -> dict[int, Any]:
    """Return the values of a struct by the numbers of its fields."""
    found: dict[int, Any] = {}
    protocol.readStructBegin()
    while (field := protocol.readFieldBegin())[1] != TType.STOP:
        found[field[2]] = value_by_thrift(protocol, field[1])
        protocol.readFieldEnd()
    protocol.readStructEnd()
    return found


def value_by_thrift(protocol: Any, kind: int) -> Any:
    """Return the value of this type that comes next."""
    if kind == TType.STRUCT:
        return fields_by_thrift(protocol)
    if kind == TType.LIST:
        element, count = protocol.readListBegin()
        values = [value_by_thrift(protocol, element) for _ in range(count)]
        protocol.readListEnd()
        return values
    reads = {TType.BOOL: "Bool", TType.I32: "I32", TType.I64: "I64", TType.DOUBLE: "Double", TType.STRING: "Binary"}
    return getattr(protocol, f"read{reads[kind]}")()


def test_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match="type 11"):
        read_struct(bytes([0x1B, 0x00, 0x00]))


def test_a_row_group_leaves_little_behind() -> None:
    """A writer of pyarrow keeps 1 % and more of the rows until the footer."""
    chance = random.Random(1)
    names = [f"column {number}" for number in range(69)]
    table = pa.table({name: [chance.randrange(10**9) for _ in range(50)] for name in names})
    footer, data = Footer(), ending(table)
    footer.add(data, 0)
    tracemalloc.start()
    for number in range(200):
        footer.add(data, number * 100_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 200 < len(data) / 4, "bytes of memory a row group"
    tail = b"".join(footer.pieces())
    assert pq.read_metadata(io.BytesIO(b"PAR1" + tail)).num_row_groups == 201
