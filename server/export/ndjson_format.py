"""Newline-delimited JSON: the rows of the list API, one object per line, and a trailer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from server.queries.lists.row_layout import Row
from server.queries.lists.shown_rows import render_rows
from server.text.json_text import dumps

TRAILER_KEY = "export_trailer"


class NdjsonEncoder:
    """Encodes rows as NDJSON.

    The trailer is a line of its own, ``{"export_trailer": {"rows": …, "sha256": …}}``: a file without it was cut
    off. ``sha256`` is the checksum of all lines before it in this file. ``rows`` also counts the rows of the files
    that this one continues.
    """

    def __init__(self, *, trailer: bool, rows_before: int) -> None:
        self._trailer = trailer
        self._rows = rows_before
        self._checksum = hashlib.sha256()
        self.volume = 0

    def begin(self) -> bytes:
        """Return nothing: the first line is a row."""
        return b""

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return a line for each row."""
        lines = b"".join(dumps(row) + b"\n" for row in render_rows(list(rows)))
        self._checksum.update(lines)
        self._rows += len(rows)
        self.volume += len(lines)
        return lines

    def end(self) -> Iterator[bytes]:
        """Yield the trailer, or nothing if the encoder was made without one."""
        if not self._trailer:
            return
        yield dumps({TRAILER_KEY: {"rows": self._rows, "sha256": self._checksum.hexdigest()}}) + b"\n"
