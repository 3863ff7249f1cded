"""Listening sockets that outlive the processes serving them."""

from __future__ import annotations

import errno
import socket
import sys

BACKLOG = 2048


class ListenError(Exception):
    """The address cannot be listened on; the message names the way out."""


def open_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """``count`` sockets listening on one address, one for each server process.

    On Linux each has a queue of its own (SO_REUSEPORT), so that the kernel spreads connections evenly; elsewhere
    all are copies of one socket. Port 0 takes a free one.

    :raises ListenError: the address is in use, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Alone first: two programs that both share the port would silently take turns.
    probe = _listen(family, host, port, share=False)
    port = probe.getsockname()[1]
    if count == 1:
        return [probe]
    if sys.platform != "linux":
        return [probe, *(probe.dup() for _ in range(count - 1))]
    probe.close()
    return [_listen(family, host, port, share=True) for _ in range(count)]


def _listen(family: socket.AddressFamily, host: str, port: int, *, share: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as failure:
        listener.close()
        raise ListenError(_explain(failure, host, port)) from failure
    return listener


def _explain(failure: OSError, host: str, port: int) -> str:
    if failure.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: choose another with --port (or OBSERVATORY_PORT), or stop what uses it"
        )
    if failure.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one from 1024 up with --port (or OBSERVATORY_PORT)"
    return f"cannot listen on {host} port {port}: {failure.strerror or failure} (--host or OBSERVATORY_HOST changes it)"
