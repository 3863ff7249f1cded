"""The page of metrics on a port of its own: served by the supervisor, for all server processes.

It answers while every server process is busy, and it may name what the main port must not.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from server.process.listener import ListenError, explain_failure
from server.telemetry.prometheus import registry_of


@contextmanager
def metrics_page(address: tuple[str, int], folder: str) -> Iterator[WSGIServer]:
    """Serve the metrics in ``folder`` at ``address``.

    :raises ListenError: the address is in use, not ours, or not allowed.
    """
    host, port = address
    try:
        server, thread = start_http_server(port, addr=host, registry=registry_of(folder))
    except OSError as failure:
        if isinstance(failure, socket.gaierror):
            raise ListenError(f"{host} is no address to listen on (OBSERVATORY_HOST)") from failure
        raise ListenError(explain_failure(failure, host, port)) from failure
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
