"""A request for a live tail: the filters, fields and projects of lists, and the event to continue after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
from sanic import Request

from server.errors import InvalidParameter
from server.http import standing
from server.http.guard import row_scope
from server.http.request_params import RequestParams
from server.live.live_stream import Selection
from server.queries.filters.filter_tree import canonical, check_readable
from server.rest.list_request import LIST_PARAMETERS, request_from_params
from server.storage.row_scope import RowScope

TAKEN: Final = ("project_id", "fields")
"""The parameters of lists, besides the filters, that a live tail takes."""
NOT_TAKEN: Final = tuple(name for name in LIST_PARAMETERS if name not in TAKEN)
LIVE_PARAMETERS: Final[dict[str, str]] = {
    "last_event_id": "The id of the last event that you received, at most ten minutes ago: the stream continues "
    "after it. The header Last-Event-ID does the same and has precedence.",
}


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A requested stream."""

    selection: Selection
    projects: tuple[str, ...]
    """The projects that the caller named."""
    last_id: str | None


async def live_request(request: Request) -> LiveRequest:
    """Read ``request``. Raises the errors of its parameters, and those of a filter that the caller may not use."""
    params = RequestParams.of(request)
    for refused in NOT_TAKEN:
        if (refused, False) in params.given:
            raise InvalidParameter.named(
                refused, "a live tail does not take this parameter: it shows spans as they are stored"
            )
    last_id = params.text("last_event_id")
    asked = request_from_params(params)
    scope = await row_scope(request, asked.projects)
    question = asked.question(datetime.now(UTC))
    if question.filter is not None:
        check_readable(question.filter, scope)
    key = orjson.dumps(question.filter and canonical(question.filter), default=str).decode()
    selection = Selection(scope, question.selected(), question.filter, key)
    return LiveRequest(selection, asked.projects, request.headers.get("last-event-id") or last_id)


async def current_scope(request: Request, asked: LiveRequest) -> RowScope:
    """Return the rows that the caller may see now. Raises the errors of admission."""
    return await standing.current_scope(request, asked.projects, ("traces:read",))
