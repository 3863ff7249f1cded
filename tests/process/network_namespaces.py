"""Network namespaces of a test's own, with addresses that nobody else has, and a door to the services of the run.

Each namespace has two links to the outside: ``front``, over which clients reach the servers in it, and ``back``, over
which the servers reach PostgreSQL and Redis. Cutting the back link loses packets without a word, as a broken switch
does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import ExitStack, suppress
from urllib.parse import parse_qs, urlsplit

import pytest

FRONT, BACK = "front", "back"


def ip(*arguments: str) -> None:
    """Run ``ip`` with these arguments."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


class Namespace:
    """One namespace and its two links. A context manager, which skips the test where none may be made."""

    def __init__(self, number: int) -> None:
        self.name = f"obs{os.getpid()}-{number}"
        self._subnets = {FRONT: f"10.213.{number}", BACK: f"10.213.{128 + number}"}

    def __enter__(self) -> Namespace:
        with ExitStack() as undo:
            undo.callback(self.close)
            try:
                ip("netns", "add", self.name)
                ip("-n", self.name, "link", "set", "lo", "up")
                for side, subnet in self._subnets.items():
                    outside = self._outside(side)
                    ip("link", "add", outside, "type", "veth", "peer", "name", side, "netns", self.name)
                    ip("addr", "add", f"{subnet}.1/30", "dev", outside)
                    ip("link", "set", outside, "up")
                    ip("-n", self.name, "addr", "add", f"{subnet}.2/30", "dev", side)
                    ip("-n", self.name, "link", "set", side, "up")
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"network namespaces may not be made here: {error}")
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove it; its links go with it."""
        with suppress(OSError, subprocess.SubprocessError):
            ip("netns", "delete", self.name)

    @property
    def servers(self) -> str:
        """Address at which clients reach servers in here."""
        return f"{self._subnets[FRONT]}.2"

    @property
    def services(self) -> str:
        """Address at which servers in here reach what is outside."""
        return f"{self._subnets[BACK]}.1"

    @property
    def command(self) -> list[str]:
        """Beginning of a command that runs in here."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Lose every packet between the servers and the services."""
        ip("-n", self.name, "link", "set", BACK, "down")

    def mend(self) -> None:
        """Let packets through again."""
        ip("-n", self.name, "link", "set", BACK, "up")

    def _outside(self, side: str) -> str:
        return f"o{side[0]}{self.name[3:]}"[:15]


class Door:
    """Passes connections on from an address to a unix socket: services of the test run have no other address."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = parts.path
        else:
            query = parse_qs(parts.query)
            self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._listening: list[asyncio.Server] = []
        self._ways: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Door:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._listening:
            server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def open(self, address: str) -> int:
        """Listen there, and return the port."""
        server = await asyncio.start_server(self._serve, address, 0)
        self._listening.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside_reader, inside_writer = await asyncio.open_unix_connection(self._socket)
        for way in (_copy(reader, inside_writer), _copy(inside_reader, writer)):
            task = asyncio.create_task(way)
            self._ways.add(task)
            task.add_done_callback(self._ways.discard)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
