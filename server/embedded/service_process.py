"""One child process that must not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from server.embedded.account import Account

# Above this size a log is started afresh; the old one is kept once.
LOG_LIMIT_BYTES = 10_000_000

# Its standard input is a pipe that only the parent holds: when the parent is gone, for whatever reason, read() ends and
# the service is told to stop. A prctl(PR_SET_PDEATHSIG) would also fire when merely the *thread* that started the
# service ends, and exists on Linux only.
GUARD = 'read -r _ ; kill -s "$1" "$2" 2>/dev/null'


class ServiceProcess:
    """A started program with its log, and a guard that stops it when this process dies."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        account: Account,
        log: Path,
        cwd: Path,
        stop_signals: Sequence[tuple[signal.Signals, float]],
    ) -> None:
        """Start the program in a session of its own, so that a Ctrl-C in the terminal does not reach it.

        :param stop_signals: how to end it: each signal with the seconds to wait for it, from gentle to hard.
        """
        self.name = name
        self.log = log
        self._stop_signals = stop_signals
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".old"))
        self.log_start = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as sink:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=cwd,
                env=clean_environment(cwd),
                start_new_session=True,
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
            )
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", stop_signals[0][0].name.removeprefix("SIG"), str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exited(self) -> bool:
        """Return whether the program has ended by itself."""
        return self._process.poll() is not None

    def recent_log(self, lines: int = 12) -> str:
        """Return the last lines that this run has written to the log."""
        with open(self.log, "rb") as stream:
            stream.seek(self.log_start)
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End the program with ever harder signals, and then its guard."""
        for number, patience in (*self._stop_signals, (signal.SIGKILL, 30.0)):
            if self.exited():
                break
            os.kill(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def clean_environment(home: Path) -> dict[str, str]:
    """Return the environment of a child: PGPORT, LANG and the like of the caller must not change its behaviour."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}
