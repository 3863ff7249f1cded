"""The rows of an export file: JSON lines, a JSON document, CSV or Parquet, each also with gzip."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

Record = dict[str, Any]

_GZIP: Final = b"\x1f\x8b"
_PARQUET: Final = b"PAR1"
_PAGE_MEMBERS: Final = ("data", "traces", "runs", "results")
"""Names of the member that holds the rows in a page of an API."""
_PARQUET_BATCH: Final = 1000


class UnreadableFileError(Exception):
    """The form of a file is unknown; the message names the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or the reason why it cannot be read. ``place`` is a line or a position, counted from 1."""

    place: str
    record: Record | None
    problem: str = ""


def rows_of(file: Path) -> Iterator[Row]:
    """Yield the rows of ``file`` in order. Raises :class:`UnreadableFileError`."""
    with file.open("rb") as raw:
        head = raw.read(len(_PARQUET))
    if head == _PARQUET:
        yield from _parquet_rows(file)
        return
    opened: Any = gzip.open if head.startswith(_GZIP) else open
    try:
        if ".csv" in file.suffixes:
            with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
                yield from _csv_rows(lines)
        else:
            with opened(file, "rb") as source:
                yield from _json_rows(file, source)
    except (EOFError, OSError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(f"{file}: cannot be read: {error}") from error


def parsed(text: str | bytes) -> Any:
    """Return JSON ``text`` as values, numbers with all their digits. Raises ValueError."""
    return json.loads(text, parse_float=Decimal)


def _json_rows(file: Path, source: IO[bytes]) -> Iterator[Row]:
    first = source.readline()
    while first and not first.strip():
        first = source.readline()
    try:
        document = parsed(first)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and not _page_of(document):
        yield Row("line 1", document)
        for number, line in enumerate(source, start=2):
            if line.strip():
                yield _line(number, line)
        return
    try:
        document = parsed(first + source.read())
    except (ValueError, RecursionError) as error:
        if not first:
            raise UnreadableFileError(f"{file}: is empty") from error
        if b"\n" not in first or not first.lstrip().startswith(b"{"):
            raise UnreadableFileError(f"{file}: neither JSON, CSV (named .csv) nor Parquet: {error}") from error
        # JSON lines, of which the first is broken.
        source.seek(0)
        for number, line in enumerate(source, start=1):
            if line.strip():
                yield _line(number, line)
        return
    for number, item in enumerate(_listed(document), start=1):
        yield _row(f"row {number}", item)


def _line(number: int, line: bytes) -> Row:
    try:
        return _row(f"line {number}", parsed(line))
    except (ValueError, RecursionError):
        return Row(f"line {number}", None, "not valid JSON")


def _row(place: str, item: Any) -> Row:
    return Row(place, item) if isinstance(item, dict) else Row(place, None, "not a JSON object")


def _page_of(document: Record) -> list[Any]:
    return next((document[name] for name in _PAGE_MEMBERS if isinstance(document.get(name), list)), [])


def _listed(document: Any) -> list[Any]:
    if isinstance(document, list):
        return document
    return _page_of(document) or [document]


def _csv_rows(lines: IO[str]) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    for number, record in enumerate(csv.DictReader(lines), start=2):
        if None in record or None in record.values():
            yield Row(f"row {number}", None, "has another number of columns than the header")
        else:
            yield Row(f"row {number}", {name: value for name, value in record.items() if value != ""})


def _parquet_rows(file: Path) -> Iterator[Row]:
    if find_spec("pyarrow") is None:
        raise UnreadableFileError(
            f"{file}: Parquet needs the package pyarrow: install llm-observatory-grafana[parquet]"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_PARQUET_BATCH):
                for record in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", record)
    except pa.ArrowException as error:
        raise UnreadableFileError(f"{file}: cannot be read: {error}") from error
