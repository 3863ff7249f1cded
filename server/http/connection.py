"""Requests read from a connection and answers written to it: Sanic's HTTP/1.1 with a strict and cheaper head.

Every request and answer passes here, whatever its route. Sanic by itself reads a head into text before anybody has
checked it, and encodes each header of each answer again. Together with signal and middleware dispatch, this costs
several times as much as serving a cached answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from time import monotonic
from typing import Any, Final

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import BadRequest, ExpectationFailed, PayloadTooLarge, RequestCancelled, ServerError
from sanic.headers import format_http1_response
from sanic.helpers import has_message_body
from sanic.http.constants import Stage
from sanic.http.http1 import HTTP_CONTINUE, Http
from sanic.response import BaseHTTPResponse
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from server.http.request_head import HeaderFields, RequestLine, read_fields, read_request_line, strict_int
from server.http.request_lifecycle import RequestContext, begin_request, finish_request

_END_OF_HEAD: Final = b"\r\n\r\n"
# Set by the connection itself, for each answer.
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})


class EdgeRequest(Request[Any, Any]):
    """A request, followed from its head to its answer."""

    __slots__ = ("ctx",)  # Sanic has a property here, which is read at every step

    ctx: RequestContext

    def __init__(
        self,
        url_bytes: bytes,
        headers: Any,
        version: str,
        method: str,
        transport: Any,
        app: Sanic[Any, Any],
        head: bytes = b"",
        stream_id: int = 0,
    ) -> None:
        super().__init__(url_bytes, headers, version, method, transport, app, head, stream_id)
        self.ctx = RequestContext()
        begin_request(self)

    async def respond(self, response: BaseHTTPResponse | None = None, **options: Any) -> Any:
        """Answer like Sanic's method. Every answer, from handlers or error handlers, comes through here."""
        route = self.route
        if response is None or (route.extra.response_middleware if route is not None else self.app.response_middleware):
            response = await super().respond(response, **options)
        elif self.responded:
            raise ServerError("a request is answered once")
        else:
            stream: Any = self.stream
            stream.respond(response)
            self.responded = True
        finish_request(self, response)
        return response


class PreparedResponse(HTTPResponse):
    """An answer whose headers and body are already in the form in which they are sent: lines, each with its line break,
    and parts, which are joined only then.
    """

    __slots__ = ("header_lines", "parts")

    def __init__(
        self, parts: Sequence[bytes] = (), *, status: int = 200, header_lines: bytes, content_type: str | None = None
    ) -> None:
        super(HTTPResponse, self).__init__()  # type: ignore[no-untyped-call]
        self.status = status
        self.content_type = content_type
        self.header_lines = header_lines
        self.parts = parts


