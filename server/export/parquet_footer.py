"""The footer of a Parquet file whose row groups are written one by one.

A footer describes every row group, so a writer that keeps the descriptions as objects grows by 1 to 2 % of the rows.
Here each row group is written as a file of its own; the places in its description are moved to where the row group is
in the whole file, and the bytes of the description are kept compressed. The rest of the footer is that of the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from server.export.thrift_compact import (
    LIST,
    STRUCT,
    Struct,
    field_header,
    list_header,
    read_struct,
    write_struct,
    write_value,
)

MAGIC: Final = b"PAR1"
_LENGTH_BYTES: Final = 4
_PIECE_BYTES: Final = 1 << 20

# Numbers of fields in Parquet's parquet.thrift: of FileMetaData, of RowGroup, of ColumnChunk, of ColumnMetaData.
_NUM_ROWS: Final = 3
_ROW_GROUPS: Final = 4
_COLUMNS, _GROUP_PLACES, _ORDINAL = 1, (5,), 7
_COLUMN_PLACES, _COLUMN_META = (2, 4, 6), 3
_META_PLACES: Final = (9, 10, 11, 14)


class Footer:
    """Collects the footers of row groups."""

    def __init__(self) -> None:
        self._fields: Struct = {}
        self._rows = 0
        self._groups = 0
        self._compressor = zlib.compressobj(1)
        self._kept: list[bytes] = []

    def add(self, ending: bytes, move: int) -> None:
        """Take the ``ending`` of a file: its footer, the length of it, and the magic bytes.

        ``move``: how many bytes further its row groups begin in the whole file.
        """
        fields, _ = read_struct(ending)
        _, (_, groups) = fields.pop(_ROW_GROUPS)
        self._rows += fields[_NUM_ROWS][1]
        self._fields = self._fields or fields
        for group in groups:
            group.pop(_ORDINAL, None)  # optional, and that of the small file
            _moved(group, _GROUP_PLACES, move)
            for column in group[_COLUMNS][1][1]:
                _moved(column, _COLUMN_PLACES, move)
                _moved(column[_COLUMN_META][1], _META_PLACES, move)
            self._kept.append(self._compressor.compress(write_struct(group)))
        self._groups += len(groups)

    def pieces(self) -> Iterator[bytes]:
        """Yield the footer of the whole file, its length and the magic bytes; at the end, once."""
        size = 0
        piece = bytearray()
        for part in self._parts():
            size += len(part)
            piece += part
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece) + size.to_bytes(_LENGTH_BYTES, "little") + MAGIC

    def _parts(self) -> Iterator[bytes]:
        fields = self._fields
        head = {number: field for number, field in fields.items() if number < _ROW_GROUPS}
        head[_NUM_ROWS] = (fields[_NUM_ROWS][0], self._rows)
        yield write_struct(head)[:-1]  # it goes on
        yield field_header(_ROW_GROUPS, _NUM_ROWS, LIST) + list_header(STRUCT, self._groups)
        yield from self._descriptions()
        before = _ROW_GROUPS
        for number in sorted(fields.keys() - head.keys()):
            kind, value = fields[number]
            yield field_header(number, before, kind) + write_value(kind, value)
            before = number
        yield write_struct({})

    def _descriptions(self) -> Iterator[bytes]:
        self._kept.append(self._compressor.flush())
        decompressor = zlib.decompressobj()
        for waiting in self._kept:
            while piece := decompressor.decompress(waiting, _PIECE_BYTES):
                yield piece
                waiting = decompressor.unconsumed_tail


def _moved(fields: Struct, places: tuple[int, ...], move: int) -> None:
    """Add ``move`` to the fields at ``places`` that hold a place: 0 stands for none."""
    for number in places:
        if number in fields and fields[number][1] > 0:
            fields[number] = (fields[number][0], fields[number][1] + move)
