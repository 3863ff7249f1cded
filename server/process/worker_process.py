"""One server process: ``python -m server.process.worker_process LISTENER LIFELINE PLACE TABLE``.

The supervisor starts it. It inherits the socket to listen on (:mod:`server.process.listener`). The lifeline is a
socket to the supervisor: the first byte on it means "serving", later ones, one a second, that the event loop still
runs; its end means that the supervisor is gone. The last arguments are the place of this process in the table of
connections and the descriptor of that table (:mod:`server.process.accept_gate`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvloop
from sanic import Sanic

from server.app import create_app
from server.http.protocol import protocol_of
from server.process.accept_gate import AcceptGate, ConnectionTable
from server.process.listener import BACKLOG
from server.settings import Settings, SettingsError, load_settings
from server.telemetry import logs
from server.terminal.output import say

POLL_SECONDS = 0.05
# Before connections are refused: time to receive requests that clients had sent before the signal.
SETTLE_SECONDS = 0.25
READY = b"+"
HEARTBEAT_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""A thread that works something out lets the event loop go on after so long, a tenth of Python's default."""


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


def spare_long_lived_objects() -> None:
    """Tell the garbage collector that existing objects stay, and let it look at the rest less often.

    The modules and tables of a server are some 100,000 objects; without this each full collection walks over them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def stop_event(lifeline: socket.socket) -> asyncio.Event:
    """Return an event that a first signal or the end of the supervisor sets; a second signal exits at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    def on_lifeline() -> None:
        loop.remove_reader(lifeline)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_reader(lifeline, on_lifeline)
    return stop


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


def main(arguments: list[str]) -> None:
    """Run the entry point; the module's docstring explains the arguments."""
    settings = load_settings()
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.configure(settings.log_level, settings.log_format)
    listener = socket.socket(fileno=int(arguments[0]))
    listener.setblocking(False)
    lifeline = socket.socket(fileno=int(arguments[1]))
    lifeline.setblocking(False)
    place, table = map(int, arguments[2:])
    gate = AcceptGate(place, ConnectionTable(table), listener.dup())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings, listener, lifeline, gate))
        except SettingsError as unusable:
            say(str(unusable))
            sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main(sys.argv[1:])
