"""Cursors in answers that may be cached and shared; see server/queries/lists/cursor.py.

A cached answer contains the place where its list goes on (``continuation``), which is the same for all callers with the
same rows. It becomes the cursor of one caller when the answer is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sanic import Request

from server.access.principal import Principal
from server.cache.stored_answer import CachedAnswer
from server.errors import InvalidCursor
from server.http.services import services_of
from server.queries.lists.cursor import continuation
from server.queries.lists.keyset import Position


def open_position(
    request: Request, cursor: str | None, projects: Sequence[str], question: Mapping[str, Any], size: int
) -> Position | None:
    """Return the position in ``cursor`` (None without one). Raises :class:`InvalidCursor` unless it was issued to this
    caller for ``question`` and has ``size`` parts.
    """
    if cursor is None:
        return None
    opened = services_of(request).cursors.open(cursor, binding=caller_binding(request, projects))
    opened.check_question(question)
    if len(opened.position) != size:
        raise InvalidCursor
    return opened.position


def unsealed(next_position: Position | None, question: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the ``pagination`` of an answer that may be cached; its list goes on at ``next_position`` (None: this is
    the last page).
    """
    start = None
    if next_position is not None:
        start = continuation(next_position, question=question, now=datetime.now(UTC))
    return {"continuation": start, "has_more": start is not None, "limit": limit}


def sealed(request: Request, answer: CachedAnswer, projects: Sequence[str]) -> CachedAnswer:
    """Return ``answer`` with this caller's cursor in place of the continuation."""
    pagination = dict(answer.pagination or {})
    start = pagination.pop("continuation", None)
    binding = caller_binding(request, projects)
    cursor = None if start is None else services_of(request).cursors.seal(start, binding=binding)
    return replace(answer, pagination={"cursor": cursor, **pagination})


def caller_binding(request: Request, projects: Sequence[str]) -> dict[str, Any]:
    """Return the caller and its rights, to which a cursor is bound: with other rights, or by another caller, it is
    invalid."""
    principal: Principal = request.ctx.principal
    return {
        "subject": principal.subject,
        "role": principal.role.value,
        "projects": sorted(principal.projects),
        "requested": sorted(projects),
        "content": principal.may_read_content,
    }
