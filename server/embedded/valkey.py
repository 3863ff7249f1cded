"""The private Valkey: rate limits, cache and fan-out of one machine. It keeps nothing on disk."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from urllib.parse import quote

from server.embedded.account import Account
from server.embedded.data_dir import DataDir
from server.embedded.errors import EmbeddedError
from server.embedded.service_process import ServiceProcess

START_SECONDS = 20.0

OPTIONS = {
    # No TCP.
    "port": "0",
    "unixsocketperm": "700",
    # An accelerator, never a truth: nothing is saved, and memory is bounded.
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "databases": "64",
    "daemonize": "no",
}


class EmbeddedValkey:
    """One Valkey on a unix socket in the private socket folder."""

    def __init__(self, program: Path, data_dir: DataDir, account: Account) -> None:
        self._program = program
        self._account = account
        self._log = data_dir.log_dir / "valkey.log"
        self._socket_dir = data_dir.socket_dir(account)
        self._socket = self._socket_dir / "valkey.sock"
        self._process: ServiceProcess | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def start(self) -> None:
        """Start it and wait until it answers PING.

        :raises EmbeddedError: it does not answer.
        """
        _shut_down_leftover(self._socket)
        options = {**OPTIONS, "unixsocket": str(self._socket), "dir": str(self._socket_dir)}
        self._process = ServiceProcess(
            "Valkey",
            [self._program, *(part for name, value in options.items() for part in (f"--{name}", value))],
            account=self._account,
            log=self._log,
            cwd=self._socket_dir,
            stop_signals=((signal.SIGTERM, 5.0),),
        )
        deadline = time.monotonic() + START_SECONDS
        while _ask(self._socket, b"PING\r\n") != b"+PONG\r\n":
            if self._process.exited() or time.monotonic() > deadline:
                log = self._process.recent_log()
                self.stop()
                raise EmbeddedError(f"Valkey did not start; {self._log} says:\n{log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; harmless if it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def exited(self) -> bool:
        """Return whether the server has ended by itself."""
        return self._process is not None and self._process.exited()


def _shut_down_leftover(path: Path) -> None:
    """Stop a Valkey that a killed instance left; the folder is locked, so nobody uses it."""
    _ask(path, b"SHUTDOWN NOSAVE\r\n")
    path.unlink(missing_ok=True)


def _ask(path: Path, command: bytes) -> bytes:
    """Return the answer to one inline command, b'' if nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(str(path))
            connection.sendall(command)
            return connection.recv(64)
        except OSError:
            return b""
