"""Documents that never change while a process runs, ready to be sent: as they are, and compressed by gzip.

They need no credential, so anybody may ask for them without end. Each time costs the writing of their bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from sanic import HTTPResponse, Request

from server.http.conditional import entity_tag, is_match
from server.http.wire.connection import PreparedResponse, header_line

_WEIGHT: Final = re.compile(r"\s*q=([01](?:\.\d{0,3})?)\s*", re.IGNORECASE)
_HEADERS: Final = {"Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding"}


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether ``Accept-Encoding`` allows gzip (RFC 9110, 12.5.3). Any other text allows nothing."""
    allowed: dict[str, bool] = {}
    for item in (accept_encoding or "").split(","):
        name, is_weighted, weight = item.partition(";")
        found = _WEIGHT.fullmatch(weight) if is_weighted else None
        allowed[name.strip().lower()] = not is_weighted or (found is not None and float(found[1]) > 0)
    return allowed.get("gzip", allowed.get("*", False))


class _Form:
    """One encoding of a document. Each has a tag of its own, as a strong tag promises the same bytes."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        self.body = body
        self.tag = entity_tag(hashlib.blake2b(body, digest_size=16).hexdigest(), weak=False)
        self.header_lines = b"".join(header_line(*item) for item in {"ETag": self.tag, **headers}.items())


class StaticDocument:
    """One document. Making it takes some milliseconds of compression."""

    def __init__(self, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """``headers``: those of its own, besides what all documents have."""
        sent = {**_HEADERS, **(headers or {})}
        self._content_type = content_type
        self._plain = _Form(body, sent)
        self._compressed = _Form(gzip.compress(body, mtime=0), {**sent, "Content-Encoding": "gzip"})

    def answer(self, request: Request) -> HTTPResponse:
        """Return the document in the form that the caller accepts, or 304 if the caller has it."""
        form = self._compressed if accepts_gzip(request.headers.get("accept-encoding")) else self._plain
        if is_match(request.headers.get("if-none-match"), form.tag):
            return PreparedResponse(status=304, header_lines=form.header_lines)
        return PreparedResponse((form.body,), header_lines=form.header_lines, content_type=self._content_type)
