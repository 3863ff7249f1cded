"""The project that a request writes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sanic import Request

from server.errors import InvalidParameter
from server.http.guard import row_scope
from server.http.request_params import RequestParams

PROJECT_HEADER: Final = "x-observatory-project"


async def target_project(request: Request, parameter: str = "project", *, known: Sequence[str] = ()) -> str:
    """Return the project that ``request`` writes to: by header, by the query ``parameter``, or the credential's only
    one.

    ``known``: other query parameters of the route. Raises ProjectForbidden, or InvalidParameter if the project is
    ambiguous.
    """
    params = RequestParams.of(request)
    named = set(request.headers.getall(PROJECT_HEADER, [])) | set(params.texts(parameter))
    for name in known:
        params.texts(name)
    params.finish()
    if len(named) > 1:
        raise InvalidParameter.named(parameter, "two different projects are named; a request writes to one")
    scope = await row_scope(request, tuple(named))
    if len(scope.projects) != 1:
        raise InvalidParameter.named(
            parameter,
            "the credential does not have exactly one project: name it in the X-Observatory-Project header, "
            f"or with {parameter}= in the address",
        )
    return scope.projects[0]
