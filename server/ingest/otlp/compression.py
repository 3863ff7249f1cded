"""Content encodings of OTLP/HTTP: gzip (RFC 1952) and deflate (RFC 9110 8.4.1.2), never past a limit.

A 204 kB gzip body can hold 200 MB: the decompressor is asked for one byte more than the limit, and the rest is never
produced.
"""

from __future__ import annotations

import zlib

from server.ingest.otlp.payload import TooLarge, Unreadable, UnsupportedType

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
        data, rest = _inflate(body, _ZLIB_WINDOW if is_zlib else _RAW_WINDOW, max_bytes)
        if rest:
            raise Unreadable("bytes follow the end of the deflate stream")
        return data
    raise UnsupportedType(f"content encoding {coding[:40]!r} is not supported; send gzip, deflate or none")


def _inflate_members(body: bytes, max_bytes: int) -> bytes:
    """Inflate a gzip file, which may be several members one after the other (RFC 1952 2.2)."""
    data, rest = _inflate(body, _GZIP_WINDOW, max_bytes)
    while rest:
        more, rest = _inflate(rest, _GZIP_WINDOW, max_bytes - len(data))
        data += more
    return data


def _inflate(body: bytes, window: int, max_bytes: int) -> tuple[bytes, bytes]:
    stream = zlib.decompressobj(window)
    try:
        data = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Unreadable("the compressed body is broken") from error
    if len(data) > max_bytes:
        raise TooLarge(f"the decompressed body exceeds the limit of {max_bytes} bytes")
    if not stream.eof:
        raise Unreadable("the compressed body ends too early")
    return data, stream.unused_data
