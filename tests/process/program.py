"""Runs the installed program as a process, as its users do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

PROGRAM = Path(sys.executable).with_name("llm-observatory")
START_SECONDS = 120.0
_ADDRESS = re.compile(r"serving on (http://\S+)")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with these settings and none of the caller's."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}


def run(*arguments: str, settings: Mapping[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; return its result."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=environment(settings),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


class Program:
    """A running ``serve`` or ``demo``; what it prints goes to a file. A context manager that leaves nothing behind."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        settings: Mapping[str, str],
        *,
        command: Sequence[str | Path] = (PROGRAM,),
        cwd: Path | None = None,
    ) -> None:
        """``command``: the installed program, or how to run another one, in ``cwd``."""
        self._output = folder / f"output-{arguments[0]}-{time.monotonic_ns()}"
        with open(self._output, "wb") as sink:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env=environment(settings),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self.base_url = ""

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self._output.read_text()

    def wait_for(self, text: str, seconds: float = START_SECONDS, times: int = 1) -> str:
        """Wait until it has printed ``text`` ``times`` times; return all output."""
        deadline = time.monotonic() + seconds
        while self.output.count(text) < times:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{text!r} was not printed:\n{self.output}"
            time.sleep(0.02)
        return self.output

    def wait_until_serving(self, seconds: float = START_SECONDS) -> str:
        """Wait for the first answer; return the address."""
        match = _ADDRESS.search(self.wait_for("serving on http", seconds))
        assert match is not None
        self.base_url = match[1]
        return self.base_url

    def get(self, path: str) -> httpx.Response:
        """Return the answer to a GET, on a connection of its own."""
        return httpx.get(f"{self.base_url}{path}", timeout=10)

    def worker_pids(self) -> list[int]:
        """Process ids of the server processes."""
        return [
            pid
            for pid in children(self.process.pid)
            if b"server.process.worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> set[int]:
    """Return all processes below a process."""
    found: set[int] = set()
    for child in children(pid):
        found |= {child} | descendants(child)
    return found


def wait_until_gone(pids: set[int], seconds: float = 10.0) -> None:
    """Fail if one of these processes still runs after that time."""
    deadline = time.monotonic() + seconds
    while alive := {pid for pid in pids if _runs(pid)}:
        assert time.monotonic() < deadline, f"still running: {[_describe(pid) for pid in alive]}"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _describe(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
