"""The protocol by the official SDK, without sessions: each request is answered on its own by any server process.

The SDK brings an ASGI application; the bridge here passes it one request with its whole body, and collects its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import mcp_types as types
import orjson
from jsonschema import ValidationError, validate
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic_core import from_json
from sanic import HTTPResponse, Request

from server import __version__
from server.errors import ApiError
from server.http.services import services_of
from server.mcp.data_text import NOTICE
from server.mcp.inner_request import Question, ask
from server.mcp.tools import TOOLS

INSTRUCTIONS: Final = f"Traces, metrics and costs of LLM applications. {NOTICE}"
LARGEST_BODY: Final = 256 * 1024

_ODD_ID: Final = orjson.dumps(
    {
        "jsonrpc": types.JSONRPC_VERSION,
        "id": None,
        "error": {"code": types.INVALID_REQUEST, "message": "Invalid Request: id must be a string or a whole number."},
    }
)

_request: ContextVar[Request] = ContextVar("mcp request")


async def _list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    hints = types.ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
    return types.ListToolsResult(
        tools=[
            types.Tool(name=tool.name, description=tool.sentence, input_schema=tool.schema(), annotations=hints)
            for tool in TOOLS.values()
        ]
    )


async def _call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    request = _request.get()
    tool, arguments = TOOLS.get(params.name), params.arguments or {}
    if tool is None:
        return _result(f"There is no tool {params.name[:64]}.", is_error=True)
    try:
        validate(arguments, tool.schema())
        text = await tool.run(lambda question: _asked(request, question), arguments, services_of(request).settings)
    except ValidationError as error:
        return _result(f"Arguments: {error.message[:300]}", is_error=True)
    except ApiError as error:
        return _result(f"{error.code}: {error.detail}", is_error=True)
    return _result(text)


async def _asked(request: Request, question: Question) -> dict[str, Any]:
    return await ask(request, question)


def _result(text: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=is_error)


_SERVER: Final = Server(
    "llm-observatory",
    version=__version__,
    instructions=INSTRUCTIONS,
    on_list_tools=_list_tools,
    on_call_tool=_call_tool,
)


async def answer(request: Request) -> HTTPResponse:
    """Return the protocol's answer to ``request``, a POST."""
    if len(request.body) <= LARGEST_BODY and _has_odd_id(request.body):
        return HTTPResponse(_ODD_ID, 400, content_type="application/json")
    manager = StreamableHTTPSessionManager(
        _SERVER, json_response=True, stateless=True, max_request_body_size=LARGEST_BODY
    )
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.lower().encode("ascii"), value.encode(errors="surrogateescape"))
            for name, value in request.headers.items()
        ],
        "client": None,
        "server": None,
    }
    collected = _Collected(request.body)
    mark = _request.set(request)
    try:
        async with manager.run():
            await manager.handle_request(scope, collected.receive, collected.send)
    finally:
        _request.reset(mark)
    return HTTPResponse(bytes(collected.body), collected.status, collected.headers, collected.content_type)


def _has_odd_id(body: bytes) -> bool:
    """Return whether a message has an id that is none: the SDK would take the request for a notification.

    Its caller would be told 202, and wait for an answer that never comes. MCP takes strings and whole numbers.
    """
    try:
        message = from_json(body)  # the SDK's parser, which takes numbers that others refuse
    except ValueError:
        return False  # the SDK says so
    if not isinstance(message, dict) or "method" not in message or "id" not in message:
        return False
    return not isinstance(message["id"], int | str) or isinstance(message["id"], bool)


class _Collected:
    """One exchange: it passes the body of the request on, and collects the answer."""

    def __init__(self, body: bytes) -> None:
        self._given: Callable[[], dict[str, Any]] = iter(
            [{"type": "http.request", "body": body, "more_body": False}]
        ).__next__
        self.status = 500
        self.headers: dict[str, str] = {}
        self.content_type: str | None = None
        self.body = bytearray()

    async def receive(self) -> dict[str, Any]:
        try:
            return self._given()
        except StopIteration:
            return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for raw_name, raw_value in message.get("headers", ()):
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                if name == "content-type":
                    self.content_type = value
                elif name != "content-length":
                    self.headers[name] = value
        else:
            self.body += message.get("body", b"")
