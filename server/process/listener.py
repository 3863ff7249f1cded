"""The socket that the server processes listen on, created by their supervisor.

All processes accept from it (:mod:`server.process.accept_gate` makes that even). It listens for as long as the
supervisor lives, so that connections wait while the only process is replaced.
"""

from __future__ import annotations

import errno
import socket

BACKLOG = 2048


class ListenError(Exception):
    """The program cannot listen on the address; the message says what to do."""


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address; port 0 takes a free one.

    :raises ListenError: the address is in use, not ours, or not allowed.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as failure:
        listener.close()
        raise ListenError(explain_failure(failure, host, port)) from failure
    return listener


def local_url(listener: socket.socket) -> str:
    """Return the address at which this machine reaches ``listener``; of all its addresses, the loopback one."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def explain_failure(failure: OSError, host: str, port: int) -> str:
    """Return what a person can do about ``failure`` to listen."""
    if failure.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: choose another with --port (or OBSERVATORY_PORT), or stop what uses it"
        )
    if failure.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one from 1024 up with --port (or OBSERVATORY_PORT)"
    return f"cannot listen on {host} port {port}: {failure.strerror or failure} (--host or OBSERVATORY_HOST changes it)"