class EdgeHttp(Http):
    """One connection's requests, one after the other."""

    __slots__ = ("_known_fields", "_known_line")

    # Sanic's own annotations of these are narrower than what it puts there.
    protocol: Any
    request_body: Any
    request_bytes: Any
    request_bytes_left: Any
    response_func: Any
    response: Any

    _safe_int = staticmethod(strict_int)

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        # Most clients repeat themselves, so the parsed head of the last request is kept.
        self._known_line: RequestLine | None = None
        self._known_fields: HeaderFields | None = None

    async def http1_request_header(self) -> None:
        """Receive a head, check it and make a request from it."""
        buffer = self.recv_buffer
        end = 0
        while (found := buffer.find(_END_OF_HEAD, end)) < 0:
            end = max(0, len(buffer) - len(_END_OF_HEAD) + 1)
            if end >= self.HEADER_MAX_SIZE:
                break
            await self._receive_more()
        else:
            end = found
        if end >= self.HEADER_MAX_SIZE:
            raise PayloadTooLarge("Request header exceeds the size limit")
        head = bytes(buffer[:end])
        start, _, lines = head.partition(b"\r\n")
        line, fields = self._known_line, self._known_fields
        try:
            if line is None or line.raw != start:
                line = self._known_line = read_request_line(start)
            self.url = line.target  # an error will be reported in the form of this surface
            if fields is None or fields.raw != lines or fields.is_http_10 is not line.is_http_10:
                fields = self._known_fields = read_fields(lines, is_http_10=line.is_http_10)
        except ValueError as error:
            raise BadRequest("Bad Request") from error
        self.head_only = line.method == "HEAD"
        self.keep_alive = fields.keep_alive
        self.upgrade_websocket = fields.is_upgrade
        protocol = self.protocol
        version = "1.0" if line.is_http_10 else "1.1"
        request = EdgeRequest(line.url, fields.headers, version, line.method, protocol.transport, protocol.app, head)
        request.ctx.known = fields.known
        EdgeRequest._current.set(request)
        self.request_bytes_left = self.request_bytes = 0
        if fields.has_body and self._expect_body(request):
            # Sanic's reader takes half of the line break before the first chunk.
            end -= 2
        del buffer[: end + len(_END_OF_HEAD)]
        self.request, request.stream = request, self
        protocol.state["requests_count"] += 1

    def _expect_body(self, request: EdgeRequest) -> bool:
        """Prepare to read the body that ``request`` announces; return whether it comes in chunks."""
        headers = request.headers
        expected = headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise ExpectationFailed(f"Unknown Expect: {expected}")
            self.expecting_continue = True
        if "transfer-encoding" in headers:
            self.request_body = "chunked"
            return True
        self.request_body = True
        self.request_bytes_left = self.request_bytes = int(headers["content-length"])
        return False

    async def read_whole(self, limit: int) -> bytes:
        """Return the body of the request in one piece. Raises PayloadTooLarge beyond ``limit`` bytes.

        Sanic's read() returns it in the pieces in which it arrives, stops the connection after each 64 KiB of them, and
        copies each piece three times.
        """
        self.request_max_size = limit
        if self.request_body is not True or self.request_bytes > limit:
            chunks: list[bytes] = []
            while (chunk := await self.read()) is not None:
                chunks.append(chunk)
            return b"".join(chunks)
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        buffer, size = self.recv_buffer, self.request_bytes_left
        self.protocol.wanted_bytes = size
        try:
            while len(buffer) < size:
                await self._receive_more()
        finally:
            self.protocol.wanted_bytes = 0
        with memoryview(buffer) as received:
            body = bytes(received[:size])
        del buffer[:size]
        self.request_bytes_left = 0
        self.request_body = None
        return body

    def create_empty_request(self) -> None:
        """Create a request to report a bad head with. Sanic's method fails if the URL is part of what is bad."""
        if self.url is not None and not self.url.startswith("/"):
            self.url = None
        super().create_empty_request()

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send a complete answer, as nearly all are; the start of any other goes Sanic's way."""
        response, lines, protocol = self.response, self.request.ctx.header_lines, self.protocol
        body: Sequence[bytes] = (response.body,) if response.body else ()
        if isinstance(response, PreparedResponse):
            lines = response.header_lines + lines
            body = response.parts
        if protocol.app.ctx.services.draining:
            self.keep_alive = False  # so that clients go elsewhere without losing a request
        if data or not end_stream or self.expecting_continue:
            for line in lines.split(b"\r\n")[:-1]:
                name, _, value = line.partition(b": ")
                response.headers[name.decode("ascii")] = value.decode(errors="surrogateescape")
            response.body = b"".join(body)
            await super().http1_response_header(data, end_stream)
            return
        self.response_func = None
        status_line, has_body = _status(response.status)
        head = [status_line]
        for name, value in response.headers.items():
            if name.lower() not in _FRAMING:
                head.append(header_line(name, value))
        head.append(lines)
        if not has_body:
            body = ()
        else:
            if response.content_type is not None and "content-type" not in response.headers:
                head.append(header_line("content-type", response.content_type))
            head.append(b"content-length: %d\r\n" % sum(map(len, body)))
        head.append(b"connection: keep-alive\r\n\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        if not self.head_only:
            head += body
        await protocol.send(b"".join(head))
        self.stage = Stage.IDLE


class EdgeProtocol(WebSocketProtocol):
    """The protocol of a connection. One of several processes passes a connection on while another has fewer."""

    __slots__ = ("_arrival", "wanted_bytes")

    HTTP_CLASS = EdgeHttp

    # Sanic's own annotation also covers a connection that is not open yet.
    transport: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._arrival: asyncio.Future[None] = self.loop.create_future()
        self.wanted_bytes = 0
        """So many bytes are taken in before the sender has to wait and the reader is woken; 0: the reader is woken by
        each piece, and the sender waits after REQUEST_BUFFER_SIZE bytes."""

    def receive_more(self) -> asyncio.Future[None]:  # type: ignore[override]
        """Wait for more data like Sanic's method, without an event and the coroutines around it."""
        self.transport.resume_reading()
        self._arrival = self.loop.create_future()
        return self._arrival

    def data_received(self, data: bytes) -> None:
        """Feed received bytes to the reader, like Sanic's method."""
        if self.websocket is not None:
            self.websocket.data_received(data)  # type: ignore[no-untyped-call]
            return
        self._time = monotonic()
        self.recv_buffer += data
        if len(self.recv_buffer) >= (self.wanted_bytes or self.app.config.REQUEST_BUFFER_SIZE):
            self.transport.pause_reading()
        elif self.wanted_bytes:
            return
        if not self._arrival.done():
            self._arrival.set_result(None)

    async def send(self, data: bytes) -> None:
        """Send like Sanic's method, without looking for listeners; wait only while the other side reads slowly."""
        if not self._can_write.is_set():
            await self._can_write.wait()
        if self.transport.is_closing():
            raise RequestCancelled
        self.transport.write(data)
        self._time = monotonic()

    def connection_made(self, transport: Any) -> None:
        """Open like Sanic's method, unless another process takes the connection."""
        balance = self.app.ctx.balance
        if balance is None:
            super().connection_made(transport)  # type: ignore[no-untyped-call]
        elif not balance.passes_on(transport, len(self.connections) + 1):
            super().connection_made(transport)  # type: ignore[no-untyped-call]
            balance.note(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Close like Sanic's method, and tell the other processes."""
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if self.app.ctx.balance is not None:
            self.app.ctx.balance.note(len(self.connections))


def protocol_of(app: Sanic[Any, Any], connections: set[Any]) -> Callable[[], EdgeProtocol]:
    """Return a factory of protocols for connections to ``app`` from outside its listening socket, with Sanic's options.

    ``connections``: the set in which they register themselves.
    """
    return partial(
        EdgeProtocol,
        loop=asyncio.get_running_loop(),
        app=app,
        connections=connections,
        websocket_max_size=app.config.WEBSOCKET_MAX_SIZE,
        websocket_ping_timeout=app.config.WEBSOCKET_PING_TIMEOUT,
        websocket_ping_interval=app.config.WEBSOCKET_PING_INTERVAL,
    )


@lru_cache(maxsize=2048)
def header_line(name: str, value: Any) -> bytes:
    """Return one header as it is sent, without line breaks of its own. Cached: most headers are always the same."""
    clean = HTTPResponse._sanitize_header_value
    return b"%b: %b\r\n" % (clean(name).encode("ascii"), clean(f"{value}").encode(errors="surrogateescape"))


@lru_cache(maxsize=64)
def _status(status: int) -> tuple[bytes, bool]:
    """Return the first line of an answer, and whether a body may follow."""
    return format_http1_response(status, ())[:-2], has_message_body(status)  # type: ignore[no-untyped-call]
