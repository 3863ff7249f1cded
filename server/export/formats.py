"""The formats that an export comes in, as one table.

A row of :data:`FORMATS` feeds the parameter ``format``, the headers of the answer, OpenAPI,
docs/reference/exports.md and the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Protocol

from server.errors import FormatUnavailable
from server.export.csv_format import CsvEncoder
from server.export.ndjson_format import NdjsonEncoder
from server.export.otlp_format import OtlpEncoder
from server.export.pages import MOST_VALUES
from server.queries.filters.span_fields import TraceField
from server.queries.lists.row_layout import Row

Fields = Sequence[TraceField]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """How an encoder writes."""

    compression: str = "none"
    """Compression of the whole file, except in Parquet, whose columns are compressed one by one."""
    guard: bool = True
    """CSV: an apostrophe in front of texts that a spreadsheet would take for a formula or a number."""
    trailer: bool = True
    """NDJSON and OTLP: a last line with the number of rows and a checksum."""
    is_resumed: bool = False
    """The file continues another, which has the header already."""
    rows_before: int = 0
    """Rows of the files that this one continues."""


class Encoder(Protocol):
    """Turns pages of rows into the bytes of one file. Each method may be called in a thread."""

    volume: int
    """Bytes of all rows so far before compression, whether they were returned already or wait for more."""

    def begin(self) -> bytes:
        """Return the bytes before the first row."""

    def page(self, rows: list[Row]) -> bytes:
        """Return ``rows`` encoded, as far as they can be written already. The list may be empty afterwards."""

    def end(self) -> Iterator[bytes]:
        """Yield the bytes after the last row, in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """One format. ``media_type`` is that of the file without compression."""

    name: str
    media_type: str
    extension: str
    sentence: str
    make: Callable[[Fields, EncodingOptions], Encoder]
    can_resume: bool = True
    """Whether a file that was cut off can be continued by appending to it."""
    page_values: int = MOST_VALUES
    """Values of a page at most."""
    is_compressed_inside: bool = False
    has_whole_spans: bool = False
    """Whether the file has every field of spans, so that neither ``fields`` nor another view can be asked for, and
    their scores."""


def _parquet(fields: Fields, options: EncodingOptions) -> Encoder:
    if find_spec("pyarrow") is None:
        raise FormatUnavailable(
            "Parquet needs the package pyarrow: install llm-observatory-grafana[parquet] on the server."
        )
    from server.export.parquet_format import ParquetEncoder  # an extra, and 0.3 s to import

    return ParquetEncoder(fields, compression=options.compression)


FORMATS: Final[Mapping[str, ExportFormat]] = {
    item.name: item
    for item in (
        ExportFormat(
            name="ndjson",
            media_type="application/x-ndjson",
            extension="ndjson",
            sentence="A JSON object per line, as in the lists of the API; the last line is a trailer.",
            make=lambda fields, options: NdjsonEncoder(trailer=options.trailer, rows_before=options.rows_before),
        ),
        ExportFormat(
            name="csv",
            media_type="text/csv; charset=utf-8; header=present",
            extension="csv",
            sentence="RFC 4180 with a header; tags and JSON columns as JSON text.",
            make=lambda fields, options: CsvEncoder(fields, guard=options.guard, has_header=not options.is_resumed),
        ),
        ExportFormat(
            name="parquet",
            media_type="application/vnd.apache.parquet",
            extension="parquet",
            sentence="Typed columns: money as decimal(20, 10), times in UTC with microseconds. Best for analysis.",
            make=_parquet,
            can_resume=False,
            page_values=20_000,  # beside the objects of a page it holds a row group
            is_compressed_inside=True,
        ),
        ExportFormat(
            name="otlp",
            media_type="application/x-ndjson",
            extension="otlp.jsonl",
            sentence="OTLP JSON lines as the Collector writes them, whole spans; taken in again, they are the same.",
            make=lambda fields, options: OtlpEncoder(trailer=options.trailer, rows_before=options.rows_before),
            has_whole_spans=True,
        ),
    )
}

COMPRESSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "none": ("", ""),
    "gzip": (".gz", "application/gzip"),
    "zstd": (".zst", "application/zstd"),
}
"""Values of ``compression``, each with the suffix of the file's name and its media type."""
