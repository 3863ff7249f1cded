"""One connection: how its bytes are received and sent, and the deadlines of its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from sanic import Sanic
from sanic.exceptions import RequestCancelled
from sanic.http.constants import Stage
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from server.errors import ApiError, Overloaded, RequestTimeout
from server.http.wire.connection import EdgeHttp
from server.http.wire.deadlines import CHECK_SECONDS, answer_is_overdue, body_is_overdue
from server.http.wire.half_closed import HalfClosed


class EdgeProtocol(WebSocketProtocol):
    """The protocol of a connection. It tells the accept gate how many connections its process has."""

    __slots__ = (
        "_arrival", "_body_bytes", "_is_body_awaited", "_is_new", "_paused_at", "_phase_began", "_unsent",
        "half_closed", "wanted_bytes",
    )  # fmt: skip

    HTTP_CLASS = EdgeHttp

    # Sanic annotates it as optional, because it is None until the connection is made.
    transport: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._arrival: asyncio.Future[None] = self.loop.create_future()
        self.wanted_bytes = 0
        """Number of bytes to buffer before receiving pauses and the reader is woken. 0: each piece wakes the reader,
        and receiving pauses at REQUEST_BUFFER_SIZE bytes."""
        self._phase_began = 0.0
        """When the last head or body began."""
        self._is_new = True
        """Whether no request has come yet."""
        self._is_body_awaited = False
        self._body_bytes = 0
        self._paused_at: float | None = None
        self._unsent = 0
        self.half_closed: HalfClosed | None = None
        """Set once the client has sent all that it will send, and waits for an answer."""

    def head_began(self) -> None:
        """Note that the first bytes of a head have come."""
        self._phase_began = monotonic()
        self._is_new = False

    def expect_body(self) -> None:
        """Note that the body is read from now on."""
        self._phase_began = monotonic()
        self._is_body_awaited = True
        self._body_bytes = len(self.recv_buffer)

    def body_ended(self) -> None:
        """Note that the body is complete, or no longer wanted."""
        self._is_body_awaited = False
        self.wanted_bytes = 0

    def receive_more(self) -> asyncio.Future[None]:  # type: ignore[override]
        """Wait for more data like Sanic's method, without an event and the coroutines around it."""
        if self.half_closed is None:
            self.transport.resume_reading()
        else:
            self.transport.close()  # no more will come; closing it cancels the task that waits
        self._arrival = self.loop.create_future()
        return self._arrival

    def data_received(self, data: bytes) -> None:
        """Feed received bytes to the reader, like Sanic's method."""
        if self.websocket is not None:
            self.websocket.data_received(data)  # type: ignore[no-untyped-call]
            return
        self._time = monotonic()
        self._body_bytes += len(data)
        self.recv_buffer += data
        if len(self.recv_buffer) >= (self.wanted_bytes or self.app.config.REQUEST_BUFFER_SIZE):
            self.transport.pause_reading()
        elif self.wanted_bytes:
            return
        if not self._arrival.done():
            self._arrival.set_result(None)

    def eof_received(self) -> bool | None:
        """Keep the connection for the answers to requests that have come; close it where there is none to give."""
        http = getattr(self, "_http", None)  # Sanic sets it when the connection's task begins
        if http is None and self.recv_buffer and self._task is not None:
            self.half_closed = HalfClosed(self)
            return True
        if self.websocket is not None or http is None or http.upgrade_websocket:
            return super().eof_received()
        is_waiting = (
            bool(self.recv_buffer) if http.stage in (Stage.IDLE, Stage.REQUEST) else http.stage is Stage.HANDLER
        )
        if not is_waiting:
            return False
        self.half_closed = HalfClosed(self)
        if not self._arrival.done():
            self._arrival.set_result(None)  # whoever waits for more sees that none comes
        return True

    async def send(self, data: bytes) -> None:
        """Send like Sanic's method, without looking up listeners. Wait only while the client reads slowly."""
        if not self._can_write.is_set():
            await self._can_write.wait()
        if self.transport.is_closing():
            raise RequestCancelled
        self.transport.write(data)
        self._time = monotonic()

    async def taken(self) -> None:
        """Wait until the client has received nearly everything that it was sent, or is gone."""
        await self._can_write.wait()

    def pause_writing(self) -> None:
        """Pause like Sanic's method, and note that the client is slow."""
        super().pause_writing()  # type: ignore[no-untyped-call]
        self._paused_at, self._unsent = monotonic(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Resume like Sanic's method, and note it."""
        super().resume_writing()  # type: ignore[no-untyped-call]
        self._paused_at = None

    def check_timeouts(self) -> None:
        """Check like Sanic's method, with the deadlines of :mod:`server.http.wire.deadlines`."""
        http = self._http
        if not self._task or http is None or (http.stage is Stage.HANDLER and http.upgrade_websocket):
            return
        now = monotonic()
        if self._paused_at is not None:
            if answer_is_overdue(now - self._paused_at, self._unsent):
                self.transport.abort()
                return
        elif self._is_overdue(http.stage, now):
            self._task.cancel("the client took too long")
            return
        self._callback_check_timeouts = self.loop.call_later(CHECK_SECONDS, self.check_timeouts)

    def _is_overdue(self, stage: Stage, now: float) -> bool:
        """Return whether the client or the handler took too long, and note the error to answer with."""
        quiet, elapsed = now - self._time, now - self._phase_began
        if stage is Stage.IDLE:
            allowed: float = self.request_timeout if self._is_new else self.keep_alive_timeout
            return quiet > allowed
        is_late: bool
        error: ApiError
        if stage is Stage.REQUEST:
            is_late, error = elapsed > self.request_timeout, RequestTimeout()
        elif self._is_body_awaited:
            is_late, error = body_is_overdue(elapsed, self._body_bytes), RequestTimeout()
        else:
            is_late, error = quiet > self.response_timeout, Overloaded("the answer took too long")
        if is_late:
            self._http.exception = error
        return is_late

    def connection_made(self, transport: Any) -> None:
        """Open like Sanic's method, and tell the accept gate."""
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        if self.app.ctx.gate is not None:
            self.app.ctx.gate.note(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Close like Sanic's method, and tell the accept gate."""
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if self.app.ctx.gate is not None:
            self.app.ctx.gate.note(len(self.connections))


def protocol_of(app: Sanic[Any, Any], connections: set[Any]) -> Callable[[], EdgeProtocol]:
    """Return a factory of protocols for connections that the accept gate accepts, with the options that Sanic uses.

    ``connections``: the set in which the protocols register themselves.
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
