"""The outermost check of a request: its raw head and its address.

Sanic 25.12 accepts heads that RFC 9112 tells a server to refuse. The dangerous one is ``Content-Length : 52``: read as
"no body", so that the body is answered as a second request (request smuggling). The checks here run on the bytes,
before anything is parsed; a bad head is a 400 and the end of the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from sanic.compat import Header

# RFC 9110 5.6.2 (token) and 5.5 (field value): horizontal tab, visible ASCII and obs-text, no other control.
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,24}) (/[!-~]*|\*|https?://[!-~]+) HTTP/1\.([01])")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

MAX_HEADERS: Final = 100

HTTP_2_PREFACE: Final = b"PRI * HTTP/2.0"
"""The first bytes of a client that speaks HTTP/2 (RFC 9113 3.4), in place of a request line."""

# Headers that may occur only once: with two of them, two readers may disagree.
_SINGLE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"content-encoding"}
)

# Surfaces whose base addresses are given to data sources.
_SURFACE: Final = re.compile(rb"/+(api/+v1|grafana|jaeger|tempo)(?:/+|$)")
_EXACT_METHODS: Final = frozenset({"DELETE", "PUT", "PATCH"})


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
