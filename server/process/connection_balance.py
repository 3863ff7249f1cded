"""Even distribution of a port's connections over the server processes.

The kernel assigns each connection to the socket of one process, by a hash of its addresses. That is even for hundreds.
Of the four that a Collector or a Grafana keeps open, all go to the same of two processes one time in eight, and three
of them every other time: one process works and one waits. So a process that gets a connection while another has fewer
passes it on before anything is read from it, as a descriptor in a message between processes (SCM_RIGHTS, unix(7)).

A table in shared memory has the number of connections of each process. Each process writes only its own row, so nothing
needs a lock. Connections in flight are counted too; otherwise a burst of new connections would all be passed on.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import sys
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable
from typing import Any, Final

_ABSENT: Final = -1
_NUMBER_SIZE: Final = 8


class ConnectionTable:
    """For each process, its number of connections, and how many it gave to and took from each other process."""

    def __init__(self, descriptor: int, processes: int) -> None:
        """``descriptor``: a file of :meth:`size` bytes."""
        self.processes = processes
        self._row = 1 + 2 * processes
        self._numbers = memoryview(mmap.mmap(descriptor, self.size(processes))).cast("q")

    @staticmethod
    def size(processes: int) -> int:
        """Return the bytes that a table takes."""
        return processes * (1 + 2 * processes) * _NUMBER_SIZE

    def set_open(self, process: int, connections: int) -> None:
        """Note how many connections ``process`` has."""
        self._numbers[process * self._row] = connections

    def set_absent(self, process: int) -> None:
        """Note that ``process`` takes no connections."""
        self._numbers[process * self._row] = _ABSENT

    def note_given(self, giver: int, taker: int, count: int = 1) -> None:
        """Note connections that ``giver`` has sent to ``taker``, or, with a negative ``count``, could not send."""
        self._numbers[giver * self._row + 1 + taker] += count

    def note_taken(self, giver: int, taker: int) -> None:
        """Note that ``taker`` has received a connection of ``giver``."""
        self._numbers[taker * self._row + 1 + self.processes + giver] += 1

    def load(self, process: int) -> int | None:
        """Return the connections that ``process`` has or is about to have; None if it takes none."""
        numbers, row = self._numbers, self._row
        connections = numbers[process * row]
        if connections == _ABSENT:
            return None
        for giver in range(self.processes):
            connections += numbers[giver * row + 1 + process] - numbers[process * row + 1 + self.processes + giver]
        return connections


class BalanceHub:
    """The supervisor's side: the table, and a mailbox for each process.

    A mailbox outlives its process, so that a connection in flight goes to the successor.
    """

    def __init__(self, processes: int) -> None:
        self._file = os.memfd_create("connections")
        os.ftruncate(self._file, ConnectionTable.size(processes))
        self.table = ConnectionTable(self._file, processes)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(processes)]
        self._inboxes = [inbox for inbox, _ in pairs]
        self._outboxes = [outbox for _, outbox in pairs]
        for mailbox in (*self._inboxes, *self._outboxes):
            mailbox.setblocking(False)
        for process in range(processes):
            self.table.set_absent(process)

    @classmethod
    def for_processes(cls, processes: int) -> BalanceHub | None:
        """Return a hub, or None if there is nothing to balance: one process, or a system with one queue for all of
        them.
        """
        return cls(processes) if processes > 1 and sys.platform == "linux" else None

    def descriptors(self, process: int) -> tuple[int, ...]:
        """Return the descriptors that ``process`` inherits, in the order that :meth:`ConnectionBalance.inherited`
        takes.
        """
        return (self._file, self._inboxes[process].fileno(), *(outbox.fileno() for outbox in self._outboxes))

    def close(self) -> None:
        """Close the mailboxes and the table's file."""
        for mailbox in (*self._inboxes, *self._outboxes):
            mailbox.close()
        os.close(self._file)


class ConnectionBalance:
    """One process's side: passes connections on, and takes those of others."""

    def __init__(
        self, process: int, table: ConnectionTable, inbox: socket.socket, outboxes: list[socket.socket]
    ) -> None:
        self._process = process
        self._table = table
        self._inbox = inbox
        self._outboxes = outboxes
        self._is_serving = False
        self._arriving: set[asyncio.Task[Any]] = set()

    @classmethod
    def inherited(cls, process: int, descriptors: list[int]) -> ConnectionBalance:
        """Return the side of this process, from the descriptors of the supervisor (:meth:`BalanceHub.descriptors`)."""
        table, inbox, *outboxes = descriptors
        return cls(
            process,
            ConnectionTable(table, len(outboxes)),
            socket.socket(fileno=inbox),
            [socket.socket(fileno=outbox) for outbox in outboxes],
        )

    def start(self, loop: AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Take connections from now on, each served by a new ``protocol()``."""
        self._is_serving = True
        self._table.set_open(self._process, 0)
        loop.add_reader(self._inbox, self._receive, loop, protocol)

    def withdraw(self) -> None:
        """Tell the other processes that this one takes no more; connections already sent to it are still served."""
        self._is_serving = False
        self._table.set_absent(self._process)

    def stop(self, loop: AbstractEventLoop) -> None:
        """Stop receiving."""
        loop.remove_reader(self._inbox)

    def note(self, connections: int) -> None:
        """Tell the others how many connections this process has."""
        if self._is_serving:
            self._table.set_open(self._process, connections)

    def passes_on(self, transport: Transport, connections: int) -> bool:
        """Pass the new connection of ``transport``, one of ``connections`` here, to a process that has fewer even with
        it.

        Return False if it stays. Must be called before anything is read from it.
        """
        if not self._is_serving:
            return False
        others = [
            (load, process)
            for process in range(self._table.processes)
            if process != self._process and (load := self._table.load(process)) is not None
        ]
        if not others:
            return False
        load, taker = min(others)
        if load + 1 >= connections:
            return False
        self._table.note_given(self._process, taker)
        try:
            descriptor = transport.get_extra_info("socket").fileno()
            socket.send_fds(self._outboxes[taker], [bytes([self._process])], [descriptor])
        except OSError:
            self._table.note_given(self._process, taker, -1)  # its mailbox is full: it has enough to do
            return False
        # Our copy of the descriptor is closed; the connection lives on in the other process.
        transport.set_protocol(asyncio.Protocol())
        transport.abort()
        return True

    def _receive(self, loop: AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        while True:
            try:
                giver, descriptors, _, _ = socket.recv_fds(self._inbox, 1, 1)
            except BlockingIOError:
                return
            self._table.note_taken(giver[0], self._process)
            for descriptor in descriptors:
                task = loop.create_task(self._serve(loop, protocol, socket.socket(fileno=descriptor)))
                self._arriving.add(task)
                task.add_done_callback(self._arriving.discard)

    async def _serve(
        self, loop: AbstractEventLoop, protocol: Callable[[], asyncio.Protocol], connection: socket.socket
    ) -> None:
        connection.setblocking(False)
        try:
            await loop.connect_accepted_socket(protocol, connection)
        except OSError:
            connection.close()  # the client has disconnected
