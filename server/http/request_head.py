"""The outermost check of a request: its raw head, its address, and the size and the framing of its body.

Sanic 25.12 accepts heads that RFC 9112 tells a server to refuse. The dangerous one is ``Content-Length : 52``: read as
"no body", so that the body is answered as a second request (request smuggling). The checks here run on the bytes,
before anything is parsed; a bad head is a 400 and the end of the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from sanic.compat import Header
from sanic.exceptions import BadRequest, PayloadTooLarge

from server.errors import InvalidParameter

# RFC 9110 5.6.2 (token) and 5.5 (field value): horizontal tab, visible ASCII and obs-text, no other control.
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,24}) (/[!-~]*|\*|https?://[!-~]+) HTTP/1\.([01])")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

MAX_HEADERS: Final = 100
MOST_SMALL_CHUNKS: Final = 1000
"""Number of chunks of a body that may be of any size."""
LEAST_CHUNK: Final = 16
"""Fewest bytes of a chunk, on average, in a body of more chunks."""
LONGEST_LINE: Final = 256
"""Bytes of the line before a chunk, with its extensions."""
_BREAK: Final = b"\r\n"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Bytes that no extension of a chunk may have, above all a line break of one byte: a proxy may take it for the end."""

HTTP_2_PREFACE: Final = b"PRI * HTTP/2.0"
"""The first bytes of a client that speaks HTTP/2 (RFC 9113 3.4), in place of a request line."""

# Headers that may occur only once: with two of them, two readers may disagree.
_SINGLE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"content-encoding"}
)

# Surfaces whose base addresses are given to data sources.
_SURFACE: Final = re.compile(rb"/+(api/+v1|grafana|jaeger|tempo)(?:/+|$)")
_EXACT_METHODS: Final = frozenset({"DELETE", "PUT", "PATCH"})

KIBIBYTE: Final = 1024
DEFAULT_BODY_LIMIT: Final = 64 * KIBIBYTE

# Largest body in bytes by path prefix; the first match counts. Other paths have DEFAULT_BODY_LIMIT.
BODY_LIMITS: Final[tuple[tuple[str, int], ...]] = (
    ("/v1/", 16 * 1024 * KIBIBYTE),
    ("/api/v1/traces", 1024 * KIBIBYTE),
    ("/api/v1/scores", 1024 * KIBIBYTE),
    ("/api/v1/metrics", 256 * KIBIBYTE),
    ("/grafana/", 1024 * KIBIBYTE),
)


@dataclass(frozen=True, slots=True)
class RequestLine:
    """The first line of one request, checked and read."""

    raw: bytes
    method: str
    url: bytes
    """The address that the caller meant (:func:`joined_url`)."""
    target: str
    """The same as text."""
    is_http_10: bool


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """The header fields of one request, checked and read."""

    raw: bytes
    is_http_10: bool
    headers: Header
    keep_alive: bool
    is_upgrade: bool
    """Whether the client asks for a WebSocket."""
    has_body: bool
    """Whether a body is announced."""
    known: dict[str, Any] = field(default_factory=dict)
    """Cache for values that other modules derive from these lines."""


def read_request_line(line: bytes) -> RequestLine:
    """Parse ``line``. Raises ``ValueError``."""
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise ValueError("request line")
    name, target, minor = parts.groups()
    if target == b"*" and name != b"OPTIONS":
        raise ValueError("request target")
    method = name.decode("ascii")
    url = joined_url(target, method)
    return RequestLine(line, method, url, url.decode("ascii"), minor == b"0")


def read_fields(lines: bytes, *, is_http_10: bool) -> HeaderFields:
    """Return the header fields in ``lines``, which are between the request line and the empty line.

    Raises ``ValueError`` unless names and values are well formed, there is exactly one Host, at most one of each
    framing header, no Content-Length beside Transfer-Encoding, no Transfer-Encoding other than ``chunked``, and an
    Authorization of ASCII only.
    """
    split = lines.split(b"\r\n") if lines else []
    if len(split) > MAX_HEADERS:
        raise ValueError("too many headers")
    seen: dict[bytes, bytes] = {}
    headers = Header()
    for line in split:
        parts = _FIELD.fullmatch(line)
        if parts is None:
            raise ValueError("header field")
        name, value = parts[1].lower(), parts[2].rstrip(b" \t")
        if name in _SINGLE:
            if name in seen:
                raise ValueError(f"{name.decode()} is given more than once")
            seen[name] = value
        headers.add(name.decode("ascii"), value.decode(errors="surrogateescape"))
    _check_single(seen, is_http_10=is_http_10)
    connection = headers.get("connection")
    return HeaderFields(
        lines,
        is_http_10,
        headers,
        keep_alive=not is_http_10 if connection is None else connection.lower() == "keep-alive",
        is_upgrade=headers.get("upgrade", "").lower() == "websocket",
        has_body=b"content-length" in seen or b"transfer-encoding" in seen,
    )


def _check_single(seen: dict[bytes, bytes], *, is_http_10: bool) -> None:
    host = seen.get(b"host")
    if host is None and not is_http_10:
        raise ValueError("no Host")
    if host is not None and not _HOST.fullmatch(host):
        raise ValueError("Host")
    length = seen.get(b"content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise ValueError("Content-Length")
    coding = seen.get(b"transfer-encoding")
    if coding is not None and (coding != b"chunked" or length is not None or is_http_10):
        raise ValueError("Transfer-Encoding")
    if not seen.get(b"authorization", b"").isascii():
        raise ValueError("Authorization")


def body_limit(path: str) -> int:
    """Return the largest body in bytes that a route under ``path`` accepts."""
    return next((limit for prefix, limit in BODY_LIMITS if path.startswith(prefix)), DEFAULT_BODY_LIMIT)


def joined_url(url: bytes, method: str) -> bytes:
    """Return ``url`` without superfluous slashes from joining a base address and a path: before, inside and after the
    part that names a surface, and at the end.

    Grafana's data sources join addresses like that, and do not show why they get a 404. Nothing else is changed. An
    empty segment in the middle of a path, where an id is missing, stays a 404; so does one at the end for methods that
    change or delete, so that ``DELETE /api/v1/keys/`` never means another resource. Addresses outside the surfaces
    (``/metrics``, ``/oauth``) stay exact, since a proxy in front may close them by name.
    """
    path, mark, query = url.partition(b"?")
    if b"//" not in path and not path.endswith(b"/"):
        return url
    surface = _SURFACE.match(path)
    if surface is None:
        return url
    rest = path[surface.end() :]
    if method not in _EXACT_METHODS:
        rest = rest.rstrip(b"/")
    name = re.sub(rb"/+", b"/", surface[1])
    return b"/" + name + (b"/" + rest if rest else b"") + mark + query


def path_value(raw: str, parameter: str) -> str:
    """Return a path segment with its percent-encoding decoded (Sanic leaves it): ``a%2Fb`` is ``a/b``.

    Raises :class:`InvalidParameter` for bytes that are not UTF-8 and for control characters.
    """
    try:
        value = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidParameter.named(parameter, "is not UTF-8") from None
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise InvalidParameter.named(parameter, "has a control character")
    return value


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
