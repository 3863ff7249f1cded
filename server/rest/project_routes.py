"""Projects over HTTP: everybody lists their own; an admin of all projects creates and deletes."""

from __future__ import annotations

import asyncio

from sanic import Blueprint, HTTPResponse, Request

from server.access import administration
from server.access.principal import Principal
from server.errors import Conflict, InsufficientScope, InvalidBody
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import is_text, read_object
from server.http.repeatable import repeatable
from server.http.services import services_of
from server.queries.records.project_list import FRESH_SECONDS
from server.storage.database import Step

projects = Blueprint("projects")

FIELDS = {"project_id": is_text, "name": is_text}


@projects.get("/api/v1/projects", name="list_projects")
@requires("metrics:read")
async def list_projects(request: Request) -> HTTPResponse:
    """List the projects that the caller may see, by id."""
    scope = await row_scope(request)
    async with services_of(request).reads.plain() as connection:
        rows = await administration.list_projects(connection, scope.projects)
    return success(request, rows)


@projects.post("/api/v1/projects", name="create_project")
@requires("projects:manage", cost=10)
@repeatable
async def create_project(request: Request) -> HTTPResponse:
    """Create a project. Needs the grant of every project: a caller that sees one project cannot make others."""
    services = services_of(request)
    _need_every_project(request.ctx.principal)
    body = read_object(request, FIELDS, required=("project_id",))
    project_id = body["project_id"]
    async with services.writes.write(()) as connection:
        try:
            row = await administration.create_project(connection, project_id, body.get("name", project_id))
        except ValueError as error:
            raise InvalidBody.of(error) from error
        if row is None:
            raise Conflict("The project id is or was in use.")
        await _noting(request, "project.create", project_id)(connection)
    services.projects.forget()
    return success(request, row, status=201)


@projects.delete("/api/v1/projects/<project_id:str>", name="delete_project")
@requires("projects:manage", cost=10)
async def delete_project(request: Request, project_id: str) -> HTTPResponse:
    """Delete a project: nobody sees it or its contents any more, and its id is never used again."""
    services = services_of(request)
    _need_every_project(request.ctx.principal)
    await row_scope(request, [project_id])  # 403 for one that does not exist, as everywhere
    async with services.writes.write(()) as connection:
        row = await administration.delete_project(connection, project_id)
        if row is None:
            raise Conflict("The project is being deleted already.")
        await _noting(request, "project.delete", project_id)(connection)
    services.projects.forget()
    await services.access.state.refresh()
    # Other processes look for deleted projects this often. After this pause the answer holds for all of them.
    await asyncio.sleep(FRESH_SECONDS)
    return success(request, row)


def _noting(request: Request, action: str, project_id: str) -> Step:
    return noting(request, action, projects=[project_id], target_type="project", target_id=project_id)


def _need_every_project(principal: Principal) -> None:
    if not principal.sees_every_project:
        raise InsufficientScope("This needs the grant of every project.")
