"""A caller's right to a long answer, checked again while the answer is being sent.

A credential may be revoked or expire during a download, and a project may be taken away or deleted. The download
then ends within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sanic import Request

from server.errors import ApiError, InsufficientScope, InvalidToken, MissingToken, ProjectForbidden
from server.http.guard import reauthenticate
from server.http.services import services_of
from server.storage.row_scope import RowScope

ENDING: Final = (InvalidToken, MissingToken, InsufficientScope, ProjectForbidden)
"""Errors that end the download. After any other error the caller's right is unknown for now, and the answer goes on."""


async def current_scope(request: Request, requested: Sequence[str], needed: Sequence[str]) -> RowScope:
    """Return the rows that the caller may see now.

    Raises the errors of authentication, and InsufficientScope if the caller has lost a scope in ``needed``.
    """
    principal = await reauthenticate(request)
    for scope in needed:
        principal.require(scope)
    return principal.scope(requested, await services_of(request).projects.ids())


async def check_still_seen(request: Request, needed: Sequence[str], scope: RowScope) -> None:
    """Raise one of :data:`ENDING` if the caller may no longer see all of ``scope``."""
    try:
        seen = await current_scope(request, scope.projects, needed)
    except ENDING:
        raise
    except ApiError:
        return
    if scope.may_read_content and not seen.may_read_content:
        raise InsufficientScope("The credential may no longer read content.")
