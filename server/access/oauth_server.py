"""The OAuth 2.0 authorization server: Authlib's grants and endpoints, without a database inside.

Authlib's server side is synchronous, so nothing here waits: the routes read the client from the database first, run the
grant over that one client, and carry out afterwards what the grant decided (:class:`GrantRequest` notes it). Supported
are the client credentials grant (RFC 6749, 4.4) with a secret in a Basic header or in the form, or with a signed
assertion (RFC 7523); revocation (RFC 7009) and introspection (RFC 7662) of our own access tokens.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientAuthentication,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload, OAuth2Request
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from server.access.access_token import access_claims, own_rules
from server.access.api_key import UNKNOWN_HASH, hash_secret
from server.access.jwt_verifier import KEY_TYPES, TokenRefused, TokenRules, parse_token, verify_token
from server.access.principal import SCOPES, Role, role_scopes
from server.access.remote_keys import usable_keys
from server.access.revocations import AccessState
from server.access.signing_keys import SigningKeys
from server.access.subjects import client_subject
from server.settings import Settings

CLIENT_AUTH_METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
ASSERTION_ALGORITHMS: Final = tuple(name for name, kind in KEY_TYPES.items() if kind != "oct")
ASSERTION_MAX_SECONDS: Final = 600
_ASSERTION_TYPES: Final = frozenset({"", "jwt", "client-authentication+jwt"})

# At DEBUG Authlib logs each token it issues.
logging.getLogger("authlib").setLevel(logging.INFO)

# One text for an unknown client, a wrong secret and a bad assertion: the answer must not tell which.
_REFUSAL: Final = "Client authentication failed."


class InvalidTargetError(InvalidRequestError):  # type: ignore[misc]
    """The resource that the token is requested for is not served here (RFC 8707, 2)."""

    error = "invalid_target"


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A client in Authlib's interface; made from a row, or a substitute for one that does not exist."""

    client_id: str
    auth_method: str
    secret_hash: bytes
    jwks: Mapping[str, Any]
    role: Role
    scopes: frozenset[str]
    projects: tuple[str, ...]
    is_usable: bool

    def check_client_secret(self, secret: str) -> bool:
        """Return whether ``secret`` is right; takes the same time for a client that does not exist."""
        return hmac.compare_digest(hash_secret(secret), self.secret_hash) and self.is_usable

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Return whether the client may authenticate this way. A secret may come in the header or in the form."""
        del endpoint  # the same at all endpoints
        if self.auth_method == "client_secret_basic":
            return method in ("client_secret_basic", "client_secret_post")
        return method == self.auth_method

    def check_grant_type(self, grant_type: str) -> bool:
        """Allow client credentials only."""
        return grant_type == "client_credentials"


def client_of(row: Mapping[str, Any] | None, client_id: str) -> OAuthClient:
    """Return the client in ``row``; for no row, one that refuses everything in the usual time."""
    if row is None:
        return OAuthClient(
            client_id, "client_secret_basic", UNKNOWN_HASH, {}, Role.VIEWER, frozenset(), (), is_usable=False
        )
    role = Role(row["role"])
    return OAuthClient(
        client_id=row["client_id"],
        auth_method=row["token_endpoint_auth_method"],
        secret_hash=row["secret_hash"] or UNKNOWN_HASH,
        jwks=orjson.loads(row["jwks"]) if row["jwks"] is not None else {},
        role=role,
        scopes=frozenset(row["scopes"]) & role_scopes(role),
        projects=tuple(row["projects"]),
        is_usable=row["disabled_at"] is None,
    )


class GrantRequest(OAuth2Request):  # type: ignore[misc]
    """A form sent to one of our endpoints, and the actions to take after the grant has run."""

    def __init__(self, form: Mapping[str, str], headers: Mapping[str, str], client: OAuthClient) -> None:
        # The parent's own check requires https in the URL it receives, and TLS ends at the proxy in front of us; so it
        # receives an address of the loopback interface, and nothing else reads it.
        super().__init__("POST", "http://localhost/", headers=dict(headers))
        self.payload = BasicOAuth2Payload(dict(form))
        self.prefetched = client
        self.used_assertion: dict[str, Any] | None = None
        """Claims of the client assertion that let the client in: good for one use."""
        self.revoked_claims: dict[str, Any] | None = None
        """Claims of the token that is to be revoked."""

    def query_client(self, client_id: str) -> OAuthClient | None:
        """Return the client that was read for this request, if it has this id."""
        return self.prefetched if client_id == self.prefetched.client_id else None

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters; Authlib reads some of them here."""
        return self.payload.data  # type: ignore[no-any-return]


