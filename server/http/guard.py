"""Access declarations of routes, and their enforcement.

``@requires("traces:read")`` authenticates the caller, takes ``cost`` from its rate limit, checks the scope and leaves
the principal in ``request.ctx.principal``. ``@public`` and ``@public_document`` declare that a route is open to
everybody. A test fails for a route with none of them.

For a request with a body all of this happens before the body is read, for a WebSocket before its handshake
(:func:`admit_early`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Final, TypeVar, cast

from sanic import HTTPResponse, Request

from server.access.api_key import is_api_key
from server.access.authenticator import CredentialRefused
from server.access.grafana_viewer import HEADER as GRAFANA_ID_HEADER
from server.access.jwt_verifier import parse_token
from server.access.principal import SCOPES, Principal, Role
from server.access.rate_policy import LARGEST_COST, network_of, party_of, request_buckets
from server.access.verified_cache import digest_of
from server.errors import ApiError, InvalidToken, MissingToken, RateLimited
from server.fairness.party import current_party, unknown_caller
from server.http.audit_trail import refuse
from server.http.client_address import client_address
from server.http.credentials import presented_credential
from server.http.services import Services, services_of
from server.http.wire.connection import answer_size
from server.rate_limit.redis_trip import RedisTrip
from server.storage.row_scope import RowScope
from server.telemetry.observations import AuthenticationRefused, RateLimitHit, observe

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, HTTPResponse | None]])

# Scopes that PUBLIC_ANALYTICS_PROJECTS opens: analytics, never traces, content or budgets.
ANONYMOUS_SCOPES: Final = frozenset({"metrics:read", "costs:read"})
_MISSING: Final = (
    "The request has no credential: send the header Authorization: Bearer TOKEN with an access token or an API key."
)
ANONYMOUS_ROUTES: Final = ("api/v1/analytics/", "api/v1/metrics", "api/v1/costs/")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """A route's requirements on its callers. ``scope`` None: open to everybody. ``cost`` in rate-limit tokens."""

    scope: str | None
    cost: int = 1
    with_lookup: bool = False
    """The handler reads a cache through ``request.ctx.trip``, which judges the limit in the same round trip."""
    long_lived: bool = False
    """For streams and sockets, which limit their own number and do not count in the concurrency limit."""
    for_panels: bool = False
    """For questions of dashboards, which send many at a time: each waits for its turn as long as a panel may take."""
    is_document: bool = False
    """For large answers that are open to everybody: an address that takes very many of them is refused."""


def requires(
    scope: str, *, cost: int = 1, with_lookup: bool = False, long_lived: bool = False, for_panels: bool = False
) -> Callable[[Handler], Handler]:
    """Admit only principals with ``scope``; the call takes ``cost`` from their rate limit.

    ``with_lookup``: the handler reads a cache through ``request.ctx.trip``, so that limit and cache cost one round
    trip. ``for_panels``: the call waits for its share of the server as long as a panel may take. Raises ValueError, at
    import, for an unknown scope and for a cost that no tier could pay.
    """
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope}")
    if not 1 <= cost <= LARGEST_COST:
        raise ValueError(f"a cost is 1 to {LARGEST_COST}")
    policy = AccessPolicy(scope, cost, with_lookup, long_lived, for_panels)

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request, *args: Any, **kwargs: Any) -> HTTPResponse | None:
            services, context = services_of(request), request.ctx
            if context.principal is None:
                await _admit(services, request, policy, scope, may_defer=policy.with_lookup)
            slot, size, reserved = None, None, 0.0
            tenant, route, answers = current_party.get().tenant, _template(request), request.app.ctx.large_answers
            try:
                if not long_lived:
                    slot = services.access.concurrency.take(context.principal)
                    await request.app.ctx.abandoned.wait(tenant)
                    reserved = await answers.reserve(tenant, route)
                    context.is_at_work = True
                response = await handler(request, *args, **kwargs)
                size = answer_size(response) if isinstance(response, HTTPResponse) else None
            except asyncio.CancelledError:
                if context.is_at_work and _is_abandoned(request):
                    request.app.ctx.abandoned.count(current_party.get().tenant)
                raise
            except Exception as error:
                await context.trip.judge()
                refuse(request, error)
                raise
            finally:
                if slot is not None:
                    services.access.concurrency.give_back(slot)
                answers.settle(tenant, route, size, reserved)
            await context.trip.judge()
            return response

        guarded.access_policy = policy  # type: ignore[attr-defined]
        return cast(Handler, guarded)

    return decorate


def _is_abandoned(request: Request) -> bool:
    """Return whether the caller has gone away."""
    return request.conn_info is not None and request.conn_info.lost


def public(handler: Handler) -> Handler:
    """Declare that everybody may use this route."""
    handler.access_policy = AccessPolicy(None)  # type: ignore[attr-defined]
    return handler


def public_document(handler: Handler) -> Handler:
    """Declare that everybody may use this route, whose answer is large."""
    handler.access_policy = AccessPolicy(None, is_document=True)  # type: ignore[attr-defined]
    return handler


