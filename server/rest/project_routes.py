"""Projects over HTTP: everybody lists their own; an admin of all projects creates and deletes."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from server.access import administration
from server.access.principal import Principal
from server.errors import Conflict, InsufficientScope, InvalidBody
from server.http.envelope import success
from server.http.guard import audit_event, requires, row_scope
from server.http.json_body import is_text, read_object
from server.http.services import services_of

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
            raise InvalidBody(str(error)) from error
        if row is None:
            raise Conflict("The project id is or was in use.")
        event = audit_event(
            request, "project.create", target_type="project", target_id=project_id, project_id=project_id
        )
        await services.access.audit.record(event, connection)
    services.projects.forget()
    return success(request, row, status=201)


@projects.delete("/api/v1/projects/<project_id:str>", name="delete_project")
@requires("projects:manage", cost=10)
async def delete_project(request: Request, project_id: str) -> HTTPResponse:
    """Delete a project: from now on nobody sees it or its contents, and its id is never used again."""
    services = services_of(request)
    _need_every_project(request.ctx.principal)
    await row_scope(request, [project_id])  # 403 for one that does not exist, as everywhere
    async with services.writes.write(()) as connection:
        row = await administration.delete_project(connection, project_id)
        if row is None:
            raise Conflict("The project is being deleted already.")
        event = audit_event(
            request, "project.delete", target_type="project", target_id=project_id, project_id=project_id
        )
        await services.access.audit.record(event, connection)
    services.projects.forget()
    await services.access.state.refresh()
    return success(request, row)


def _need_every_project(principal: Principal) -> None:
    if not principal.sees_every_project:
        raise InsufficientScope("This needs the grant of every project.")
