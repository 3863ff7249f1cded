"""One server process: ``python -m server.process.worker_process LISTENER LIFELINE PLACE TABLE``.

The supervisor starts it. It inherits the socket to listen on (:mod:`server.process.listener`). The lifeline is a
socket to the supervisor: the first byte on it means "serving", later ones, one a second, that the event loop still
runs; its end means that the supervisor is gone. The last arguments are the place of this process in the table of
connections and the descriptor of that table (:mod:`server.process.accept_gate`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import uvloop

from server.process.accept_gate import AcceptGate, ConnectionTable
from server.process.garbage_collection import paused_collection
from server.settings import SettingsError, load_settings
from server.telemetry import logs
from server.terminal.output import say

SWITCH_SECONDS = 0.0005
"""A thread that works something out lets the event loop go on after so long, a tenth of Python's default."""


def main(arguments: list[str]) -> None:
    """Run the entry point; the module's docstring explains the arguments."""
    with paused_collection():
        from server.process.serving import serve

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
