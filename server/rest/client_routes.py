"""OAuth clients over HTTP: register, list, disable and enable. For admins, within their projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from server.access import administration
from server.access.administration import NewClient
from server.access.principal import Principal, Role
from server.errors import GrantForbidden, InvalidBody, NotFound
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires
from server.http.json_body import is_object, is_text, is_texts, read_object
from server.http.repeatable import repeatable
from server.http.services import services_of
from server.rest.key_routes import grantable_projects, narrowed, refuse_widening
from server.storage.database import Step

clients = Blueprint("clients")

FIELDS = {
    "client_id": is_text,
    "client_name": is_text,
    "role": is_text,
    "scopes": is_texts,
    "projects": is_texts,
    "jwks": is_object,
}


@clients.post("/api/v1/clients", name="create_client")
@requires("clients:manage", cost=10)
@repeatable
async def create_client(request: Request) -> HTTPResponse:
    """Register a client for ``/oauth/token``. Its secret is in this answer and never shown again.

    With ``jwks`` it authenticates by ``private_key_jwt`` (RFC 7523) and gets no secret.
    """
    services, principal = services_of(request), request.ctx.principal
    if principal.kind == "api_key":
        raise GrantForbidden(
            "A client outlives the key that registers it and escapes the key's limit: use an access token instead."
        )
    body = read_object(request, FIELDS, required=("client_name", "role"))
    projects = await grantable_projects(request, body.get("projects"))
    try:
        role = Role(body["role"])
        new = NewClient(
            name=body["client_name"],
            role=role,
            projects=projects,
            scopes=body.get("scopes"),
            client_id=body.get("client_id"),
            jwks=body.get("jwks"),
        )
        refuse_widening(principal, role, tuple(body.get("scopes", ())))
        if new.scopes is None:
            new = narrowed(new, principal)
        if new.client_id is not None and not principal.sees_every_project:
            # Client ids are unique in the installation: a caller could claim one that a neighbour wants, and a refusal
            # would reveal that a neighbour has it.
            raise GrantForbidden("Only an admin of every project may choose the id of a client.")
    except ValueError as error:
        raise InvalidBody.of(error) from error
    async with services.writes.write(()) as connection:
        secret, row = await administration.create_client(connection, new, created_by=principal.subject)
        detail = {"role": row["role"], "projects": projects}
        await _noting(request, "client.create", row, detail=detail)(connection)
    return success(request, {**row, "client_secret": secret}, status=201, headers={"Cache-Control": "no-store"})


@clients.get("/api/v1/clients", name="list_clients")
@requires("clients:manage")
async def list_clients(request: Request) -> HTTPResponse:
    """List the clients within the caller's projects, newest first, at most a thousand. Never a secret."""
    async with services_of(request).reads.plain() as connection:
        rows = await administration.list_clients(connection, projects=_within(request.ctx.principal))
    return success(request, rows, headers={"Cache-Control": "no-store"})


@clients.delete("/api/v1/clients/<client_id:str>", name="disable_client")
@requires("clients:manage")
async def disable_client(request: Request, client_id: str) -> HTTPResponse:
    """Disable a client. Within seconds its tokens and the keys it owns are refused everywhere."""
    services, principal = services_of(request), request.ctx.principal
    async with services.writes.write(()) as connection:
        row = await administration.disable_client(
            connection, client_id, projects=_within(principal), disabled_by=principal.subject
        )
        if row is None:
            raise NotFound()
        await _noting(request, "client.disable", row)(connection)
    await services.access.state.refresh()
    return success(request, row, headers={"Cache-Control": "no-store"})


@clients.post("/api/v1/clients/<client_id:str>/enable", name="enable_client")
@requires("clients:manage")
@repeatable
async def enable_client(request: Request, client_id: str) -> HTTPResponse:
    """Enable a disabled client: within seconds its keys and unexpired tokens are accepted again."""
    services, principal = services_of(request), request.ctx.principal
    async with services.writes.write(()) as connection:
        row = await administration.enable_client(connection, client_id, projects=_within(principal))
        if row is None:
            raise NotFound()
        await _noting(request, "client.enable", row)(connection)
    await services.access.state.refresh()
    return success(request, row, headers={"Cache-Control": "no-store"})


def _noting(request: Request, action: str, row: Mapping[str, Any], **fields: Any) -> Step:
    return noting(request, action, projects=row["projects"], target_type="client", target_id=row["client_id"], **fields)


def _within(principal: Principal) -> list[str] | None:
    return None if principal.sees_every_project else sorted(principal.projects)
