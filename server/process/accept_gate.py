"""Acceptance of connections: those that somebody still waits at, spread evenly over the server processes.

All processes accept from one socket, and of those that wait for a connection the kernel mostly wakes the same one. Of
the four that a Collector or a Grafana keeps open it may get all: one process works and the others wait. So a process
that has more connections than another leaves a new one to it for a moment; it takes the connection itself if that
moment passes, such as while the other process is frozen.

Whoever connects and goes away leaves a connection in the queue. A thousand of them, each read, admitted and asked of
the database before its end is noticed, would keep a newcomer waiting for seconds; so they are closed when they are
accepted, which costs some microseconds. Where a request of HTTP/1.1 has come with the end of the bytes, the client may
have closed its sending half alone: :mod:`server.http.wire.half_closed` says how it is asked.

A table in shared memory has the number of connections of each process. Each process writes only its own number, so
nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
import tempfile
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sanic.http.http1 import HTTP_CONTINUE

from server.http.wire.half_closed import FIRST_LOOK_SECONDS

logger = logging.getLogger("observatory.accept")

RETRY_SECONDS: Final = 0.005
PATIENCE_SECONDS: Final = 0.05
"""How long a connection is left to a process with fewer. A process whose event loop is busy for longer is no better
off with it.
"""

REST_SECONDS: Final = 1.0

AT_ONCE: Final = 16
"""Most connections that a process accepts in one turn of its event loop if it is the only one; any process accepts at
most sixteen times as many that were left behind."""

_MOST_PEEKED: Final = 8192
_ABSENT: Final = -1
_NUMBER_SIZE: Final = 8


_STATE_OF_TCP: Final = getattr(socket, "TCP_INFO", None)
_ESTABLISHED: Final = 1


def is_left(connection: socket.socket) -> bool:
    """Return whether the client has ended ``connection``, or its half of it, before it was accepted."""
    if _STATE_OF_TCP is not None:
        return connection.getsockopt(socket.IPPROTO_TCP, _STATE_OF_TCP, 1) != bytes([_ESTABLISHED])
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def _is_http_11(received: bytes) -> bool:
    """Return whether a request of HTTP/1.1 begins here, as opposed to one of HTTP/1.0, which has no interim answers."""
    return received.partition(b"\r\n")[0].endswith(b" HTTP/1.1")


class ConnectionTable:
    """The number of connections of each process."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: a file with eight bytes for each process."""
        self._numbers = memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size)).cast("q")

    @classmethod
    def create(cls, processes: int) -> tuple[ConnectionTable, int]:
        """Return a table of ``processes`` that are all absent, and the descriptor of its memory."""
        with tempfile.TemporaryFile() as file:
            file.truncate(processes * _NUMBER_SIZE)
            descriptor = os.dup(file.fileno())
        table = cls(descriptor)
        for process in range(processes):
            table.set_absent(process)
        return table, descriptor

    def set_open(self, process: int, connections: int) -> None:
        """Note how many connections ``process`` has."""
        self._numbers[process] = connections

    def set_absent(self, process: int) -> None:
        """Note that ``process`` takes no connections."""
        self._numbers[process] = _ABSENT

    def has_fewest(self, process: int) -> bool:
        """Return whether no other process that takes connections has fewer."""
        own = self._numbers[process]
        return not any(_ABSENT < number < own for number in self._numbers)

    def is_alone(self, process: int) -> bool:
        """Return whether no other process takes connections."""
        return all(number == _ABSENT for place, number in enumerate(self._numbers) if place != process)


class AcceptGate:
    """Accepts the connections of one process, and leaves them to others that have fewer."""

    def __init__(self, process: int, table: ConnectionTable, listener: socket.socket) -> None:
        self._process = process
        self._table = table
        self._listener = listener
        self._is_serving = False
        self._open = 0
        self._arriving: set[asyncio.Task[Any]] = set()
        self._asked: set[socket.socket] = set()
        self._left_since = self._left_last = float("-inf")

    def start(self, loop: AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections from now on, each served by a new ``protocol()``."""
        self._loop = loop
        self._protocol = protocol
        self._is_serving = True
        self._note()
        loop.add_reader(self._listener, self._on_connection)

    def withdraw(self) -> None:
        """Leave new connections to the other processes as long as there are any that take them."""
        self._is_serving = False
        self._table.set_absent(self._process)

    def stop(self) -> None:
        """Accept no more connections."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in self._asked:
            connection.close()
        self._asked.clear()

    def note(self, connections: int) -> None:
        """Tell the others how many connections this process has."""
        self._open = connections
        self._note()

    def _note(self) -> None:
        if self._is_serving:
            self._table.set_open(self._process, self._open + len(self._arriving))

    def _on_connection(self) -> None:
        if self._leaves_it():
            self._pause(RETRY_SECONDS)
            return
        taken = 0
        for _ in range(16 * AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return  # another process took it, or the client has gone
            except OSError as failure:
                logger.error("no connection can be accepted for a second", extra={"error": str(failure)})
                self._pause(REST_SECONDS)  # no descriptors or no memory: the connection waits
                return
            if is_left(connection):
                self._ask(connection)
                continue
            self._take(connection)
            taken += 1
            if taken == AT_ONCE or not self._table.is_alone(self._process):
                return

    def _take(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._serve(connection))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)
        self._note()

    def _ask(self, connection: socket.socket) -> None:
        """Ask whoever closed its half after a request of HTTP/1.1 whether it is still there; close any other."""
        connection.setblocking(False)
        with suppress(OSError):  # nothing has come, or it is reset already
            if _is_http_11(connection.recv(_MOST_PEEKED, socket.MSG_PEEK)):
                connection.send(HTTP_CONTINUE)
                self._asked.add(connection)
                self._loop.call_later(FIRST_LOOK_SECONDS, self._hear, connection)
                return
        connection.close()

    def _hear(self, connection: socket.socket) -> None:
        if connection not in self._asked:
            return  # the gate has stopped
        self._asked.discard(connection)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            connection.close()
        else:
            self._take(connection)

    def _leaves_it(self) -> bool:
        """Return whether a process with fewer connections may still take the one that waits."""
        if self._table.has_fewest(self._process) if self._is_serving else self._table.is_alone(self._process):
            return False
        now = self._loop.time()
        if now - self._left_last > 4 * RETRY_SECONDS:
            self._left_since = now  # nothing waited in between
        self._left_last = now
        return now - self._left_since < PATIENCE_SECONDS

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._on_connection)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # the client has disconnected

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        self._note()
