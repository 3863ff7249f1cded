"""The live tail over HTTP: spans as they are stored, as Server-Sent Events or over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request
from sanic.exceptions import SanicException, WebsocketClosed
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from server.errors import OriginForbidden, UpgradeRequired
from server.http.file_stream import STALL_SECONDS, FileStream
from server.http.guard import requires
from server.http.services import services_of
from server.http.wire.request_lifecycle import finish_request
from server.live.live_event import FRAMES, SSE, Parcel, notice
from server.live.live_stream import Goodbye, LiveStream
from server.rest.live_request import current_scope, live_request

live = Blueprint("live", url_prefix="/api/v1/traces")

STREAM_COST: Final = 5
"""Tokens of the rate limit that a stream takes."""
RECONNECT_MS: Final = 2000
"""Milliseconds after which an EventSource reconnects."""

CLOSE_CODES: Final = {
    "invalid_token": 4401,
    "missing_token": 4401,
    "insufficient_scope": 4403,
    "project_forbidden": 4403,
    "draining": 1001,
    "scope_changed": 1012,
}
"""Close codes of WebSockets by the reason in the goodbye event; 1011 for any other."""
OTHER_CLOSE_CODE: Final = 1011
_NOT_UNDERSTOOD: Final[dict[type, int]] = {str: 1008, bytes: 1003}
"""Close codes for messages of clients, by type."""


@live.get("/live", name="events")
@requires("traces:read", cost=STREAM_COST, long_lived=True)
async def follow_spans(request: Request) -> None:
    """Send spans as they are stored, as Server-Sent Events.

    Takes the filters of lists. The events `span`, `update`, `heartbeat`, `gap` and `goodbye` are described in
    docs/reference/live-tail.md. A client that reconnects within ten minutes with `Last-Event-ID` misses nothing.
    """
    async with _opened(request) as (stream, parcels):
        answer = FileStream(request)
        await answer.begin("text/event-stream; charset=utf-8", {})
        if request.method == "HEAD":
            return
        await answer.send(b"retry: %d\n\n" % RECONNECT_MS)
        try:
            async for parcel in parcels:
                await answer.send(parcel.encoded(SSE))
            if stream.goodbye is not None:
                if stream.goodbye.retry_ms is not None:
                    await answer.send(b"retry: %d\n" % stream.goodbye.retry_ms)
                await answer.send(_parting(stream.goodbye).encoded(SSE))
        except TimeoutError:
            stream.end(Goodbye("client_stalled"))
            answer.abort()
        except Exception:
            answer.abort()  # otherwise the body would end as if it were complete
            raise


async def follow_spans_by_socket(request: Request) -> None:
    """Send spans as they are stored, over a WebSocket.

    Each message is one event: `{"event": "span", "id": "…", "data": {…}}`, with the events and parameters of
    `/api/v1/traces/live`. A message from the client ends the connection.
    """
    if request.headers.get("upgrade", "").lower() != "websocket":
        raise UpgradeRequired(
            "Connect with a WebSocket client. A proxy in between must pass on the headers Upgrade and Connection.",
            headers={"Upgrade": "websocket"},
        )
    _check_origin(request)
    async with _opened(request) as (stream, parcels):
        protocol: Any = request.transport.get_protocol()
        socket = await _handshake(request, protocol)
        sending = asyncio.create_task(_send_frames(protocol, socket, stream, parcels))
        hearing = asyncio.create_task(_hear(socket))
        try:
            await asyncio.wait((sending, hearing), return_when=asyncio.FIRST_COMPLETED)
            if hearing.done() and not hearing.cancelled() and (kind := hearing.result()) is not None:
                await _close(socket, _NOT_UNDERSTOOD[kind], "this stream does not accept messages")
            elif sending.done():
                sending.result()
        finally:
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)


# A route of its own and not Sanic's app.websocket(): faults of the request are then answered before the handshake.
_socket: Any = requires("traces:read", cost=STREAM_COST, long_lived=True)(follow_spans_by_socket)
_socket.is_websocket = True
live.add_route(_socket, "/ws", methods=["GET"], name="socket")


@asynccontextmanager
async def _opened(request: Request) -> AsyncIterator[tuple[LiveStream, AsyncIterator[Parcel]]]:
    tail = services_of(request).live
    asked = await live_request(request)
    slot = tail.slots.take(request.ctx.principal)
    try:
        async with tail.stream(
            asked.selection, asked.last_id, check=lambda: current_scope(request, asked), abort=_abort_of(request)
        ) as opened:
            yield opened
    finally:
        tail.slots.give_back(slot)


def _abort_of(request: Request) -> Callable[[], None]:
    def abort() -> None:
        transport: Any = request.transport
        if transport is not None:
            transport.abort()

    return abort


def _parting(goodbye: Goodbye) -> Parcel:
    return notice("goodbye", {"reason": goodbye.reason, "retry_ms": goodbye.retry_ms})


def _check_origin(request: Request) -> None:
    """Raise :class:`OriginForbidden` for a web page that may not call the API."""
    origin = request.headers.get("origin")
    allowed = services_of(request).settings.cors_origins
    if origin is None or origin in allowed or "*" in allowed:
        return
    if origin.partition("://")[2] != request.headers.get("host"):
        raise OriginForbidden("CORS_ORIGINS does not name the page's origin.")


async def _handshake(request: Request, protocol: Any) -> Any:
    try:
        socket = await protocol.websocket_handshake(request, None)
    except SanicException as error:
        error.quiet = True
        raise
    finish_request(request, HTTPResponse(status=101))
    return socket


async def _send_frames(protocol: Any, socket: Any, stream: LiveStream, parcels: AsyncIterator[Parcel]) -> None:
    """Send the events of ``parcels`` until the stream or the connection ends."""
    try:
        async for parcel in parcels:
            if socket.ws_proto.state is not State.OPEN:
                return
            async with asyncio.timeout(STALL_SECONDS):
                await protocol.send(parcel.encoded(FRAMES))
    except TimeoutError:
        stream.end(Goodbye("client_stalled"))
        protocol.transport.abort()
        return
    if stream.goodbye is not None and socket.ws_proto.state is State.OPEN:
        await protocol.send(_parting(stream.goodbye).encoded(FRAMES))
        code = CLOSE_CODES.get(stream.goodbye.reason, OTHER_CLOSE_CODE)
        await _close(socket, code, stream.goodbye.reason)


async def _hear(socket: Any) -> type | None:
    """Wait for a message of the client and return its type; None when the client is gone."""
    with suppress(ConnectionClosed, WebsocketClosed):
        message = await socket.recv()
        return None if message is None else type(message)
    return None


async def _close(socket: Any, code: int, reason: str) -> None:
    with suppress(ConnectionClosed, WebsocketClosed):
        await socket.close(code, reason)
