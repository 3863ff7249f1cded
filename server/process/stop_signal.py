"""Tells a process that the supervisor started when it has to end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket


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
