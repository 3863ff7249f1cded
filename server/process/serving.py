"""Serves in this process until it is told to stop, then lets running requests finish."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from sanic import Sanic

from server.app import create_app
from server.http.wire.protocol import protocol_of
from server.process.accept_gate import AcceptGate
from server.process.garbage_collection import spare_long_lived_objects
from server.process.listener import BACKLOG
from server.process.stop_signal import stop_event
from server.settings import Settings

POLL_SECONDS = 0.05
# Before connections are refused: time to receive requests that clients had sent before the signal.
SETTLE_SECONDS = 0.25
READY = b"+"
HEARTBEAT_SECONDS = 1.0


async def serve(settings: Settings, listener: socket.socket, lifeline: socket.socket, gate: AcceptGate) -> None:
    """Serve until told to stop, then drain."""
    app = create_app(settings)
    app.ctx.gate = gate
    stop = stop_event(lifeline)
    server: Any = await app.create_server(
        sock=listener, return_asyncio_server=True, backlog=BACKLOG, asyncio_server_kwargs={"start_serving": False}
    )
    await server.startup()
    await server.before_start()
    gate.start(asyncio.get_running_loop(), protocol_of(app, server.connections))
    await server.after_start()
    spare_long_lived_objects()
    heartbeat = asyncio.create_task(beat(lifeline))
    await stop.wait()
    heartbeat.cancel()
    await drain(app, server, settings)


async def beat(lifeline: socket.socket) -> None:
    """Tell the supervisor every second that this process serves."""
    while True:
        with suppress(OSError):  # it is busy, and what it has not read yet tells the same; or it is gone
            lifeline.send(READY)
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def drain(app: Sanic[Any, Any], server: Any, settings: Settings) -> None:
    """Finish accepted requests within the time that the settings allow, and close everything."""
    app.ctx.services.draining = True
    gate: AcceptGate = app.ctx.gate
    gate.withdraw()
    await asyncio.sleep(max(settings.drain_delay, SETTLE_SECONDS))
    closing = server.close()
    loop = asyncio.get_running_loop()
    gate.stop()
    await app.ctx.services.live.drain()
    deadline = loop.time() + settings.drain_timeout
    for connection in list(server.connections):
        websocket = getattr(connection, "websocket", None)
        if websocket:
            websocket.fail_connection(code=1001)
    while server.connections and loop.time() < deadline:
        for connection in list(server.connections):
            if not connection.recv_buffer:  # else a request has begun to arrive
                connection.close_if_idle()
        await asyncio.sleep(POLL_SECONDS)
    for connection in list(server.connections):
        connection.abort()
    if closing is not None:
        await closing
    await server.before_stop()
    await server.after_stop()