class _ClientAssertion(JWTBearerClientAssertion):  # type: ignore[misc]
    """``private_key_jwt`` (RFC 7523, 2.2), verified with our own strict rules."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def __call__(self, query_client: Any, request: GrantRequest) -> OAuthClient | None:
        form = request.form
        if form.get("client_assertion_type") != self.CLIENT_ASSERTION_TYPE or "client_assertion" not in form:
            return None
        client = request.prefetched
        try:
            claims = self._claims(form["client_assertion"], client)
        except (TokenRefused, ValueError) as error:
            raise InvalidClientError(description=_REFUSAL, status_code=401) from error
        request.used_assertion = claims
        return client

    def _claims(self, assertion: str, client: OAuthClient) -> dict[str, Any]:
        base = self._settings.base_url
        rules = TokenRules(
            issuer=client.client_id,
            audiences=(self._settings.token_issuer, base, f"{base}/oauth/token"),
            algorithms=ASSERTION_ALGORITHMS,
            types=_ASSERTION_TYPES,
            required=("jti",),
            max_lifetime=ASSERTION_MAX_SECONDS,
            leeway=self._settings.jwt_leeway,
        )
        token = parse_token(assertion)
        # One audience only (RFC 7523bis): a list would let another server that is in it replay the assertion.
        if type(token.claims.get("aud")) is not str or not client.is_usable:
            raise TokenRefused("claims")
        claims = verify_token(token, usable_keys(client.jwks), rules)
        if claims["sub"] != client.client_id or not 1 <= len(claims["jti"]) <= 256:
            raise TokenRefused("claims")
        return claims


class _ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = list(CLIENT_AUTH_METHODS)

    def validate_requested_scope(self) -> None:
        asked = self.request.payload.scope
        if asked is not None and not set(asked.split()) <= self.client.scopes:
            raise InvalidScopeError()


class OwnToken:
    """One of our access tokens in the interface of Authlib's endpoints."""

    def __init__(self, claims: dict[str, Any], *, is_taken_back: bool) -> None:
        self.claims = claims
        self._is_taken_back = is_taken_back

    def check_client(self, client: OAuthClient) -> bool:
        """Return whether the token was issued to ``client``. Its subject decides, not the client id in it."""
        return bool(self.claims["sub"] == client_subject(client.client_id))

    def is_expired(self) -> bool:
        """Return whether it has expired, without leeway."""
        return bool(self.claims["exp"] <= time.time())

    def is_revoked(self) -> bool:
        """Return whether it, or its client, was revoked."""
        return self._is_taken_back


class _AnyHint:
    """Hints at the type of a token that are taken: all. One that means nothing to us is ignored, and is no reason to
    leave a token alone (RFC 7009, 2.2); Authlib would refuse it.
    """

    def __contains__(self, hint: object) -> bool:
        return True


