"""The OAuth 2.0 endpoints, and the metadata documents by which clients find them.

Each endpoint reads a form, loads the client named in it from the database, lets :mod:`server.access.oauth_server`
decide, and stores the decision. Errors have the form of RFC 6749, 5.2, which OAuth clients expect, not that of the REST
API.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError
from sanic import Blueprint, HTTPResponse, Request

from server.access import administration
from server.access.jwt_verifier import TokenRefused, parse_token
from server.access.oauth_server import (
    ASSERTION_ALGORITHMS,
    CLIENT_AUTH_METHODS,
    GrantRequest,
    OAuthServer,
    Reply,
    client_of,
)
from server.access.principal import SCOPES
from server.access.subjects import client_subject
from server.http.audit_trail import audit_event, noting
from server.http.client_address import client_address
from server.http.envelope import json_response
from server.http.guard import public
from server.http.services import Services, services_of
from server.rate_limit.headers import rate_limit_headers
from server.rate_limit.token_bucket import Verdict
from server.settings import Settings
from server.storage.statements import statement
from server.telemetry.observations import AuthenticationRefused, RateLimitHit, observe

oauth = Blueprint("oauth")

MAX_FORM_BYTES: Final = 16 * 1024
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_AFTER_AUTHENTICATION: Final = ("invalid_scope", "unauthorized_client")
"""Errors of clients that have authenticated."""
_METADATA_HEADERS: Final = {"Cache-Control": "public, max-age=300"}

Endpoint = Callable[[OAuthServer, GrantRequest], Reply]


@oauth.post("/oauth/token", name="token")
@public
async def token(request: Request) -> HTTPResponse:
    """Issue an access token to a client (RFC 6749, 4.4): ``grant_type=client_credentials``.

    The client authenticates by HTTP Basic, by ``client_id`` and ``client_secret`` in the form, or by
    ``private_key_jwt``. ``scope`` asks for a part of the client's scopes.
    """
    return await _answer(request, OAuthServer.token)


@oauth.post("/oauth/revoke", name="revoke")
@public
async def revoke(request: Request) -> HTTPResponse:
    """Revoke an access token of the calling client (RFC 7009)."""
    return await _answer(request, OAuthServer.revocation)


@oauth.post("/oauth/introspect", name="introspect")
@public
async def introspect(request: Request) -> HTTPResponse:
    """Describe an access token of the calling client (RFC 7662); for any other token: ``{"active": false}``."""
    return await _answer(request, OAuthServer.introspection)


@oauth.get("/.well-known/oauth-authorization-server", name="authorization_server_metadata")
@public
async def authorization_server_metadata(request: Request) -> HTTPResponse:
    """Return the metadata of the authorization server (RFC 8414)."""
    settings = services_of(request).settings
    base, methods, algorithms = settings.base_url, list(CLIENT_AUTH_METHODS), list(ASSERTION_ALGORITHMS)
    document: dict[str, Any] = {
        "issuer": _issuer(settings),
        "token_endpoint": f"{base}/oauth/token",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "scopes_supported": sorted(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "service_documentation": f"{base}/docs",
    }
    for name in ("token", "revocation", "introspection"):
        document[f"{name}_endpoint_auth_methods_supported"] = methods
        document[f"{name}_endpoint_auth_signing_alg_values_supported"] = algorithms
    document["revocation_endpoint"] = f"{base}/oauth/revoke"
    document["introspection_endpoint"] = f"{base}/oauth/introspect"
    return json_response(document, headers=_METADATA_HEADERS)


@oauth.get("/.well-known/oauth-protected-resource", name="protected_resource_metadata")
@public
async def protected_resource_metadata(request: Request) -> HTTPResponse:
    """Return the authorization servers that this resource trusts, and how tokens are sent (RFC 9728)."""
    settings = services_of(request).settings
    servers = [_issuer(settings), *([settings.oidc_issuer] if settings.oidc_issuer else [])]
    document = {
        "resource": settings.base_url,
        "authorization_servers": servers,
        "jwks_uri": f"{settings.base_url}/.well-known/jwks.json",
        "scopes_supported": sorted(SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "LLM Observatory",
        "resource_documentation": f"{settings.base_url}/docs",
    }
    return json_response(document, headers=_METADATA_HEADERS)


@oauth.get("/.well-known/jwks.json", name="jwks")
@public
async def jwks(request: Request) -> HTTPResponse:
    """Return the public keys of our tokens (RFC 7517); none under HS256, whose key is a secret."""
    return json_response(services_of(request).access.keys.public_jwks(), headers=_METADATA_HEADERS)


def _issuer(settings: Settings) -> str:
    """Return the issuer as an address, which both documents need; ``iss`` of tokens equals it once a public URL is
    set.
    """
    return settings.token_issuer if "://" in settings.token_issuer else settings.base_url


async def _answer(request: Request, endpoint: Endpoint) -> HTTPResponse:
    services = services_of(request)
    server = services.access.oauth
    try:
        form = read_form(request)
        client_id = named_client(form, request.headers)
    except InvalidRequestError as error:
        return _rendered(server.handle_error_response(None, error))
    guard, address = services.access.clients, client_address(request)
    verdict = await guard.before(client_id, address)
    if not verdict.allowed:
        return _too_many(verdict)
    async with services.reads.plain() as connection:
        row = await connection.fetchrow(statement("find_client"), client_id)
    sent = {"Authorization": request.headers.get("authorization", "")}
    grant = GrantRequest(form, sent, client_of(dict(row) if row is not None else None, client_id))
    reply = endpoint(server, grant)
    if reply[0] == 200 or reply[1].get("error") in _AFTER_AUTHENTICATION:
        verdict = await guard.was_right(client_id)
        issued = reply[1] if endpoint is OAuthServer.token else None
        if not verdict.allowed:
            return _too_many(verdict)
        if reply[0] == 200 and not await _carry_out(services, request, grant, issued):
            reply = server.handle_error_response(grant, InvalidClientError(status_code=401))
    else:
        verdict = await guard.was_wrong(address)
    if reply[0] == 401:
        observe(AuthenticationRefused("invalid_client", address))
        # The client's admins see failed attempts to use it. Attempts with an unknown id are seen by admins of the
        # installation only.
        event = audit_event(
            request,
            "oauth",
            projects=grant.prefetched.projects,
            outcome="refused",
            reason="invalid_client",
            target_type="client",
            target_id=client_id if row is not None else None,
        )
        services.access.audit.refused(event)
    return _rendered(reply) if verdict.allowed else _too_many(verdict)


def _too_many(verdict: Verdict) -> HTTPResponse:
    observe(RateLimitHit(verdict.tightest.bucket.name))
    body = {"error": "temporarily_unavailable", "error_description": "Too many requests."}
    return json_response(body, status=429, headers={**_NO_STORE, **rate_limit_headers(verdict)})


async def _carry_out(
    services: Services, request: Request, grant: GrantRequest, issued: Mapping[str, Any] | None
) -> bool:
    """Store the decision of the grant, with a record of the token that it ``issued`` or revokes; return False if its
    client assertion was used before.
    """
    assertion, revoked = grant.used_assertion, grant.revoked_claims
    client_id = grant.prefetched.client_id
    by = {"actor": client_subject(client_id), "actor_kind": "client", "target_type": "token"}
    async with services.writes.write(()) as connection:
        if assertion is not None:
            # Kept an hour longer than the assertion is valid, which covers clocks that differ.
            gone = datetime.fromtimestamp(float(assertion["exp"]), UTC) + timedelta(hours=1)
            if await connection.fetchrow(statement("claim_assertion"), client_id, assertion["jti"], gone) is None:
                return False
        await connection.execute(statement("touch_client"), client_id)
        if revoked is not None:
            await administration.revoke_token(connection, revoked, revoked_by=client_subject(client_id))
            note = noting(request, "token.revoke", projects=revoked["projects"], target_id=revoked["jti"], **by)
            await note(connection)
        if issued is not None:
            claims = parse_token(issued["access_token"]).claims
            detail = {"role": claims["role"], "projects": claims["projects"], "scope": issued["scope"]}
            projects = grant.prefetched.projects
            note = noting(request, "token.issue", projects=projects, target_id=claims["jti"], detail=detail, **by)
            await note(connection)
    if revoked is not None:
        await services.access.state.refresh()
    return True


def read_form(request: Request) -> dict[str, str]:
    """Return the form in the body, each parameter once. Raises InvalidRequestError (RFC 6749, 3.2).

    Parameters without a value count as left out. Client credentials in the address are refused: they would be in every
    access log.
    """
    media_type = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media_type != _FORM_TYPE or len(request.body) > MAX_FORM_BYTES or request.query_string:
        raise InvalidRequestError(
            description="The body must be a form of at most 16 KiB; parameters in the address are not accepted."
        )
    form: dict[str, str] = {}
    try:
        text = request.body.decode("ascii")
        for pair in filter(None, text.split("&")):
            raw_name, _, raw_value = pair.partition("=")
            name, value = (
                unquote(part.replace("+", " "), encoding="utf-8", errors="strict") for part in (raw_name, raw_value)
            )
            if name in form:
                raise InvalidRequestError(description="A parameter is given more than once.")
            form[name] = value
    except UnicodeDecodeError as error:
        raise InvalidRequestError(description="The form is not UTF-8.") from error
    if any("\0" in name or "\0" in value for name, value in form.items()):
        raise InvalidRequestError(description="The form contains a NUL character.")
    return {name: value for name, value in form.items() if value}


def named_client(form: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Return the client id that the request claims; "" without one.

    Raises InvalidRequestError if it authenticates in more than one way (RFC 6749, 2.3).
    """
    basic = _basic_user(headers.get("authorization", ""))
    ways = [basic is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise InvalidRequestError(description="The client authenticates in more than one way; use one.")
    claimed = basic if basic is not None else form.get("client_id", "")
    if "client_assertion" in form:
        try:
            subject = parse_token(form["client_assertion"]).claims.get("sub")
        except TokenRefused:
            subject = None
        if claimed and claimed != subject:
            raise InvalidRequestError(description="client_id and client_assertion differ.")
        claimed = subject if isinstance(subject, str) else ""
    return claimed if _CLIENT_ID.fullmatch(claimed) else ""


def _basic_user(authorization: str) -> str | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(value, validate=True).decode("utf-8").partition(":")[0]
    except (binascii.Error, ValueError):
        raise InvalidRequestError(description="The Basic header cannot be read.") from None
    # RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
    return unquote(user)


def _rendered(reply: Reply) -> HTTPResponse:
    status, body, headers = reply
    own = {name: value for name, value in headers if name.lower() not in ("content-type", "www-authenticate")}
    if status == 401:
        own["WWW-Authenticate"] = 'Basic realm="llm-observatory", charset="UTF-8"'
    return json_response(body, status=status, headers={**own, **_NO_STORE})
