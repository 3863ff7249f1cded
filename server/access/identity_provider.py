"""Tokens of an external OpenID Connect provider, such as those that Grafana forwards for its users.

Issuer, audience, algorithms and claim names come from the settings. The keys come from the provider's
discovery document (OpenID Connect Discovery 1.0, RFC 8414) or from a set address; never from a token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import httpx
from joserfc.jwk import Key

from server.access.access_token import parse_projects, parse_role
from server.access.jwt_verifier import KEY_TYPES, TokenRefused, TokenRules, UnverifiedToken, verify_token
from server.access.principal import SCOPES, Principal, Role, role_scopes
from server.access.remote_keys import KeysUnavailable, RemoteKeys, check_issuer_url, fetch_json
from server.access.subjects import PROVIDER
from server.settings import Settings, SettingsError

_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,255}")
_TOKEN_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")


class IdentityProvider:
    """Accepts access tokens of one provider."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`SettingsError` for settings that would accept the wrong tokens."""
        self.issuer = settings.oidc_issuer
        self._settings = settings
        self._role_map = _role_map(settings.oidc_role_map)
        if not settings.oidc_audience:
            raise SettingsError("OIDC_AUDIENCE: needed with OIDC_ISSUER, else tokens for other services would count")
        if not settings.oidc_algorithms or any(KEY_TYPES.get(x, "oct") == "oct" for x in settings.oidc_algorithms):
            usable = ", ".join(name for name, kind in KEY_TYPES.items() if kind != "oct")
            raise SettingsError(f"OIDC_ALGORITHMS: expected some of {usable}")
        if self.issuer == settings.token_issuer:
            raise SettingsError("OIDC_ISSUER: is the name under which we issue tokens ourselves (JWT_ISSUER)")
        check_issuer_url(settings.oidc_jwks_url or self.issuer, "OIDC_ISSUER", allow_http=settings.allow_http_issuers)
        self.rules = TokenRules(
            issuer=self.issuer,
            audiences=settings.oidc_audience,
            algorithms=settings.oidc_algorithms,
            types=frozenset(name.lower() for name in settings.oidc_token_types),
            max_lifetime=settings.token_max_lifetime,
            leeway=settings.jwt_leeway,
        )
        self._remote = RemoteKeys(self.issuer, self._locate)

    async def verify(self, token: UnverifiedToken) -> tuple[Principal, dict[str, Any]]:
        """Return the caller behind ``token``, and its claims. Raises :class:`TokenRefused`."""
        try:
            keys: Sequence[Key] = await self._remote.keys(token.key_id)
        except KeysUnavailable as error:
            raise TokenRefused("issuer_keys") from error
        claims = verify_token(token, keys, self.rules)
        return self._principal(claims), claims

    async def _locate(self, client: httpx.AsyncClient) -> str:
        url = self._settings.oidc_jwks_url
        if not url:
            document = await fetch_json(client, f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            # RFC 8414, 3.3: the document must speak for the issuer that was asked about.
            if not isinstance(document, dict) or document.get("issuer") != self.issuer:
                raise ValueError("the discovery document is another issuer's")
            found = document.get("jwks_uri")
            if not isinstance(found, str):
                raise ValueError("the discovery document names no keys")
            url = found
            check_issuer_url(url, "jwks_uri", allow_http=self._settings.allow_http_issuers)
        return url

    def _principal(self, claims: dict[str, Any]) -> Principal:
        if not _SUBJECT.fullmatch(claims["sub"]):
            raise TokenRefused("claims")
        token_id = claims.get("jti", "")
        if token_id and not _TOKEN_ID.fullmatch(token_id):
            raise TokenRefused("claims")
        role = self._role(_claim(claims, self._settings.oidc_role_claim))
        projects = _claim(claims, self._settings.oidc_projects_claim)
        if projects is None:
            projects = list(self._settings.oidc_default_projects)
        held = role_scopes(role)
        # A provider's own scopes (openid, profile, …) say nothing about us; ours narrow the role.
        scope = claims.get("scope")
        named = frozenset(scope.split()) & SCOPES.keys() if isinstance(scope, str) else frozenset()
        return Principal(
            subject=PROVIDER + claims["sub"],
            role=role,
            scopes=held & named if named else held,
            projects=parse_projects([projects] if isinstance(projects, str) else projects, role),
            kind="identity_provider",
            credential_id=token_id,
        )

    def _role(self, value: Any) -> Role:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list):
            if self._role_map:
                # In the order of the settings: the operator decides which of several groups wins.
                for name, role in self._role_map.items():
                    if name in values:
                        return role
            elif len(values) == 1:
                return parse_role(values[0])
        if self._settings.oidc_default_role:
            return Role(self._settings.oidc_default_role)
        raise TokenRefused("role")


def _role_map(entries: Sequence[str]) -> dict[str, Role]:
    mapping: dict[str, Role] = {}
    for entry in entries:
        name, _, role = entry.rpartition("=")
        try:
            mapping[name] = Role(role)
        except ValueError as error:
            raise SettingsError(f"OIDC_ROLE_MAP: {entry!r} is not value=role") from error
    return mapping


def _claim(claims: dict[str, Any], path: str) -> Any:
    """Return the claim at a dotted ``path``; a claim whose whole name has dots comes first (they are often URLs)."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value
