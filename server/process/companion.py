"""A child process beside the servers, which serves no port of ours: started, started again when it dies, ended.

It may fail without any harm to the servers, so the supervisor neither waits for it nor counts its failures.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

logger: Final = logging.getLogger("observatory.supervisor")

FIRST_DELAY_SECONDS: Final = 1.0
LONGEST_DELAY_SECONDS: Final = 60.0
HEALTHY_SECONDS: Final = 60.0


class Companion:
    """One such process, while it comes and goes."""

    def __init__(self, module: str) -> None:
        """``module``: run with ``-m``; its argument is the descriptor of a socket whose end means that we are gone."""
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._started_at = 0.0
        self._failures = 0
        self._restart_at = 0.0
        self._is_misconfigured = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    def tend(self, environ: Mapping[str, str], now: float) -> int | None:
        """Start it if it is due; return the process that has ended, if one has."""
        if self._process is None:
            if now >= self._restart_at and not self._is_misconfigured:
                self._start(environ, now)
            return None
        status = self._process.poll()
        if status is None:
            return None
        pid = self._process.pid
        self._forget()
        if status == os.EX_CONFIG:
            self._is_misconfigured = True  # it has reported the reason, and would again
            return pid
        self._failures = 1 if now - self._started_at > HEALTHY_SECONDS else self._failures + 1
        delay = min(FIRST_DELAY_SECONDS * 2 ** (self._failures - 1), LONGEST_DELAY_SECONDS)
        self._restart_at = now + delay
        logger.warning(
            "companion process ended, another follows",
            extra={"module_name": self._module, "pid": pid, "status": status, "delay_seconds": delay},
        )
        return pid

    def terminate(self) -> None:
        """Tell it to end."""
        if self._process is not None:
            self._process.terminate()

    @property
    def has_ended(self) -> bool:
        """Whether no process is left."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._forget()

    def _start(self, environ: Mapping[str, str], now: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(theirs.fileno())],
                # One thread for the arithmetic: the cores are the servers'.
                env={**environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._lifeline = ours
        self._started_at = now

    def _forget(self) -> None:
        self._process = None
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
