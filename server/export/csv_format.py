"""CSV (RFC 4180): a header, CRLF, quotes where needed; money in plain digits, times in UTC with microseconds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.queries.filters.span_fields import FieldType, TraceField
from server.queries.lists.row_layout import Row
from server.text.instants import format_instant
from server.text.json_text import dumps

_TEXTS: Final = frozenset({FieldType.KEYWORD, FieldType.TEXT, FieldType.TAGS, FieldType.JSON})
# Formulas for LibreOffice, Excel and Google Sheets, and texts that they would turn into a number (000123, 12e45).
# Some skip spaces and a quote in front, and some read the wide signs of East Asian keyboards.
_FORMULA: Final = re.compile(r"""[ "]*[=+\-@＝＋－＠]|[\t\r\n]""")
_NUMBER: Final = re.compile(r"\s*[0-9][0-9.,]*([eE][+-]?[0-9]+)?\s*", re.ASCII)


def guarded(text: str) -> str:
    """Return ``text`` with an apostrophe in front if a spreadsheet would take it for a formula or a number."""
    if _FORMULA.match(text) or _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            digits = format(value, "f")
            return digits.rstrip("0").rstrip(".") if "." in digits else digits
        case datetime():
            return format_instant(value)
        case str():
            return value
        case int() | float():
            return repr(value)
        case _:
            return dumps(value).decode()


class CsvEncoder:
    """Encodes rows as CSV. A missing value and an empty text are both an empty cell."""

    def __init__(self, fields: Sequence[TraceField], *, guard: bool, has_header: bool) -> None:
        self._names = [field.name for field in fields]
        self._cells: list[Callable[[Any], str]] = [
            (lambda value: guarded(_plain(value))) if guard and field.type in _TEXTS else _plain for field in fields
        ]
        self._has_header = has_header
        self.volume = 0
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer)

    def begin(self) -> bytes:
        """Return the header, unless the file continues another."""
        if self._has_header:
            self._writer.writerow(self._names)
        return self._taken()

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return a line for each row."""
        self._writer.writerows(
            [cell(row[name]) for name, cell in zip(self._names, self._cells, strict=True)] for row in rows
        )
        return self._taken()

    def end(self) -> Iterator[bytes]:
        """Yield nothing: CSV has no place for a trailer. The manifest of the export says whether it is whole."""
        return iter(())

    def _taken(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        data = text.encode()
        self.volume += len(data)
        return data
