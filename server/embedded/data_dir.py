"""The data folder: its holder, its contents, and the place of its sockets.

::

    .observatory/
      lock           held by the running instance (flock), contains its process id
      instance.json  addresses of the running instance (0600), for other commands to join or reach it
      jwt_secret     signs tokens (0600), made once
      postgres/      the cluster
      run/           unix sockets; in the system's temporary folder if a socket cannot live here
      log/           postgres.log, valkey.log
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from server.embedded.account import Account
from server.embedded.errors import EmbeddedError

# The longest name that a service creates in the socket folder.
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"


@dataclass(frozen=True)
class EmbeddedUrls:
    """Addresses of the services, and the secret that signs tokens.

    database_url: role observatory_app (the API; row-level security applies). worker_url: role observatory_background
    (folding, partitions, retention). owner_url: superuser (migrations only). server_url: the server of this instance,
    as this machine reaches it; empty until it listens.
    """

    database_url: str
    owner_url: str
    worker_url: str
    redis_url: str
    jwt_secret: str
    server_url: str = ""


class DataDir:
    """One data folder; :meth:`lock` makes this process its only holder."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.cluster = self.path / "postgres"
        self.log_dir = self.path / "log"
        self._instance = self.path / "instance.json"
        self._lock_fd: int | None = None

    def lock(self) -> None:
        """Take the folder, creating it if needed. The kernel releases it when the process ends, however it ends.

        :raises EmbeddedError: another instance holds it, or it cannot be written.
        """
        try:
            self._make()
            self.log_dir.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise EmbeddedError(
                f"cannot write to the data folder {self.path} ({failure.strerror}): "
                "set OBSERVATORY_DATA_DIR to a folder that you own"
            ) from failure
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode() or "unknown"
            os.close(descriptor)
            raise EmbeddedError(
                f"the data folder {self.path} is in use by another instance (process {holder.strip()}): "
                "stop that one first, or set OBSERVATORY_DATA_DIR to another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = descriptor
        self._instance.unlink(missing_ok=True)

    def let_through(self, account: Account) -> None:
        """Let the services' account reach its own folders in here, and nobody list the others."""
        if account.switch and self.path.stat().st_uid == os.geteuid():
            self.path.chmod(0o711)

    def unlock(self) -> None:
        """Release the folder; harmless if it is not held."""
        if self._lock_fd is not None:
            self._instance.unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None

    def jwt_secret(self) -> str:
        """Return the signing secret, created at the first call (256 bits, readable by the owner only)."""
        path = self.path / "jwt_secret"
        if not path.exists():
            self._make()
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text().strip()

    def _make(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True, mode=0o700)
            (self.path / ".gitignore").write_text("*\n")

    def publish(self, urls: EmbeddedUrls) -> None:
        """Write down how other commands of the same user can join this instance."""
        write_private(self._instance, json.dumps(asdict(urls)))

    def running_instance(self) -> EmbeddedUrls | None:
        """Return the addresses of the instance that holds this folder now, or None if nobody does."""
        try:
            with open(self.path / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            try:
                return EmbeddedUrls(**json.loads(self._instance.read_text()))
            except FileNotFoundError:
                raise EmbeddedError(
                    f"another instance is just starting in {self.path}: try again in a moment"
                ) from None
        except PermissionError:
            raise EmbeddedError(
                f"the data folder {self.path} belongs to another account: use that account, or set OBSERVATORY_DATA_DIR"
            ) from None
        return None

    def socket_dir(self, account: Account) -> Path:
        """Return a folder of mode 0700 that belongs to the account and can hold a unix socket.

        :raises EmbeddedError: the fallback in the temporary folder belongs to somebody else.
        """
        preferred = self.path / "run"
        preferred.mkdir(exist_ok=True, mode=0o700)
        account.own(preferred)
        preferred.chmod(0o700)
        if _takes_sockets(preferred):
            return preferred
        # The path of a socket is limited to about 100 bytes, and some shared file systems do not support sockets.
        digest = hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        fallback = Path(tempfile.gettempdir()).resolve() / f"llm-observatory-{account.uid}-{digest}"
        fallback.mkdir(exist_ok=True, mode=0o700)
        found = fallback.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), account.uid):
            raise EmbeddedError(
                f"{fallback} belongs to somebody else: remove it, or set TMPDIR to a folder of your own"
            )
        account.own(fallback)
        fallback.chmod(0o700)
        if not _takes_sockets(fallback):
            raise EmbeddedError(
                f"no unix socket can be made in {fallback}: set TMPDIR to a local folder with a short path"
            )
        return fallback


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    partial.rename(path)


def _takes_sockets(folder: Path) -> bool:
    probe = folder / LONGEST_SOCKET_NAME.replace("PGSQL", "PROBE")
    probe.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.bind(str(probe))
        except OSError:
            return False
    probe.unlink()
    return True
