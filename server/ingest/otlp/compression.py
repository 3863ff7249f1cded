"""Content encodings of OTLP/HTTP: gzip (RFC 1952) and deflate (RFC 9110 8.4.1.2), never past a limit.

A 204 kB gzip body can hold 200 MB: the decompressor is asked for one byte more than the limit and the rest is never
made. The reverse costs time instead: 8 MB of members or blocks without content. No compressor makes more than a few
bytes of each byte, so such a body is refused by its first pieces.
"""

from __future__ import annotations

import zlib
from typing import Final

from server.ingest.otlp.payload import TooLarge, Unreadable, UnsupportedType

MOST_MEMBERS: Final = 1000
MOST_COMPRESSED_A_BYTE: Final = 4
"""Compressed bytes for each byte of content, beyond the first piece."""
_PIECE_BYTES: Final = 64 * 1024
_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15


def decompress(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """Return the body without its content encoding.

    Raises UnsupportedType for other encodings (and for more than one at once), TooLarge if the result would exceed
    ``max_bytes``, Unreadable for a broken or cut stream.
    """
    coding = (content_encoding or "identity").strip().lower()
    if coding in ("identity", ""):
        if len(body) > max_bytes:
            raise TooLarge(f"the body has {len(body)} bytes, the limit is {max_bytes}")
        return body
    if not body:
        return body
    if coding in ("gzip", "x-gzip"):
        return _inflate_members(body, max_bytes)
    if coding == "deflate":
        # RFC 9110 means the zlib format, but some senders produce raw deflate.
        is_zlib = body[0] & 0x0F == 8 and len(body) > 1 and (body[0] * 256 + body[1]) % 31 == 0
        stream = _Stream(body, max_bytes)
        stream.inflate(_ZLIB_WINDOW if is_zlib else _RAW_WINDOW)
        if not stream.is_at_end:
            raise Unreadable("bytes follow the end of the deflate stream")
        return stream.content()
    raise UnsupportedType(f"content encoding {coding[:40]!r} is not supported; send gzip, deflate or none")


def _inflate_members(body: bytes, max_bytes: int) -> bytes:
    """Inflate a gzip file, which may be several members one after the other (RFC 1952 2.2)."""
    stream = _Stream(body, max_bytes)
    for _ in range(MOST_MEMBERS):
        stream.inflate(_GZIP_WINDOW)
        if stream.is_at_end:
            return stream.content()
    raise TooLarge(f"the compressed body has more than {MOST_MEMBERS} gzip members")


class _Stream:
    """Reads compressed data piece by piece, so that what follows the end of a member is not copied as a whole for each
    of them, and so that a body without content is found out after a few pieces."""

    def __init__(self, body: bytes, max_bytes: int) -> None:
        self._body = memoryview(body)
        self._max_bytes = max_bytes
        self._at = 0
        self._size = 0
        self._pieces: list[bytes] = []

    @property
    def is_at_end(self) -> bool:
        """Return whether all has been read."""
        return self._at >= len(self._body)

    def content(self) -> bytes:
        """Return what was inflated so far."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def inflate(self, window: int) -> None:
        """Read one compressed stream to its end. Raises TooLarge, Unreadable."""
        stream = zlib.decompressobj(window)
        while not stream.eof:
            if self.is_at_end:
                raise Unreadable("the compressed body ends too early")
            piece = self._body[self._at : self._at + _PIECE_BYTES]
            try:
                data = stream.decompress(piece, self._max_bytes - self._size + 1)
            except zlib.error as error:
                raise Unreadable("the compressed body is broken") from error
            self._at += len(piece) - len(stream.unused_data)
            self._size += len(data)
            if self._size > self._max_bytes:
                raise TooLarge(f"the decompressed body exceeds the limit of {self._max_bytes} bytes")
            if self._at > _PIECE_BYTES + MOST_COMPRESSED_A_BYTE * self._size:
                raise TooLarge("the compressed body is far larger than what is in it")
            if data:
                self._pieces.append(data)
