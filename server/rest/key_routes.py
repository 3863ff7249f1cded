"""API keys over HTTP: create, list, revoke.

Nobody can grant more than they have: a key's role, scopes and projects are within those of the credential that makes
it. An admin sees all keys of its projects, others the keys they own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from sanic import Blueprint, HTTPResponse, Request

from server.access import administration
from server.access.administration import NewClient, NewKey, latest_expiry
from server.access.principal import EVERY_PROJECT, Principal, Role, role_scopes
from server.access.rate_policy import tier_of
from server.errors import GrantForbidden, InvalidBody, NotFound
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import is_text, is_texts, is_whole, read_object
from server.http.repeatable import repeatable
from server.http.services import Services, services_of
from server.storage.database import Step
from server.text.instants import parse_instant

keys = Blueprint("keys")

Grant = TypeVar("Grant", NewKey, NewClient)

FIELDS = {
    "label": is_text,
    "kind": is_text,
    "role": is_text,
    "scopes": is_texts,
    "projects": is_texts,
    "expires_at": is_text,
    "rate_limit_per_minute": is_whole,
}


@keys.post("/api/v1/keys", name="create_key")
@requires("keys:manage", cost=10)
@repeatable
async def create_key(request: Request) -> HTTPResponse:
    """Create an API key. The key itself is in this answer and never shown again."""
    services, principal = services_of(request), request.ctx.principal
    body = read_object(request, FIELDS, required=("label", "kind"))
    projects = await grantable_projects(request, body.get("projects"))
    try:
        new = NewKey(
            label=body["label"],
            kind=body["kind"],
            projects=projects,
            expires_at=_expiry(services, principal, body.get("expires_at")),
            role=_role(body.get("role")) or (principal.role if body["kind"] == "service" else None),
            scopes=body.get("scopes"),
            owner=principal.subject,
            **counted_with(principal, body.get("rate_limit_per_minute")),
        )
        refuse_widening(principal, new.effective_role, new.effective_scopes if "scopes" in body else ())
    except ValueError as error:
        raise InvalidBody.of(error) from error
    if new.scopes is None:
        new = narrowed(new, principal)
    if new.expires_at > latest_expiry(services.settings.api_key_max_days):
        raise GrantForbidden(f"A key is valid for {services.settings.api_key_max_days} days at most.")
    async with services.writes.write(()) as connection:
        text, row = await administration.create_key(connection, new, created_by=principal.subject)
        detail = {"kind": row["kind"], "role": row["role"], "projects": projects, "label": row["label"]}
        await _noting(request, "api_key.create", row, detail=detail)(connection)
    return success(request, {**row, "key": text}, status=201, headers={"Cache-Control": "no-store"})


@keys.get("/api/v1/keys", name="list_keys")
@requires("keys:manage")
async def list_keys(request: Request) -> HTTPResponse:
    """List the keys that the caller manages, newest first, at most a thousand. Never a secret or a hash."""
    services = services_of(request)
    async with services.reads.plain() as connection:
        rows = await administration.list_keys(connection, **managed_by(request.ctx.principal))
    return success(request, rows, headers={"Cache-Control": "no-store"})


@keys.get("/api/v1/keys/<key_id:str>", name="read_key")
@requires("keys:manage")
async def read_key(request: Request, key_id: str) -> HTTPResponse:
    """Return one key, without secret and hash."""
    services = services_of(request)
    async with services.reads.plain() as connection:
        row = await administration.read_key(connection, key_id, **managed_by(request.ctx.principal))
    if row is None:
        raise NotFound()
    return success(request, row, headers={"Cache-Control": "no-store"})


@keys.delete("/api/v1/keys/<key_id:str>", name="revoke_key")
@requires("keys:manage")
async def revoke_key(request: Request, key_id: str) -> HTTPResponse:
    """Revoke a key. Within seconds every server process refuses it."""
    services, principal = services_of(request), request.ctx.principal
    async with services.writes.write(()) as connection:
        if await administration.read_key(connection, key_id, **managed_by(principal)) is None:
            raise NotFound()
        row = await administration.revoke_key(connection, key_id, revoked_by=principal.subject)
        if row is None:
            raise NotFound()
        await _noting(request, "api_key.revoke", row)(connection)
    await services.access.state.refresh()
    return success(request, row, headers={"Cache-Control": "no-store"})


def _noting(request: Request, action: str, row: Mapping[str, Any], **fields: Any) -> Step:
    return noting(request, action, projects=row["projects"], target_type="api_key", target_id=row["key_id"], **fields)


def managed_by(principal: Principal) -> dict[str, Any]:
    """Return the keys that ``principal`` manages, as arguments of :func:`server.access.administration.list_keys`."""
    return {
        "projects": None if principal.sees_every_project else sorted(principal.projects),
        "owner": None if principal.role is Role.ADMIN else principal.subject,
    }


async def grantable_projects(request: Request, asked: list[str] | None) -> list[str]:
    """Return the projects that the caller grants to a key or client: the requested ones, or all its own.

    Raises :class:`~server.errors.ProjectForbidden` for others, existing or not, and :class:`~server.errors.InvalidBody`
    for an empty list, which must not be taken for all.
    """
    principal: Principal = request.ctx.principal
    if asked == []:
        raise InvalidBody.at("/projects", "expected at least one project; leave it out for all of yours")
    if asked is None and principal.sees_every_project:
        raise InvalidBody.at("/projects", "is required, because your credential grants every project")
    if asked == [EVERY_PROJECT] and principal.sees_every_project:
        return [EVERY_PROJECT]
    return list((await row_scope(request, asked or ())).projects)


def refuse_widening(principal: Principal, role: Role, scopes: tuple[str, ...]) -> None:
    """Raise :class:`GrantForbidden` if ``role`` or ``scopes`` hold anything that ``principal`` does not."""
    if not role_scopes(role) <= role_scopes(principal.role):
        raise GrantForbidden("The role holds scopes that yours does not.")
    if not principal.scopes.issuperset(scopes):
        raise GrantForbidden("The scopes go beyond yours.")


def narrowed(new: Grant, principal: Principal) -> Grant:
    """Return ``new`` with those scopes that the caller has as well, if none were requested."""
    scopes = principal.scopes.intersection(new.effective_scopes)
    if not scopes:
        raise GrantForbidden("The role, the kind and your own scopes have no scope in common.")
    return replace(new, scopes=scopes)


def counted_with(principal: Principal, asked: int | None) -> dict[str, Any]:
    """Return the limit and the account of a key that ``principal`` makes, as arguments of :class:`NewKey`.

    A key with a limit of its own passes it on, and all keys made with it share that one limit: otherwise a hundred of
    them would have a hundred times the limit. Raises :class:`GrantForbidden` for a limit beyond the caller's.
    """
    own, account = principal.rate_limit_per_minute, principal.account or principal.subject
    if asked is not None and principal.role is not Role.ADMIN:
        raise GrantForbidden("Only an admin may set the limit of a key.")
    if asked is not None and not principal.sees_every_project and asked > tier_of(principal).per_minute:
        raise GrantForbidden("The limit is higher than yours.")
    if own is not None:
        if asked is not None and asked > own:
            raise GrantForbidden("The limit is higher than yours.")
        return {"rate_limit_per_minute": asked or own, "account": account}
    return {"rate_limit_per_minute": asked, "account": account if asked is None else None}


def _role(value: str | None) -> Role | None:
    try:
        return None if value is None else Role(value)
    except ValueError as error:
        raise InvalidBody.at("/role", f"expected one of {', '.join(Role)}") from error


def _expiry(services: Services, principal: Principal, value: str | None) -> datetime:
    latest = latest_expiry(services.settings.api_key_max_days)
    if value is None:
        return min(latest, principal.expires_at or latest)
    try:
        expiry = parse_instant(value, now=datetime.now(UTC))
    except ValueError as error:
        raise InvalidBody.at("/expires_at", str(error)) from error
    if principal.expires_at is not None and expiry > principal.expires_at:
        raise GrantForbidden("The key would outlive yours: choose an earlier end.")
    return expiry
