"""Administration of keys, clients and projects: create, list, revoke.

Works on a database connection and knows neither HTTP nor the caller: :mod:`server.rest.key_routes` decides what a
caller may grant; the command line decides for itself. Secrets are returned once and stored as hashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from joserfc.errors import JoseError

from server.access.access_token import checked_projects, granted_scopes
from server.access.api_key import KEY_KINDS, hash_secret, new_api_key, random_text
from server.access.principal import Role, role_scopes
from server.access.remote_keys import usable_keys
from server.access.subjects import key_subject
from server.storage.openings import PROJECT_ID
from server.storage.statements import statement

CLIENT_SECRET_LENGTH: Final = 40  # characters of five bits
_LABEL: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

DEFAULT_ROLES: Final[dict[str, Role]] = {
    "ingest": Role.DEVELOPER,
    "dashboard": Role.VIEWER,
    "service": Role.DEVELOPER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An API key to be made. Raises ValueError if it would be unusable."""

    label: str
    kind: str
    projects: Sequence[str]
    expires_at: datetime
    role: Role | None = None
    """None: the usual role of the kind."""
    scopes: Collection[str] | None = None
    """None: all that role and kind have in common."""
    owner: str | None = None
    """The subject that owns the key. None: the key itself."""
    account: str | None = None
    """The account whose budget of requests it uses (:func:`~server.access.subjects.account_of`). None: its own."""
    rate_limit_per_minute: int | None = None

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.label):
            raise ValueError("label: 1 to 200 characters, none of them a control character")
        if self.kind not in KEY_KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KEY_KINDS)}")
        checked_projects(self.projects, self.effective_role)
        if not self.effective_scopes:
            raise ValueError("scopes: role and kind have no scope in common")
        if self.expires_at.tzinfo is None or self.expires_at <= datetime.now(UTC):
            raise ValueError("expires_at: must be in the future")
        limit = self.rate_limit_per_minute
        if limit is not None and not 1 <= limit <= 10_000_000:
            raise ValueError("rate_limit_per_minute: expected 1 to 10000000")

    @property
    def effective_role(self) -> Role:
        """The role, or the usual one of the kind."""
        return self.role or DEFAULT_ROLES[self.kind]

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """Scopes of the key. Raises ValueError for a scope that its role or its kind does not have."""
        allowed = KEY_KINDS[self.kind].scopes & role_scopes(self.effective_role)
        if self.scopes is None:
            return tuple(sorted(allowed))
        wanted = granted_scopes(self.effective_role, self.scopes)
        if not allowed.issuperset(wanted):
            raise ValueError(f"scopes: a key of kind {self.kind} cannot have them all")
        return wanted


async def create_key(connection: asyncpg.Connection, new: NewKey, *, created_by: str) -> tuple[str, dict[str, Any]]:
    """Store ``new``. Return the key's text, which is not kept anywhere, and its row without the hash."""
    key = new_api_key()
    row = await connection.fetchrow(
        statement("insert_api_key"),
        key.key_id,
        key.secret_hash,
        new.label,
        new.kind,
        str(new.effective_role),
        list(new.effective_scopes),
        list(checked_projects(new.projects, new.effective_role)),
        new.owner or key_subject(key.key_id),
        new.rate_limit_per_minute,
        new.expires_at,
        created_by,
        new.account or key_subject(key.key_id),
    )
    return key.text, _record(row)


def _record(row: asyncpg.Record | None) -> dict[str, Any]:
    """Return the row of an INSERT … RETURNING, which always exists."""
    return dict(row or {})


