"""Bodies in chunks, and the strict reading of lengths."""

from __future__ import annotations

import re
from typing import Final

from sanic.exceptions import BadRequest, PayloadTooLarge

MOST_SMALL_CHUNKS: Final = 1000
"""Number of chunks of a body that may be of any size."""
LEAST_CHUNK: Final = 16
"""Fewest bytes of a chunk, on average, in a body of more chunks."""
LONGEST_LINE: Final = 256
"""Bytes of the line before a chunk, with its extensions."""
_BREAK: Final = b"\r\n"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Bytes that no extension of a chunk may have, above all a line break of one byte: a proxy may take it for the end."""


def strict_int(value: str, base: int = 10) -> int:
    """Parse the length of a body or chunk. ``int()`` alone would also accept ``0x5``, blanks and digits of other
    scripts.
    """
    pattern = r"[0-9A-Fa-f]{1,15}" if base == 16 else r"[0-9]{1,15}"
    if not re.fullmatch(pattern, value):
        raise ValueError("length")
    return int(value, base)


class ChunkedBody:
    """Reads one body in chunks (RFC 9112, 7.1) out of a buffer, all that has come at once.

    Sanic reads one chunk for each call, so that a body in chunks of a byte costs a hundred times as much as its bytes.
    The line break before the first chunk, which ends the head, is expected in the buffer.
    """

    def __init__(self, limit: float) -> None:
        """``limit``: the most bytes of content."""
        self._limit = limit
        self._chunks = 0
        self._size = 0
        self._left = 0

    def take(self, buffer: bytearray, content: bytearray | None) -> bool:
        """Move what is whole in ``buffer`` to ``content`` (None: throw it away); return whether the body has ended.

        Raises BadRequest for what is no chunk, and for too many chunks of a few bytes, and PayloadTooLarge.
        """
        at, has_ended = 0, False
        while True:
            if self._left:
                piece = min(self._left, len(buffer) - at)
                if content is not None:
                    content += buffer[at : at + piece]
                at += piece
                self._left -= piece
            if self._left:
                break
            found = self._line(buffer, at)
            if found is None:
                break
            size, after = found
            if size == 0:
                # Trailers are refused: they could be taken for a request.
                if len(buffer) < after + len(_BREAK):
                    break
                if buffer[after : after + len(_BREAK)] != _BREAK:
                    raise BadRequest("Bad chunked encoding")
                at, has_ended = after + len(_BREAK), True
                break
            self._count(size)
            at = after
        del buffer[:at]
        return has_ended

    def _line(self, buffer: bytearray, at: int) -> tuple[int, int] | None:
        """Return the size in the line at ``at``, and where its chunk begins; None if the line has not come."""
        end = buffer.find(_BREAK, at + len(_BREAK) + 1, at + LONGEST_LINE)
        if end < 0:
            if len(buffer) - at >= LONGEST_LINE:
                raise BadRequest("Bad chunked encoding")
            return None
        try:
            if buffer[at : at + len(_BREAK)] != _BREAK:
                raise ValueError("no line break")
            digits, _, extension = buffer[at + len(_BREAK) : end].partition(b";")
            if _CONTROL.search(extension):
                raise ValueError("a control character")
            size = strict_int(digits.decode(), 16)
        except ValueError as error:
            raise BadRequest("Bad chunked encoding") from error
        return size, end + len(_BREAK)

    def _count(self, size: int) -> None:
        self._left = size
        self._size += size
        self._chunks += 1
        if self._size > self._limit:
            raise PayloadTooLarge("Request body exceeds the size limit")
        if self._chunks > MOST_SMALL_CHUNKS + self._size / LEAST_CHUNK:
            raise BadRequest("The body is in too many chunks of a few bytes.")
