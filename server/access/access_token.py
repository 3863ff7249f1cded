"""Our own access tokens: JWTs with the profile of RFC 9068.

Beside the registered claims a token carries ``role``, ``projects`` and ``scope``. The principal's scopes are those that
the role holds *and* the token names, so a token can narrow its role and never widen it.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final

from server.access.jwt_verifier import TokenRefused, TokenRules
from server.access.principal import EVERY_PROJECT, SCOPES, Principal, Role, role_scopes
from server.access.signing_keys import SigningKeys
from server.access.subjects import CLIENT, account_of
from server.settings import Settings
from server.storage.openings import PROJECT_ID

TOKEN_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
MAX_PROJECTS: Final = 200

# A subject becomes part of log lines and store keys; a colon separates the parts of both.
_ROLE_NAMES: Final = frozenset(str(role) for role in Role)
_SUBJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,254}")
_TOKEN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def own_rules(settings: Settings) -> TokenRules:
    """Return the rules for an access token of this installation."""
    return TokenRules(
        issuer=settings.token_issuer,
        audiences=(settings.jwt_audience,),
        algorithms=(settings.jwt_algorithm,),
        types=TOKEN_TYPES,
        required=("jti", "role", "projects"),
        max_lifetime=settings.token_max_lifetime,
        leeway=settings.jwt_leeway,
    )


def checked_projects(projects: Collection[str], role: Role) -> tuple[str, ...]:
    """Return ``projects`` sorted, without duplicates. Raises ValueError for an empty or too long list, for anything but
    project ids, and for the grant of every project to a role other than admin.
    """
    unique = set(projects)
    if not unique or len(unique) > MAX_PROJECTS:
        raise ValueError(f"projects: expected 1 to {MAX_PROJECTS}")
    if EVERY_PROJECT in unique and (role is not Role.ADMIN or len(unique) > 1):
        raise ValueError("projects: only an admin may have the grant of every project, and then no other")
    for project in unique - {EVERY_PROJECT}:
        if not PROJECT_ID.fullmatch(project):
            raise ValueError(f"projects: {project[:64]!r} is not a project id")
    return tuple(sorted(unique))


def granted_scopes(role: Role, scopes: Collection[str] | None) -> tuple[str, ...]:
    """Return the scopes of ``role`` that ``scopes`` names (None: all). Raises ValueError for one the role does not
    hold.
    """
    held = role_scopes(role)
    if scopes is None:
        return tuple(sorted(held))
    wanted = set(scopes)
    if not wanted <= held:
        unknown = sorted(wanted - SCOPES.keys())
        raise ValueError(
            f"scopes: unknown scope {unknown[0]}" if unknown else f"scopes: role {role} does not hold all of them"
        )
    return tuple(sorted(wanted))


def access_claims(
    settings: Settings,
    *,
    subject: str,
    role: Role,
    projects: Sequence[str],
    scopes: Sequence[str],
    ttl: int,
    client_id: str | None = None,
) -> dict[str, Any]:
    """Return the claims of a new token that lives ``ttl`` seconds."""
    now = int(time.time())
    return {
        "iss": settings.token_issuer,
        "aud": settings.jwt_audience,
        "sub": subject,
        "client_id": client_id or subject,
        "iat": now,
        "exp": now + ttl,
        "jti": uuid.uuid4().hex,
        "scope": " ".join(scopes),
        "role": str(role),
        "projects": list(projects),
    }


def issue_token(
    settings: Settings,
    *,
    role: Role,
    projects: Sequence[str],
    scopes: Sequence[str] | None = None,
    ttl: int = 3600,
    subject: str = "cli",
) -> str:
    """Return a signed access token, made without the database: for the command line and for tests.

    ``ttl`` in seconds; ``scopes`` None means all that the role holds. Raises ValueError for a grant that the verifier
    would refuse, :class:`~server.settings.SettingsError` without a usable key.
    """
    if not 1 <= ttl <= settings.token_max_lifetime:
        raise ValueError(f"a token lives 1 to {settings.token_max_lifetime} seconds (TOKEN_MAX_LIFETIME)")
    if not _SUBJECT.fullmatch(subject):
        raise ValueError("not usable as a subject")
    claims = access_claims(
        settings,
        subject=subject,
        role=role,
        projects=checked_projects(projects, role),
        scopes=granted_scopes(role, scopes),
        ttl=ttl,
    )
    return SigningKeys(settings).sign(claims)


def principal_of(claims: dict[str, Any]) -> Principal:
    """Return the caller that the verified ``claims`` of one of our tokens identify. Raises :class:`TokenRefused`."""
    subject, token_id, client_id = claims["sub"], claims["jti"], claims.get("client_id")
    is_client = subject.startswith(CLIENT)
    if not (is_client or _SUBJECT.fullmatch(subject)) or not _TOKEN_ID.fullmatch(token_id):
        raise TokenRefused("claims")
    if client_id is not None and (type(client_id) is not str or not _CLIENT_ID.fullmatch(client_id)):
        raise TokenRefused("claims")
    if is_client and subject != f"{CLIENT}{client_id}":
        raise TokenRefused("claims")
    role = parse_role(claims["role"])
    scope = claims.get("scope")
    if scope is not None and type(scope) is not str:
        raise TokenRefused("claims")
    held = role_scopes(role)
    projects = parse_projects(claims["projects"], role)
    return Principal(
        subject=subject,
        role=role,
        scopes=held if scope is None else held & frozenset(scope.split()),
        projects=projects,
        kind="client" if is_client else "token",
        credential_id=token_id,
        account=account_of(subject, projects),
    )


def parse_role(value: Any) -> Role:
    """Return the role that a claim names; exactly one, as text. Raises :class:`TokenRefused`."""
    if type(value) is not str or value not in _ROLE_NAMES:
        raise TokenRefused("role")
    return Role(value)


def parse_projects(value: Any, role: Role) -> frozenset[str]:
    """Return the projects that a claim grants. An empty list grants nothing. Raises :class:`TokenRefused`."""
    if type(value) is not list or not all(type(item) is str for item in value):
        raise TokenRefused("projects")
    if not value:
        return frozenset()
    try:
        return frozenset(checked_projects(value, role))
    except ValueError as error:
        raise TokenRefused("projects") from error
