"""Requests read from a connection and answers written to it: Sanic's HTTP/1.1 with a strict and cheaper head.

Every request and answer passes here, whatever its route. Sanic by itself reads a head into text before anybody has
checked it, and encodes each header of each answer again. Together with signal and middleware dispatch, this costs
several times as much as serving a cached answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any, Final

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import BadRequest, ExpectationFailed, PayloadTooLarge, RequestCancelled, ServerError
from sanic.headers import format_http1_response
from sanic.helpers import has_message_body
from sanic.http.constants import Stage
from sanic.http.http1 import HTTP_CONTINUE, Http
from sanic.response import BaseHTTPResponse

from server.errors import WrongProtocol
from server.fairness.tenants import Place
from server.http.wire.chunked_body import ChunkedBody, strict_int
from server.http.wire.deadlines import LINGER_SECONDS
from server.http.wire.request_head import (
    HTTP_2_PREFACE,
    HeaderFields,
    RequestLine,
    read_fields,
    read_request_line,
)
from server.http.wire.request_lifecycle import RequestContext, begin_request, finish_request, note_abandoned
from server.telemetry.observations import WrongProtocolSpoken, observe

BODY_STEP: Final = 256 * 1024
"""Bytes of a body that are counted and received in one step."""
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
    """An answer whose headers and body are already in the form in which they are sent: header lines, each with its line
    break, and the parts of the body, which are joined only when they are sent.
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


def answer_size(response: HTTPResponse) -> int:
    """Return the bytes of the body of ``response``."""
    if isinstance(response, PreparedResponse):
        return sum(map(len, response.parts))
    return len(response.body or b"")