def access_policy(handler: Any) -> AccessPolicy | None:
    """Return the policy that ``handler`` declared, if any."""
    if isinstance(handler, partial) and handler.args:
        handler = handler.args[0]  # Sanic wraps the handlers of WebSockets
    policy = getattr(handler, "access_policy", None)
    return policy if isinstance(policy, AccessPolicy) else None


async def row_scope(request: Request, requested: Sequence[str] = ()) -> RowScope:
    """Return the rows that the caller of ``request`` may see, limited to the ``requested`` projects if any."""
    principal: Principal = request.ctx.principal
    return principal.scope(requested, await services_of(request).projects.ids(principal.expected(requested)))


async def reauthenticate(request: Request) -> Principal:
    """Return the current principal of a long-lived ``request``: for streams and sockets, every few seconds.

    Raises the errors of admission: InvalidToken for a credential that has expired or was revoked. Unlike at admission,
    a token gets no allowance for clocks that differ: it ends at the moment it names.
    """
    principal: Principal = request.ctx.principal
    if principal.kind == "anonymous":
        return principal
    credential = presented_credential(cast(Mapping[str, str], request.headers))
    if credential is None:
        raise InvalidToken()
    if not is_api_key(credential) and parse_token(credential).claims.get("exp", 0) <= time.time():
        raise InvalidToken()
    authenticator = services_of(request).access.authenticator
    fresh = await authenticator.authenticate(credential, client_address(request))
    return await authenticator.with_viewer(fresh, request.headers.get(GRAFANA_ID_HEADER))


def challenge(services: Services, error: str | None = None, **parameters: str) -> str:
    """Return a WWW-Authenticate value (RFC 6750, 3) that names our resource metadata (RFC 9728, 5.1)."""
    fields: dict[str, str] = {
        "realm": "llm-observatory",
        "resource_metadata": f"{services.settings.base_url}/.well-known/oauth-protected-resource",
        **({"error": error} if error else {}),
        **parameters,
    }
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in fields.items())


async def _admit(services: Services, request: Request, policy: AccessPolicy, scope: str, *, may_defer: bool) -> None:
    """Authenticate, limit and check the scope, in this order: every refusal of a known caller then has limit headers
    and costs a token.

    ``may_defer``: the limit may be judged later, with the handler's question to the cache.
    """
    try:
        principal = await _principal_of(services, request, scope)
    except InvalidToken as error:
        if isinstance(error, CredentialRefused):
            observe(AuthenticationRefused(error.reason, client_address(request)))
        refuse(request, error)
        error.headers["WWW-Authenticate"] = challenge(services, "invalid_token")
        raise
    except MissingToken as error:
        error.headers["WWW-Authenticate"] = challenge(services)
        raise
    except RateLimited:
        observe(RateLimitHit("failed-authentication"))
        raise
    context, ceiling = request.ctx, services.settings.rate_limit_project
    context.principal = principal
    party = party_of(principal)
    current_party.set(replace(party, patience=services.settings.grafana_timeout) if policy.for_panels else party)
    limits = request_buckets(principal, _template(request), policy.cost, project_ceiling=ceiling)
    context.trip = RedisTrip(services.access.buckets, services.redis, limits)
    if may_defer and scope in principal.scopes:
        return
    await context.trip.judge()
    try:
        principal.require(scope)
    except ApiError as error:
        error.headers["WWW-Authenticate"] = challenge(services, "insufficient_scope", scope=scope)
        refuse(request, error)
        raise


async def _principal_of(services: Services, request: Request, scope: str) -> Principal:
    known = request.ctx.known
    if "credential" not in known:
        text = presented_credential(cast(Mapping[str, str], request.headers))
        known["credential"] = None if text is None else (text, digest_of(text))
    presented = known["credential"]
    if presented is None:
        opened = services.settings.public_analytics_projects
        if not opened or scope not in ANONYMOUS_SCOPES or not _template(request).startswith(ANONYMOUS_ROUTES):
            raise MissingToken(_MISSING)
        return Principal(
            subject="anonymous",
            role=Role.VIEWER,
            scopes=ANONYMOUS_SCOPES,
            projects=frozenset(opened),
            kind="anonymous",
            credential_id=client_address(request),
        )
    authenticator = services.access.authenticator
    credential, digest = presented
    principal = authenticator.remembered(digest)
    if principal is None:
        address = client_address(request)
        current_party.set(unknown_caller(network_of(address)))
        principal = await authenticator.authenticate(credential, address)
    if not authenticator.knows_viewers:
        return principal
    return await authenticator.with_viewer(principal, request.headers.get(GRAFANA_ID_HEADER))


def _template(request: Request) -> str:
    return request.route.path if request.route is not None else ""


async def admit_early(request: Request, handler: Any) -> None:
    """Admit ``request`` before ``handler`` is called: before its body is read, or before the handshake of a socket."""
    policy = access_policy(handler)
    if policy is None or policy.scope is None:
        current_party.set(unknown_caller(network_of(client_address(request))))
    else:
        await _admit(services_of(request), request, policy, policy.scope, may_defer=False)
