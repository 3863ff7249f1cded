"""A primary with one streaming replica, of a test module's own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from server.embedded import EmbeddedServices, EmbeddedUrls
from server.embedded.account import Account, choose_account
from server.embedded.binaries import POSTGRES, find_program
from server.embedded.service_process import ServiceProcess

STOP = ((signal.SIGINT, 60.0),)


class StreamingReplica:
    """A copy of the stopped cluster in ``primary``, which then follows it."""

    def __init__(self, primary: EmbeddedServices, urls: EmbeddedUrls, folder: Path) -> None:
        self._folder = folder
        self._account: Account = choose_account(primary.path / "postgres", os.environ)
        self._primary_sockets = urls.owner_url.partition("host=")[2].partition("&")[0]
        self._process: ServiceProcess | None = None
        self._cluster = folder / "cluster"
        self._log = folder / "replica.log"
        shutil.copytree(primary.path / "postgres", self._cluster)
        (self._cluster / "standby.signal").touch()
        for path in (folder, self._cluster, *self._cluster.rglob("*")):
            self._account.own(path)

    def url(self, of_primary: str) -> str:
        """Return the address of the same database and role on the replica."""
        return of_primary.replace(self._primary_sockets, quote(str(self._folder), safe=""))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        sockets = self._primary_sockets.replace("%2F", "/")
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "hba_file": str(self._cluster / "observatory_hba.conf"),
            "ident_file": str(self._cluster / "observatory_ident.conf"),
            "primary_conninfo": f"host={sockets} port=5432 user=postgres",
            "max_connections": "200",
            "fsync": "off",
            "shared_buffers": "32MB",
            "wal_retrieve_retry_interval": "100ms",
        }
        self._process = ServiceProcess(
            "replica",
            [
                find_program(POSTGRES),
                "-D",
                self._cluster,
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            account=self._account,
            log=self._log,
            cwd=self._cluster,
            stop_signals=STOP,
        )
        deadline = time.monotonic() + 60
        while "accept read-only connections" not in self._process.recent_log(1000):
            if self._process.exited() or time.monotonic() > deadline:
                raise AssertionError(self._process.recent_log(50))
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes: each has a session of its own."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for receiver in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(receiver, number)

    def kill(self) -> None:
        """End it as when its machine loses power."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.stop()
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