class EdgeHttp(Http):
    """One connection's requests, one after the other."""

    __slots__ = ("_body_places", "_chunks", "_held_bytes", "_is_pipelined", "_known_fields", "_known_line")

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
        self._body_places: list[Place] = []
        self._held_bytes = 0
        self._chunks = ChunkedBody(float("inf"))
        self._is_pipelined = False

    async def http1_request_header(self) -> None:
        """Receive a head, check it and make a request from it."""
        buffer = self.recv_buffer
        if self._is_pipelined:
            # The answer to the last request may not have waited for anything, and many more may be in the buffer.
            await asyncio.sleep(0)
        self.protocol.head_began()
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
            if start == HTTP_2_PREFACE:
                raise self._wrong_protocol() from error
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

    def _wrong_protocol(self) -> WrongProtocol:
        """Return the answer to a client of HTTP/2, and leave a line about it in the log."""
        peer = self.protocol.transport.get_extra_info("peername")
        observe(WrongProtocolSpoken(str(peer[0]) if isinstance(peer, tuple) else ""))
        return WrongProtocol(
            "This port speaks HTTP/1.1, and the client HTTP/2, as gRPC does. "
            "Send OTLP over HTTP: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf."
        )

    def _expect_body(self, request: EdgeRequest) -> bool:
        """Prepare to read the body that ``request`` announces; return whether it is sent in chunks."""
        headers = request.headers
        expected = headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise ExpectationFailed(f"Unknown Expect: {expected}")
            self.expecting_continue = True
        if "transfer-encoding" in headers:
            self.request_body, self._chunks = "chunked", ChunkedBody(float("inf"))
            return True
        self.request_body = True
        self.request_bytes_left = self.request_bytes = int(headers["content-length"])
        return False

    async def read_whole(self, limit: int) -> bytes:
        """Return the body of the request in one piece.

        Raises PayloadTooLarge beyond ``limit`` bytes, ShareExhausted and Overloaded if there is no memory for it.

        Sanic's read() returns the pieces as they arrive, pauses the connection after every 64 KiB, and copies each
        piece three times.
        """
        self.request_max_size = limit
        protocol = self.protocol
        protocol.expect_body()
        try:
            if self.request_body is not True:
                return await self._read_chunks()
            if self.request_bytes > limit:
                self.keep_alive = False
                raise PayloadTooLarge("Request body exceeds the size limit")
            if self.expecting_continue:
                self.expecting_continue = False
                await self._send(HTTP_CONTINUE)
            buffer, size = self.recv_buffer, self.request_bytes_left
            while True:
                await self._hold_body(min(size, len(buffer) + BODY_STEP))
                protocol.wanted_bytes = min(size, int(self._held_bytes))
                while len(buffer) < protocol.wanted_bytes:
                    await self._receive_more()
                if len(buffer) >= size:
                    break
        finally:
            protocol.body_ended()
        with memoryview(buffer) as received:
            body = bytes(received[:size])
        del buffer[:size]
        self.request_bytes_left = 0
        self.request_body = None
        return body

    async def _read_chunks(self) -> bytes:
        content, buffer = bytearray(), self.recv_buffer
        self._chunks = ChunkedBody(self.request_max_size)
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        try:
            while True:
                if len(content) + len(buffer) >= self._held_bytes:
                    await self._hold_body(len(content) + len(buffer) + BODY_STEP)
                if self._chunks.take(buffer, content):
                    break
                await self._receive_more()
        except (BadRequest, PayloadTooLarge):
            self.keep_alive = False
            raise
        self.request_body = None
        return bytes(content)

    async def _hold_body(self, size: int) -> None:
        """Count ``size`` bytes in total as the memory of this request's body: the bytes received and the next step, not
        the announced length."""
        if size > self._held_bytes:
            more = size - self._held_bytes
            self._body_places.append(await self.protocol.app.ctx.services.bodies.take(more))
            self._held_bytes = size

    def let_go_of_body(self) -> None:
        """Stop counting the body: the request is done."""
        self._is_pipelined = bool(self.recv_buffer)
        if self._body_places:
            for place in self._body_places:
                self.protocol.app.ctx.services.bodies.give_back(place)
            self._body_places = []
        self._held_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Throw away the rest of an unwanted body for a short time; then end the connection."""
        rest_has_come = self._rest_has_come()
        self.request_max_size = float("inf")
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self.request_body == "chunked" and not self.expecting_continue:
                    if self._chunks.take(self.recv_buffer, None):
                        self.request_body = None
                    else:
                        await self._receive_more()
                        yield b""
                while self.request_body and not self.expecting_continue:
                    await self.read()
                    yield b""
        except (TimeoutError, BadRequest, PayloadTooLarge):
            rest_has_come = False
        self.request_body = None
        self.keep_alive = self.keep_alive and rest_has_come

    def _rest_has_come(self) -> bool:
        """Return whether the rest of the body is in the buffer."""
        return self.request_body is True and len(self.recv_buffer) >= self.request_bytes_left

    async def error_response(self, exception: Exception) -> None:
        """Answer like Sanic's method. Where the client has gone away there is nobody to answer, and nothing failed."""
        if not isinstance(exception, RequestCancelled):
            await super().error_response(exception)
            return
        self.keep_alive = False
        self.request_body = None
        if self.request is not None:
            note_abandoned(self.request)

    def create_empty_request(self) -> None:
        """Create a request that reports a malformed head. Sanic's own method fails if the URL is malformed, too."""
        if self.url is not None and not self.url.startswith("/"):
            self.url = None
        super().create_empty_request()

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send a complete answer, as nearly all are. Leave the start of any other to Sanic."""
        response, lines, protocol = self.response, self.request.ctx.header_lines, self.protocol
        body: Sequence[bytes] = (response.body,) if response.body else ()
        if isinstance(response, PreparedResponse):
            lines = response.header_lines + lines
            body = response.parts
        if protocol.app.ctx.services.draining:
            self.keep_alive = False  # so that clients go elsewhere without losing a request
        if self.request_body and not self._rest_has_come():
            self.keep_alive = False  # refused before its body had come
        if protocol.half_closed is not None and not self.recv_buffer:
            self.keep_alive = False  # no further request can come
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


@lru_cache(maxsize=2048)
def header_line(name: str, value: Any) -> bytes:
    """Return one header as it is sent. Line breaks in its value are removed. Cached, since most headers repeat."""
    clean = HTTPResponse._sanitize_header_value
    return b"%b: %b\r\n" % (clean(name).encode("ascii"), clean(f"{value}").encode(errors="surrogateescape"))


@lru_cache(maxsize=64)
def _status(status: int) -> tuple[bytes, bool]:
    """Return the first line of an answer, and whether a body may follow."""
    return format_http1_response(status, ())[:-2], has_message_body(status)  # type: ignore[no-untyped-call]
