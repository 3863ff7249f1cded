"""A question to our own REST API, asked in the name of the caller of another request.

It is handled like one from outside: the credential is verified again, the route's scope and rate limit apply,
a refusal is audited, and the answer may come from the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from sanic import Request
from sanic.exceptions import SanicException

from server.errors import NotFound
from server.http.guard import access_policy
from server.http.wire.connection import EdgeRequest, PreparedResponse


@dataclass(frozen=True, slots=True)
class Question:
    """A GET: ``path`` with its parameters; a list is repeated, None is left out."""

    path: str
    params: Mapping[str, Any]

    @property
    def address(self) -> str:
        """The path with its query."""
        given = {name: value for name, value in self.params.items() if value is not None}
        return f"{self.path}?{urlencode(given, doseq=True)}" if given else self.path


async def ask(request: Request, question: Question) -> dict[str, Any]:
    """Return the answer to ``question`` for the caller of ``request``. Raises the errors of the route."""
    app = request.app
    inner = EdgeRequest(question.address.encode(), request.headers, request.version, "GET", request.transport, app)
    inner.conn_info = request.conn_info
    inner.ctx.known = {}
    try:
        inner.route, handler, arguments = app.router.get(inner.path, "GET", inner.headers.get("host"))
    except SanicException as error:
        raise NotFound("There is nothing with such an id.") from error
    policy = access_policy(handler)
    # An id may spell the path of another route: a stream would be written to the agent's connection.
    if policy is None or policy.long_lived:
        raise NotFound("There is nothing with such an id.")
    inner._match_info = arguments
    response: Any = await handler(inner, **arguments)
    body = b"".join(response.parts) if isinstance(response, PreparedResponse) else response.body
    answer: dict[str, Any] = orjson.loads(body)
    return answer
