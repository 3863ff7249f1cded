"""``/mcp``: the Model Context Protocol over Streamable HTTP."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from server.fairness.late_import import imported
from server.http.guard import requires

mcp = Blueprint("mcp")


@mcp.post("/mcp", name="messages")
@requires("traces:read")
async def take_message(request: Request) -> HTTPResponse:
    """Answer a message of the Model Context Protocol: the tools of docs/how-to/agents.md."""
    # Some 20 MB and two seconds of work, which a server without agents does not need.
    protocol = await imported("server.mcp.protocol")
    answer: HTTPResponse = await protocol.answer(request)
    return answer