class _Revocation(RevocationEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = list(CLIENT_AUTH_METHODS)
    SUPPORTED_TOKEN_TYPES = _AnyHint()

    def query_token(self, token_string: str, token_type_hint: str | None) -> OwnToken | None:
        del token_type_hint  # there is only one kind of token
        found: OwnToken | None = self.server.own_token(token_string)
        # One that has ended is as good as unknown: else a client would learn that somebody else's had been genuine,
        # which no other endpoint tells, and its own would be revoked, and put on record, a second time.
        return None if found is None or found.is_revoked() else found

    def revoke_token(self, token: OwnToken, request: GrantRequest) -> None:
        request.revoked_claims = token.claims


class _Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = list(CLIENT_AUTH_METHODS)
    SUPPORTED_TOKEN_TYPES = _AnyHint()

    def query_token(self, token_string: str, token_type_hint: str | None) -> OwnToken | None:
        del token_type_hint
        return self.server.own_token(token_string)  # type: ignore[no-any-return]

    def check_permission(self, token: OwnToken, client: OAuthClient, request: GrantRequest) -> bool:
        return token.check_client(client)

    def introspect_token(self, token: OwnToken) -> dict[str, Any]:
        return {"active": True, "token_type": "Bearer", **token.claims}


Reply = tuple[int, Any, list[tuple[str, str]]]


class OAuthServer(AuthorizationServer):  # type: ignore[misc]
    """Authlib's server over prefetched clients. Its methods return (status, body, headers)."""

    def __init__(self, settings: Settings, keys: SigningKeys, state: AccessState) -> None:
        super().__init__(scopes_supported=sorted(SCOPES))
        self._settings = settings
        self._keys = keys
        self._state = state
        self._rules = own_rules(settings)
        self.register_grant(_ClientCredentials)
        self.register_token_generator("default", self._new_token)
        self._assertion = _ClientAssertion(settings)
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Introspection)

    def token(self, request: GrantRequest) -> Reply:
        """Answer ``POST /oauth/token``."""
        audience = request.form.get("resource") or request.form.get("audience")
        if audience is not None and audience not in (self._settings.jwt_audience, self._settings.base_url):
            return self.handle_error_response(request, InvalidTargetError())  # type: ignore[no-any-return]
        return self.create_token_response(request)  # type: ignore[no-any-return]

    def revocation(self, request: GrantRequest) -> Reply:
        """Answer ``POST /oauth/revoke``."""
        return self.create_endpoint_response("revocation", request)  # type: ignore[no-any-return]

    def introspection(self, request: GrantRequest) -> Reply:
        """Answer ``POST /oauth/introspect``."""
        return self.create_endpoint_response("introspection", request)  # type: ignore[no-any-return]

    def own_token(self, text: str) -> OwnToken | None:
        """Return the access token ``text`` if we signed it and it has not expired, else None."""
        try:
            claims = verify_token(parse_token(text), self._keys.keys, self._rules)
        except TokenRefused:
            return None
        is_out = self._state.taken_back.reason_against(claims["sub"], claims) is not None
        return OwnToken(claims, is_taken_back=is_out)

    def authenticate_client(self, request: GrantRequest, methods: list[str], endpoint: str = "token") -> OAuthClient:
        """Return the authenticated client. Raises InvalidClientError with one text whatever was wrong."""
        authentication = ClientAuthentication(request.query_client)
        authentication.register("private_key_jwt", self._assertion)
        try:
            return authentication(request, methods, endpoint)  # type: ignore[no-any-return]
        except InvalidClientError as error:
            raise InvalidClientError(description=_REFUSAL, status_code=401) from error

    # Hooks that Authlib requires from the integration of a framework.

    def save_token(self, token: Any, request: GrantRequest) -> None:
        """Do nothing: access tokens are not stored, their signature is the record."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no signals."""

    def create_oauth2_request(self, request: GrantRequest) -> GrantRequest:
        """Return the request, which is one of ours already."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Reply:
        """Return the parts; the routes make the HTTP answer."""
        return status, body, headers

    def _new_token(self, *, client: OAuthClient, scope: str | None = None, **_: Any) -> dict[str, Any]:
        granted = sorted(client.scopes if scope is None else client.scopes.intersection(scope.split()))
        claims = access_claims(
            self._settings,
            subject=client_subject(client.client_id),
            client_id=client.client_id,
            role=client.role,
            projects=client.projects,
            scopes=granted,
            ttl=self._settings.token_lifetime,
        )
        return {
            "access_token": self._keys.sign(claims),
            "token_type": "Bearer",
            "expires_in": self._settings.token_lifetime,
            "scope": " ".join(granted),
        }
