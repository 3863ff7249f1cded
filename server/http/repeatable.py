"""Routes that a client may repeat safely: under the same ``Idempotency-Key`` they are carried out once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, TypeVar, cast

from sanic import HTTPResponse, Request

from server.access.idempotency import Claim, KeptAnswer, checked_key
from server.access.principal import EVERY_PROJECT, Principal
from server.errors import ApiError, InvalidParameter
from server.http.guard import row_scope
from server.http.services import services_of
from server.storage.commit_note import CommitNote, commit_note

logger = logging.getLogger("observatory.rest")

_HEADER: Final = "idempotency-key"
REPLAYED: Final = "Idempotency-Replayed"
_MARK: Final = "is_repeatable"

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, HTTPResponse]])

_at_work: set[asyncio.Task[HTTPResponse]] = set()
"""The loop itself keeps no reference."""


def marked_repeatable(handler: Handler) -> Handler:
    """Declare that ``handler`` itself heeds the key."""
    setattr(handler, _MARK, True)
    return handler


def is_repeatable(handler: Any) -> bool:
    """Return whether the route of ``handler`` heeds the key."""
    return getattr(handler, _MARK, False) is True


def idempotency_key(request: Request) -> str | None:
    """Return the key of ``request``, if it has one. Raises InvalidParameter for a malformed one, and for several."""
    keys = request.headers.getall(_HEADER, [])
    if len(keys) > 1:
        raise InvalidParameter("There is more than one Idempotency-Key header.")
    return checked_key(keys[0]) if keys else None


def repeatable(handler: Handler) -> Handler:
    """Carry out the requests of one key once. Stands below ``@requires``: the caller is known.

    Such a request goes on when its caller goes away, who will repeat it and get the answer.
    """

    @wraps(handler)
    async def once(request: Request, *args: Any, **kwargs: Any) -> HTTPResponse:
        key = idempotency_key(request)
        if key is None:
            return await handler(request, *args, **kwargs)
        principal: Principal = request.ctx.principal
        # A project that was deleted since takes the answers about it with it.
        projects = [EVERY_PROJECT] if principal.sees_every_project else (await row_scope(request)).projects
        begun = await services_of(request).access.idempotency.begin(principal, projects, key, _fingerprint(request))
        if isinstance(begun, KeptAnswer):
            return HTTPResponse(
                begun.body,
                status=begun.status,
                headers={**begun.headers, REPLAYED: "true"},
                content_type=begun.content_type,
            )
        task = asyncio.create_task(_carried_out(request, begun, handler(request, *args, **kwargs)))
        _at_work.add(task)
        task.add_done_callback(_ended)
        return await asyncio.shield(task)

    return cast(Handler, marked_repeatable(once))


def _ended(task: asyncio.Task[HTTPResponse]) -> None:
    _at_work.discard(task)
    if not task.cancelled():
        task.exception()  # the caller may be gone, and then nobody else would retrieve it


async def _carried_out(request: Request, claim: Claim, work: Coroutine[Any, Any, HTTPResponse]) -> HTTPResponse:
    keys, note = services_of(request).access.idempotency, CommitNote()
    commit_note.set(note)
    try:
        answer = await work
    except Exception:
        if not note.is_begun:
            await keys.release(claim)  # nothing was done
        raise
    headers = {f"{name}": f"{value}" for name, value in answer.headers.items()}
    kept = KeptAnswer(answer.status, headers, answer.content_type, answer.body or b"")
    try:
        await keys.keep(claim, kept)
    except ApiError:
        logger.warning("an answer could not be kept for requests with the same Idempotency-Key")
    return answer


def _fingerprint(request: Request) -> bytes:
    """Return a hash of what the request asks for."""
    found = hashlib.sha256()
    for part in (request.method.encode(), request.path.encode(), request.query_string.encode(), request.body):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()
