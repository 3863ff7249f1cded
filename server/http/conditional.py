"""Conditional requests (RFC 9110 section 13) and directives for caches between us and the caller.

Answers with the envelope carry a *weak* entity tag: their ``meta`` (time, request id) differs in every answer, so two
of them are never the same bytes, but the same tag promises the same data. Documents that are byte for byte the same,
such as the OpenAPI description, carry a strong one.

Authorisation always comes first: a handler reaches this module with rows that the caller may see, so that no caller can
get a 304 for something that would be a 404.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sanic import HTTPResponse, Request

from server.cache.stored_answer import CachedAnswer
from server.http.envelope import meta_text, shared_meta
from server.http.wire.connection import PreparedResponse, header_line
from server.text.json_text import dumps

VARY: Final = "Authorization, X-API-Key, Accept, Accept-Encoding"
# Only the caller may keep an answer, and must revalidate it at each use: our invalidation cannot reach its cache.
CACHE_CONTROL: Final = "private, no-cache"

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_TAG_LIST: Final = re.compile(rf"\s*{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*\s*")


def entity_tag(fingerprint: str, *, weak: bool = True) -> str:
    """Return the ETag value for a fingerprint of the data."""
    return f'W/"{fingerprint}"' if weak else f'"{fingerprint}"'


def is_match(if_none_match: str | None, tag: str) -> bool:
    """Return whether ``If-None-Match`` names ``tag``: ``*``, or a list compared weakly (RFC 9110 13.1.2).

    A header that is not such a list matches nothing.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    if not _TAG_LIST.fullmatch(if_none_match):
        return False
    return tag.removeprefix("W/") in _TAG.findall(if_none_match)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of a response to a cached answer that are the same for all requests of one caller."""

    tag: str
    header_lines: bytes
    tail: bytes
    """The text between ``data`` and ``meta``."""
    meta: bytes
    """The shared members of ``meta``, in JSON."""


def rendered(
    answer: CachedAnswer,
    *,
    meta_fields: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Rendered:
    """Prepare ``answer`` for :func:`send`."""
    tag = entity_tag(answer.fingerprint)
    page: dict[str, Any] = {} if answer.pagination is None else {"pagination": answer.pagination}
    if page or answer.data.startswith(b"["):
        page["next_cursor"] = (answer.pagination or {}).get("cursor")
    named = {"ETag": tag, "Cache-Control": CACHE_CONTROL, "Vary": VARY, **(headers or {})}
    return Rendered(
        tag,
        b"".join(header_line(name, value) for name, value in named.items()),
        # The members alone, with a comma before the first of them.
        b"," + dumps(page)[1:-1] if page else b"",
        dumps(shared_meta(**{**answer.meta, **(meta_fields or {}), "cached": answer.is_hit})),
    )


def send(request: Request, answer: CachedAnswer, parts: Rendered) -> HTTPResponse:
    """Return ``answer`` in the envelope with its entity tag, or 304 if the caller has it already.

    The envelope is wrapped around the JSON text of the data, which is neither parsed nor encoded again.
    """
    lines = parts.header_lines
    if answer.is_hit:
        lines += b"Age: %d\r\n" % answer.age_seconds
    known = request.headers.get("if-none-match")
    if known is not None and is_match(known, parts.tag):
        return PreparedResponse(status=304, header_lines=lines)
    body = (b'{"status":"success","data":', answer.data, parts.tail, b',"meta":', meta_text(request, parts.meta), b"}")
    return PreparedResponse(body, header_lines=lines, content_type="application/json")


def cached_success(
    request: Request,
    answer: CachedAnswer,
    *,
    meta_fields: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HTTPResponse:
    """Call :func:`rendered` and :func:`send`."""
    return send(request, answer, rendered(answer, meta_fields=meta_fields, headers=headers))
