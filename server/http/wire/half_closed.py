"""Clients that close their sending half and wait for the answer, told apart from clients that have gone away.

To a server both look the same: the bytes end (a FIN). RFC 9112, 9.6, lets a client close its half once it has sent its
requests. So the request goes on, and the client is sent an interim answer, which every client of HTTP/1.1 reads past
(RFC 9110, 15.2). A client that is gone has nobody to take it: its system resets the connection, which is noticed within
moments of a round trip.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from sanic.http.constants import Stage
from sanic.http.http1 import HTTP_CONTINUE

FIRST_LOOK_SECONDS: Final = 0.005
"""From the interim answer to the first look for a reset. Each further one is twice as long after the one before."""
LONGEST_LOOK_SECONDS: Final = 0.5


class HalfClosed:
    """The watch over one such connection, until it is answered or reset."""

    __slots__ = ("_is_asked", "_protocol", "_wait")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._is_asked = False
        self._wait = FIRST_LOOK_SECONDS
        # A request that came with the end may still have to be read.
        protocol.loop.call_soon(self._look)

    def _look(self) -> None:
        protocol = self._protocol
        http, transport = protocol._http, protocol.transport
        if http is None or transport is None or transport.is_closing():
            return
        if self._is_reset():
            transport.abort()
            return
        if not self._is_asked and http.stage is Stage.HANDLER and not http.request_body:
            if http.request.version != "1.1":
                transport.close()  # HTTP/1.0 has no interim answers, so nothing tells whether its client is gone
                return
            self._is_asked = True
            transport.write(HTTP_CONTINUE)
        protocol.loop.call_later(self._wait, self._look)
        self._wait = min(2 * self._wait, LONGEST_LOOK_SECONDS)

    def _is_reset(self) -> bool:
        """Return whether the client's system has refused what it was sent: no more is received, so only this tells."""
        connection = self._protocol.transport.get_extra_info("socket")
        return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
