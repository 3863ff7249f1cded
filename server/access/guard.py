"""Every route declares who may use it.

``@requires("traces:read")`` authenticates the caller, checks the scope and leaves the principal on
``request.ctx.principal``; ``@public`` says that a route is meant for everybody. A route with
neither is a mistake that a test finds.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from sanic import HTTPResponse, Request

from server.access import jwt_verifier
from server.access.access_token import own_rules, principal_of
from server.access.principal import Principal
from server.access.signing_keys import SigningKeys
from server.errors import InvalidToken, MissingToken
from server.queries.row_scope import RowScope
from server.services import Services, services_of

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, HTTPResponse]])

_CHALLENGE = 'Bearer realm="llm-observatory"'


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What a route asks of its callers. ``scope`` None: open to everybody. ``cost`` in rate-limit tokens."""

    scope: str | None
    cost: int = 1


def requires(scope: str, *, cost: int = 1) -> Callable[[Handler], Handler]:
    """Let only principals with ``scope`` in; the call takes ``cost`` from their rate limit."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request, *args: Any, **kwargs: Any) -> HTTPResponse:
            principal = authenticate(services_of(request), request)
            principal.require(scope)
            request.ctx.principal = principal
            return await handler(request, *args, **kwargs)

        guarded.access_policy = AccessPolicy(scope, cost)  # type: ignore[attr-defined]
        return cast(Handler, guarded)

    return decorate


def public(handler: Handler) -> Handler:
    """Declare that everybody may use this route."""
    handler.access_policy = AccessPolicy(None)  # type: ignore[attr-defined]
    return handler


def access_policy(handler: Any) -> AccessPolicy | None:
    """The policy that ``handler`` declared, if any."""
    policy = getattr(handler, "access_policy", None)
    return policy if isinstance(policy, AccessPolicy) else None


def authenticate(services: Services, request: Request) -> Principal:
    """The caller of ``request``. Raises :class:`MissingToken` or :class:`InvalidToken`."""
    header = request.headers.get("authorization")
    if header is None:
        raise MissingToken(headers={"WWW-Authenticate": _CHALLENGE})
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise MissingToken(headers={"WWW-Authenticate": _CHALLENGE})
    try:
        parsed = jwt_verifier.parse_token(token.strip())
        keys = SigningKeys(services.settings).keys
        return principal_of(jwt_verifier.verify_token(parsed, keys, own_rules(services.settings)))
    except jwt_verifier.TokenRefused as error:
        raise InvalidToken(headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}) from error


async def row_scope(request: Request, requested: Sequence[str] = ()) -> RowScope:
    """The rows that the caller of ``request`` may see, limited to the ``requested`` projects if any."""
    principal: Principal = request.ctx.principal
    return principal.scope(requested, await services_of(request).projects.ids())
