"""Several Valkeys at a time: a Cluster, or a master with a replica and a Sentinel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from server.embedded.binaries import VALKEY, find_program

DEADLINE_SECONDS = 60.0


class Valkeys:
    """Processes on ports of this machine, ended with the context."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="obs-valkey-"))
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Valkeys:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        for port in list(self._running):
            self.kill(port)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, *options: str, config: str | None = None) -> int:
        """Start one and return its port. ``config``: the text of its configuration file, PORT for the port."""
        while True:
            port = _free_port()
            folder = self._folder / str(port)
            folder.mkdir()
            if config is not None:
                (folder / "valkey.conf").write_text(config.replace("PORT", str(port)))
            first = [str(folder / "valkey.conf")] if config is not None else ["--port", str(port), "--save", ""]
            command = [str(find_program(VALKEY)), *first, "--bind", "127.0.0.1", "--dir", str(folder), *options]
            log = folder / "log"
            with log.open("wb") as sink:
                process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
            self._running[port] = process
            until(lambda p=port, started=process: started.poll() is not None or _answers(p))  # type: ignore[misc]
            if process.poll() is None:
                return port
            del self._running[port]
            if b"Address already in use" not in log.read_bytes() and b"bind" not in log.read_bytes():
                raise AssertionError(log.read_text())

    def kill(self, port: int) -> None:
        process = self._running.pop(port)
        process.kill()
        process.wait()


def until(holds: Callable[[], Any]) -> Any:
    """Wait until ``holds`` returns something true, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask(port: int, *command: Any) -> Any:
    """Return the reply of the server at ``port``; None while there is none."""
    try:
        with Redis(port=port, socket_timeout=5) as client:
            return client.execute_command(*command)
    except (RedisError, OSError):
        return None


def _answers(port: int) -> bool:
    return ask(port, "PING") is not None


def _free_port() -> int:
    """Return a port that is free now, and whose neighbour for the bus of a Cluster fits below 65536."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        if port < 55000:
            return port