async def list_keys(
    connection: asyncpg.Connection,
    *,
    projects: Sequence[str] | None = None,
    owner: str | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Return keys within ``projects`` (None: all) of ``owner`` (None: anybody), newest first, without hashes."""
    within = None if projects is None else list(projects)
    return [dict(row) for row in await connection.fetch(statement("list_api_keys"), within, owner, limit)]


async def read_key(
    connection: asyncpg.Connection, key_id: str, *, projects: Sequence[str] | None = None, owner: str | None = None
) -> dict[str, Any] | None:
    """Return one key under the same conditions as :func:`list_keys`."""
    within = None if projects is None else list(projects)
    row = await connection.fetchrow(statement("read_api_key"), within, owner, key_id)
    return None if row is None else dict(row)


async def revoke_key(connection: asyncpg.Connection, key_id: str, *, revoked_by: str) -> dict[str, Any] | None:
    """Revoke a key; return None if there is none with that id. All processes refuse it within seconds."""
    row = await connection.fetchrow(statement("revoke_api_key"), key_id, revoked_by)
    return None if row is None else dict(row)


def latest_expiry(max_days: int) -> datetime:
    """Return the latest time at which a key made now may expire."""
    return datetime.now(UTC) + timedelta(days=max_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClient:
    """An OAuth client to be registered. Raises ValueError if it would be unusable.

    With ``jwks`` (public keys, RFC 7517) it authenticates by ``private_key_jwt``, else by a secret.
    """

    name: str
    role: Role
    projects: Sequence[str]
    scopes: Collection[str] | None = None
    client_id: str | None = None
    jwks: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.name):
            raise ValueError("client_name: 1 to 200 characters, none of them a control character")
        if self.client_id is not None and not _CLIENT_ID.fullmatch(self.client_id):
            raise ValueError("client_id: 1 to 64 letters, digits, dots, dashes, underscores")
        checked_projects(self.projects, self.role)
        if not self.effective_scopes:
            raise ValueError("scopes: at least one is needed")
        if self.jwks is not None:
            _check_public(self.jwks)

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """Scopes of the client. Raises ValueError for a scope that its role does not have."""
        return granted_scopes(self.role, self.scopes)


def _check_public(jwks: Mapping[str, Any]) -> None:
    try:
        keys = usable_keys(dict(jwks))
    except (JoseError, ValueError) as error:
        raise ValueError("jwks: not a JWK Set of public keys") from error
    if any(key.is_private for key in keys):
        raise ValueError("jwks: holds a private key; keep it to yourself and send the public half")


async def create_client(
    connection: asyncpg.Connection, new: NewClient, *, created_by: str
) -> tuple[str | None, dict[str, Any]]:
    """Register ``new``. Return its secret (None if it has keys of its own) and its row.

    Raises the database's error for a client id that is taken (Conflict, through the pool).
    """
    client_id = new.client_id or f"client-{random_text(12)}"
    secret = None if new.jwks is not None else random_text(CLIENT_SECRET_LENGTH)
    row = await connection.fetchrow(
        statement("insert_client"),
        client_id,
        new.name,
        "client_secret_basic" if secret is not None else "private_key_jwt",
        hash_secret(secret) if secret is not None else None,
        json.dumps(dict(new.jwks)) if new.jwks is not None else None,
        str(new.role),
        list(new.effective_scopes),
        list(checked_projects(new.projects, new.role)),
        created_by,
    )
    return secret, _record(row)


async def list_clients(
    connection: asyncpg.Connection, *, projects: Sequence[str] | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return clients within ``projects`` (None: all), newest first, without secrets."""
    within = None if projects is None else list(projects)
    return [dict(row) for row in await connection.fetch(statement("list_clients"), within, limit)]


async def disable_client(
    connection: asyncpg.Connection, client_id: str, *, projects: Sequence[str] | None = None, disabled_by: str
) -> dict[str, Any] | None:
    """Disable a client, its tokens and its keys; return None if there is none with that id within ``projects``."""
    within = None if projects is None else list(projects)
    row = await connection.fetchrow(statement("disable_client"), client_id, within, disabled_by)
    return None if row is None else dict(row)


async def enable_client(
    connection: asyncpg.Connection, client_id: str, *, projects: Sequence[str] | None = None
) -> dict[str, Any] | None:
    """Undo :func:`disable_client`: the client's unexpired tokens and its keys are accepted again."""
    within = None if projects is None else list(projects)
    row = await connection.fetchrow(statement("enable_client"), client_id, within)
    return None if row is None else dict(row)


async def create_project(connection: asyncpg.Connection, project_id: str, name: str) -> dict[str, Any] | None:
    """Create a project; return None if the id is taken, also by a deleted one. Raises ValueError for a bad id or
    name.
    """
    if not PROJECT_ID.fullmatch(project_id):
        raise ValueError("project_id: 1 to 63 lower-case letters, digits, dashes, underscores; first a letter or digit")
    if not _LABEL.fullmatch(name):
        raise ValueError("name: 1 to 200 characters, none of them a control character")
    row = await connection.fetchrow(statement("insert_project"), project_id, name)
    return None if row is None else dict(row)


async def delete_project(connection: asyncpg.Connection, project_id: str) -> dict[str, Any] | None:
    """Hide a project and everything in it from everybody; return None if there is no such live project."""
    row = await connection.fetchrow(statement("delete_project"), project_id)
    return None if row is None else dict(row)


async def list_projects(connection: asyncpg.Connection, projects: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return live projects among ``projects`` (None: all), by id."""
    within = None if projects is None else list(projects)
    return [dict(row) for row in await connection.fetch(statement("list_projects"), within)]


async def revoke_token(connection: asyncpg.Connection, claims: Mapping[str, Any], *, revoked_by: str) -> None:
    """Revoke the token with these verified ``claims``, here and in all processes within seconds."""
    # Kept an hour longer than the token, in case clocks differ.
    gone = datetime.fromtimestamp(float(claims["exp"]), UTC) + timedelta(hours=1)
    await connection.execute(statement("revoke_token"), claims["iss"], claims["jti"], gone, revoked_by)
