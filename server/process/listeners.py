"""The sockets that server processes listen on, created by their supervisor.

With one process, its socket listens for as long as the supervisor lives, so that connections wait while the process is
replaced. With several on Linux, each has a socket of its own on the same port (SO_REUSEPORT), so that the kernel
spreads connections (:mod:`server.process.connection_balance` makes that even); it listens only while its process
serves, so that no connection waits for an absent process while others could serve it.
"""

from __future__ import annotations

import errno
import socket
import sys

BACKLOG = 2048


class ListenError(Exception):
    """The program cannot listen on the address; the message says what to do."""


def open_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Return a socket for each of ``count`` processes, all on one address. Port 0 takes a free one.

    :raises ListenError: the address is in use, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Exclusively first: two programs that both share the port would silently take turns.
    alone = _bind(family, host, port, share=False)
    port = alone.getsockname()[1]
    if count == 1:
        return [alone]
    if sys.platform != "linux":
        return [alone, *(alone.dup() for _ in range(count - 1))]
    alone.close()
    return [_bind(family, host, port, share=True) for _ in range(count)]


def renewed(listener: socket.socket) -> socket.socket:
    """Return the socket for the successor of a dead process: if it has a queue of its own, a new one that does not
    listen yet.
    """
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        return listener
    host, port = listener.getsockname()[:2]
    successor = _bind(listener.family, host, port, share=True)
    listener.close()
    return successor


def _bind(family: int, host: str, port: int, *, share: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        if not share:
            listener.listen(BACKLOG)
    except OSError as failure:
        listener.close()
        raise ListenError(explain_failure(failure, host, port)) from failure
    return listener


def explain_failure(failure: OSError, host: str, port: int) -> str:
    """Return what a person can do about ``failure`` to listen."""
    if failure.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: choose another with --port (or OBSERVATORY_PORT), or stop what uses it"
        )
    if failure.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one from 1024 up with --port (or OBSERVATORY_PORT)"
    return f"cannot listen on {host} port {port}: {failure.strerror or failure} (--host or OBSERVATORY_HOST changes it)"
