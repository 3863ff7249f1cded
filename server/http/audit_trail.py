"""Entries of requests in the audit log: acts that were carried out, and accesses that were refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
from sanic import Request

from server.access.audit import AuditEvent
from server.access.authenticator import CredentialRefused
from server.access.principal import Principal
from server.errors import ApiError
from server.http.client_address import client_address
from server.http.services import services_of
from server.storage.database import Step


def audit_event(request: Request, action: str, *, projects: Iterable[str], **fields: Any) -> AuditEvent:
    """Return an audit event of the caller of ``request``, which is about ``projects``: their admins may read it."""
    principal: Principal | None = request.ctx.principal
    if principal is not None:
        fields = {
            "actor": principal.subject,
            "actor_kind": principal.kind,
            "credential_id": principal.credential_id or None,
            "viewer": principal.viewer.subject if principal.viewer is not None else None,
            **fields,
        }
    return AuditEvent(
        action=action,
        projects=tuple(sorted(projects)),
        client_address=client_address(request),
        request_id=request.ctx.request_id,
        **fields,
    )


def noting(request: Request, action: str, *, projects: Iterable[str], **fields: Any) -> Step:
    """Return a function that records the act of the caller of ``request`` in the transaction that carries it out."""
    event = audit_event(request, action, projects=projects, **fields)
    audit = services_of(request).access.audit

    async def note(connection: asyncpg.Connection) -> None:
        await audit.record(event, connection)

    return note


def refuse(request: Request, error: Exception) -> None:
    """Record a refused access (401 or 403). Other errors are not refusals.

    The admins of the projects that the credential opens, or opened while it was valid, may read the entry.
    """
    if not isinstance(error, ApiError) or error.status not in (401, 403):
        return
    if getattr(request.ctx, "refusal_recorded", False):
        return
    request.ctx.refusal_recorded = True
    route = f"{request.method} /{request.route.path}" if request.route is not None else None
    principal: Principal | None = request.ctx.principal
    fields: dict[str, Any] = {"reason": error.code, "projects": principal.projects if principal is not None else ()}
    if isinstance(error, CredentialRefused):
        fields = {"reason": error.reason, "projects": error.projects}
        if error.credential_id:
            fields["credential_id"] = error.credential_id
    services_of(request).access.audit.refused(
        audit_event(request, "request", outcome="refused", target_type="route", target_id=route, **fields)
    )
