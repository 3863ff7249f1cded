"""HS256 access tokens (RFC 7519, profile RFC 9068): issuing and verifying."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from server.access.principal import Principal, Role, role_scopes
from server.errors import InvalidToken
from server.settings import Settings

MINIMUM_SECRET_BYTES = 32
LEEWAY_SECONDS = 30
_REQUIRED = ("iss", "aud", "sub", "exp", "iat", "jti", "role", "projects")


def issue_token(
    settings: Settings,
    *,
    role: Role,
    projects: Sequence[str],
    scopes: Sequence[str] | None = None,
    ttl: int = 3600,
    subject: str = "cli",
) -> str:
    """A signed access token. ``ttl`` in seconds; ``scopes`` None means all that the role holds."""
    now = int(time.time())
    granted = sorted(role_scopes(role) if scopes is None else role_scopes(role) & set(scopes))
    claims: dict[str, Any] = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": subject,
        "iat": now,
        "exp": now + ttl,
        "jti": uuid.uuid4().hex,
        "role": str(role),
        "projects": list(projects),
        "scope": " ".join(granted),
    }
    key = OctKey.import_key(settings.jwt_secret)
    return jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims, key, algorithms=["HS256"])


def verify_token(settings: Settings, token: str) -> Principal:
    """The principal that ``token`` stands for. Raises :class:`InvalidToken` for anything else."""
    if not token.isascii() or len(token) > 8192 or token.count(".") != 2:
        raise InvalidToken()
    try:
        decoded = jwt.decode(token, OctKey.import_key(settings.jwt_secret), algorithms=["HS256"])
        if decoded.header.get("typ") not in ("at+jwt", "application/at+jwt"):
            raise InvalidToken()
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": settings.jwt_issuer},
            aud={"essential": True, "value": settings.jwt_audience},
            **{name: {"essential": True} for name in _REQUIRED if name not in ("iss", "aud")},  # type: ignore[arg-type]
        )
        registry.validate(decoded.claims)
        return _principal(decoded.claims)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidToken() from error


def _principal(claims: dict[str, Any]) -> Principal:
    role_name, projects, scope = claims["role"], claims["projects"], claims.get("scope")
    if type(role_name) is not str or type(projects) is not list or not all(type(item) is str for item in projects):
        raise InvalidToken()
    role = Role(role_name)
    held = role_scopes(role)
    scopes = held if scope is None else held & frozenset(str(scope).split())
    if "*" in projects and role is not Role.ADMIN:
        raise InvalidToken()
    return Principal(
        subject=claims["sub"],
        role=role,
        scopes=scopes,
        projects=frozenset(projects),
        kind="token",
        credential_id=claims["jti"],
    )
