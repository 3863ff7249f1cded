"""Connections to one port are spread evenly over the server processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.process.accept_gate import AcceptGate, ConnectionTable, is_left
from tests.process.conftest import Starter
from tests.process.program import Program

REQUEST = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def connections(server: Program, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that were each asked once."""
    port = int(server.base_url.rpartition(":")[2])
    opened = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]
    try:
        for connection in opened:
            ask(connection)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def ask(connection: socket.socket) -> None:
    """Send one request, and read its answer."""
    connection.sendall(REQUEST)
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def served_by(pid: int, port: int) -> int:
    """Return the number of connections to ``port`` that the process has, by the descriptors it holds."""
    established = {
        columns[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (columns := line.split())[3] == "01" and int(columns[1].rpartition(":")[2], 16) == port
    }
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(descriptor))
        except FileNotFoundError:  # closed since it was listed
            continue
    return sum(f"socket:[{inode}]" in held for inode in established)


def spread(server: Program) -> list[int]:
    """Return the connections of each server process, fewest first."""
    port = int(server.base_url.rpartition(":")[2])
    return sorted(served_by(pid, port) for pid in server.worker_pids())


def usual_spread(server: Program, count: int) -> list[int]:
    """Return the spread that most of five trials with ``count`` more connections have.

    A process that the machine does not let run for 50 ms loses its turn, which may happen in one trial or another.
    """
    before = spread(server)
    found = []
    for _ in range(5):
        with connections(server, count) as opened:
            found.append(tuple(spread(server)))
            for connection in opened:
                ask(connection)
        wait_for(server, before)
    usual, times = Counter(found).most_common(1)[0]
    assert times >= 3, found
    return list(usual)


def wait_for(server: Program, expected: list[int]) -> None:
    """Wait until the processes have ``expected`` connections."""
    deadline = time.monotonic() + 5
    while spread(server) != expected:
        assert time.monotonic() < deadline, spread(server)
        time.sleep(0.01)


@pytest.mark.parametrize("count", [2, 4, 9])
async def test_a_handful_of_connections_is_spread_evenly(start: Starter, count: int) -> None:
    server = start("--workers", "2")
    server.wait_for("server process serves", times=2)
    assert usual_spread(server, count) == [count // 2, count - count // 2]


async def test_places_that_became_free_are_taken_first(start: Starter) -> None:
    server = start("--workers", "3")
    server.wait_for("server process serves", times=3)
    with connections(server, 6) as opened:
        for connection in opened[:3]:
            connection.close()
        deadline = time.monotonic() + 5
        while sum(spread(server)) > 3:
            assert time.monotonic() < deadline
        assert usual_spread(server, 3) == [2, 2, 2]


async def test_a_process_that_is_gone_gets_no_connection_and_its_successor_does(start: Starter) -> None:
    server = start("--workers", "2")
    server.wait_for("server process serves", times=2)
    victim, survivor = server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    server.wait_for("server process ended, another follows")
    with connections(server, 3):
        port = int(server.base_url.rpartition(":")[2])
        assert served_by(survivor, port) >= 1
        server.wait_for("server process serves", times=3)
        assert usual_spread(server, 5) == [4, 4]


async def test_connections_pass_by_a_process_that_stands_still(start: Starter) -> None:
    server = start("--workers", "2")
    server.wait_for("server process serves", times=2)
    with connections(server, 4):
        frozen, awake = server.worker_pids()
        os.kill(frozen, signal.SIGSTOP)
        try:
            with connections(server, 3):  # each is answered, though the frozen process has fewer from the first on
                assert served_by(awake, int(server.base_url.rpartition(":")[2])) == 5
        finally:
            os.kill(frozen, signal.SIGCONT)


def test_the_table_knows_who_has_fewest_of_those_who_take_connections() -> None:
    table, descriptor = ConnectionTable.create(3)
    os.close(descriptor)
    table.set_open(0, 3)
    assert table.has_fewest(0), "the others are absent"
    table.set_open(1, 2)
    table.set_open(2, 2)
    assert [table.has_fewest(process) for process in range(3)] == [False, True, True]
    table.set_absent(1)
    table.set_open(2, 3)
    assert table.has_fewest(0)
    assert not table.is_alone(1)
    table.set_absent(2)
    assert table.is_alone(0)


def leave(connection: socket.socket, how: str) -> None:
    """End a connection as its client does."""
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize("sent", [b"", REQUEST])
def test_a_connection_whose_client_is_gone_is_known_when_it_is_accepted(how: str, sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone, stays = (socket.create_connection(listener.getsockname()) for _ in range(2))
        for connection in (gone, stays):
            connection.sendall(sent)
        leave(gone, how)
        accepted = [listener.accept()[0] for _ in range(2)]
        assert [is_left(connection) for connection in accepted] == [True, False]
        for connection in (*accepted, stays):
            connection.close()


def served_connections() -> tuple[list[asyncio.BaseTransport], type[asyncio.Protocol]]:
    """Return a list, and a protocol that adds each connection to it."""
    served: list[asyncio.BaseTransport] = []

    class Served(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            served.append(transport)

    return served, Served


async def test_nobody_waits_behind_those_who_have_gone_away() -> None:
    served, protocol = served_connections()
    table, descriptor = ConnectionTable.create(1)
    os.close(descriptor)
    listener = socket.create_server(("127.0.0.1", 0), backlog=500)
    listener.setblocking(False)
    for number in range(300):
        connection = socket.create_connection(listener.getsockname())
        connection.sendall(REQUEST)
        leave(connection, "reset" if number % 2 else "closed")
    with socket.create_connection(listener.getsockname()) as newcomer:
        gate = AcceptGate(0, table, listener)
        gate.start(asyncio.get_running_loop(), protocol)
        async with asyncio.timeout(5):
            while not served:
                await asyncio.sleep(0)
        (transport,) = served
        assert transport.get_extra_info("peername") == newcomer.getsockname()
        transport.close()
        gate.stop()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_only_closed_its_half_before_it_was_accepted_is_told_from_who_is_gone(version: str) -> None:
    served, protocol = served_connections()
    table, descriptor = ConnectionTable.create(1)
    os.close(descriptor)
    listener = socket.create_server(("127.0.0.1", 0), backlog=50)
    listener.setblocking(False)
    for how in ("reset", "closed"):
        connection = socket.create_connection(listener.getsockname())
        connection.sendall(REQUEST)
        leave(connection, how)
    with socket.create_connection(listener.getsockname()) as waiting:
        waiting.sendall(REQUEST.replace(b"1.1", version.encode()))
        waiting.shutdown(socket.SHUT_WR)
        gate = AcceptGate(0, table, listener)
        gate.start(asyncio.get_running_loop(), protocol)
        await asyncio.sleep(0.3)
        assert len(served) == (version == "1.1"), "HTTP/1.0 has no interim answers, so nobody can be asked"
        for transport in served:
            transport.close()
        gate.stop()


def test_many_who_close_their_half_at_once_are_all_answered(start: Starter) -> None:
    server = start("--workers", "1")
    port = int(server.base_url.rpartition(":")[2])
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
    for connection in waiting:
        connection.sendall(REQUEST)
        connection.shutdown(socket.SHUT_WR)
    for connection in waiting:
        with connection, connection.makefile("rb") as answer:
            assert b"HTTP/1.1 200 OK" in answer.read()
