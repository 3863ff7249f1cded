"""``/mcp``: the Model Context Protocol over Streamable HTTP."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from server.http.guard import requires

mcp = Blueprint("mcp")


@mcp.post("/mcp", name="messages")
@requires("traces:read")
async def take_message(request: Request) -> HTTPResponse:
    """Answer a message of the Model Context Protocol: the tools of docs/how-to/agents.md."""
    from server.mcp.protocol import answer  # some 20 MB, which a server without agents does not need

    return await answer(request)
