"""The private PostgreSQL: created once, started and stopped with the program."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from server.embedded.account import Account
from server.embedded.data_dir import LONGEST_SOCKET_NAME, DataDir
from server.embedded.errors import EmbeddedError
from server.embedded.service_process import ServiceProcess, clean_environment

MAJOR_VERSION = "18"
DATABASE = "observatory"
SUPERUSER = "postgres"
LOGIN_ROLES = Path(__file__).resolve().parent.parent / "schema" / "embedded_roles.sql"

# Settings of the running server. Durability (fsync, synchronous_commit, full_page_writes) is left on.
SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    # Statements are short and touch many partitions: compilation costs more than it saves.
    "jit": "off",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Parameters are prompts and keys: they never reach a log.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
}

# PostgreSQL keeps parallel queries' shared memory here; containers often give it only 64 MB.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only asked how large it is
SHARED_MEMORY_NEEDED = 256 * 1024 * 1024

FAST_SHUTDOWN = (signal.SIGINT, 60.0)
IMMEDIATE_SHUTDOWN = (signal.SIGQUIT, 15.0)
ANNOUNCE_EVERY_SECONDS = 10.0


class EmbeddedPostgres:
    """One cluster in a locked data folder; reachable over a unix socket by this user only."""

    def __init__(
        self,
        program: Path,
        data_dir: DataDir,
        account: Account,
        *,
        settings: Mapping[str, str],
        announce: Callable[[str], None],
    ) -> None:
        self._bin = program.parent
        self._data_dir = data_dir
        self._cluster = data_dir.cluster
        self._account = account
        self._settings = {**SETTINGS, **settings}
        self._announce = announce
        self._socket_dir = data_dir.socket_dir(account)
        self._process: ServiceProcess | None = None

    def url(self, role: str, database: str = DATABASE) -> str:
        """Return the address for one role; asyncpg and ``databases`` understand it."""
        return f"postgresql://{role}@/{database}?host={quote(str(self._socket_dir), safe='')}&port=5432"

    def start(self) -> None:
        """Create the cluster if there is none, start it, wait until it answers, create the login roles.

        :raises EmbeddedError: it cannot run; the message says what to do.
        """
        self._make_cluster()
        self._end_leftover()
        self._write_access_rules()
        options = dict(self._settings)
        options["unix_socket_directories"] = str(self._socket_dir)
        options["hba_file"] = str(self._cluster / "observatory_hba.conf")
        options["ident_file"] = str(self._cluster / "observatory_ident.conf")
        if _shared_memory_is_small():
            options["dynamic_shared_memory_type"] = "mmap"
        self._process = ServiceProcess(
            "PostgreSQL",
            [
                self._bin / "postgres",
                "-D",
                self._cluster,
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            account=self._account,
            log=self._data_dir.log_dir / "postgres.log",
            cwd=self._cluster,
            stop_signals=(FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN),
        )
        self._wait_until_ready(self._process)
        self._make_login_roles()

    def stop(self) -> None:
        """Shut down fast: running statements are cancelled, committed data is on disk."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def exited(self) -> bool:
        """Return whether the server has ended by itself."""
        return self._process is not None and self._process.exited()

    def _make_cluster(self) -> None:
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            version = version_file.read_text().strip()
            if version != MAJOR_VERSION:
                raise EmbeddedError(
                    f"{self._cluster} was made by PostgreSQL {version}, this is {MAJOR_VERSION}: dump it with the old "
                    "version and restore it, or set OBSERVATORY_DATA_DIR to a new folder"
                )
            return
        if self._cluster.exists():
            raise EmbeddedError(f"{self._cluster} exists but is not a PostgreSQL cluster: move it away and start again")
        # Created aside and renamed, so that the half-made cluster of an interrupted start is never taken for a whole
        # one.
        unfinished = self._cluster.with_name("postgres.unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._account.own(unfinished)
        self._announce(f"creating a private PostgreSQL {MAJOR_VERSION} in {self._data_dir.path}")
        self._run(
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            # The same order and case rules on every machine, whatever its C library.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth-local=peer",
            "--auth-host=reject",
            "--data-checksums",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        )
        unfinished.rename(self._cluster)

    def _end_leftover(self) -> None:
        """Clear the remains of a killed instance. The folder is locked, so nobody uses its server any more."""
        self._end_orphans()
        pid_file = self._cluster / "postmaster.pid"
        socket_lock = self._socket_dir / LONGEST_SOCKET_NAME
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            pid_file.unlink(missing_ok=True)
            socket_lock.unlink(missing_ok=True)
            return
        deadline = time.monotonic() + FAST_SHUTDOWN[1]
        asked = False
        while str(self._cluster) in _command_line(pid):
            if not asked:
                self._announce(f"stopping the PostgreSQL (process {pid}) that an earlier run left behind")
                os.kill(pid, signal.SIGINT)
                asked = True
            if time.monotonic() > deadline:
                raise EmbeddedError(f"the PostgreSQL of an earlier run (process {pid}) does not stop: end it by hand")
            time.sleep(0.05)
        # The process id may belong to an unrelated program by now, and PostgreSQL would refuse to start because of it.
        pid_file.unlink(missing_ok=True)
        socket_lock.unlink(missing_ok=True)

    def _end_orphans(self) -> None:
        """End connections whose server was killed: a busy one notices late, and no PostgreSQL starts beside it."""
        deadline = time.monotonic() + FAST_SHUTDOWN[1]
        while orphans := _orphans_in(self._cluster):
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
            if time.monotonic() > deadline:
                raise EmbeddedError(f"processes {orphans} of an earlier PostgreSQL do not end: end them by hand")
            time.sleep(0.05)

    def _write_access_rules(self) -> None:
        """Let only the user who started us (and the server's account) connect, identified by the socket's peer."""
        names = sorted({self._account.name, _current_user()})
        for name, text in (
            (
                "observatory_hba.conf",
                "".join(f"local {what} all peer map=observatory\n" for what in ("all", "replication")),
            ),
            ("observatory_ident.conf", "".join(f'observatory "{user}" all\n' for user in names)),
        ):
            path = self._cluster / name
            path.write_text(text)
            path.chmod(0o600)
            self._account.own(path)

    def _wait_until_ready(self, process: ServiceProcess) -> None:
        """Wait as long as the server lives: recovery after a crash takes the time it takes."""
        pid_file = self._cluster / "postmaster.pid"
        started = time.monotonic()
        next_news = started + ANNOUNCE_EVERY_SECONDS
        while True:
            if process.exited():
                log = process.recent_log()
                process.stop()
                self._process = None
                raise EmbeddedError(f"PostgreSQL did not start; {process.log} says:\n{log}")
            try:
                lines = pid_file.read_text().splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                return
            if time.monotonic() > next_news:
                next_news += ANNOUNCE_EVERY_SECONDS
                self._announce(
                    f"PostgreSQL is recovering ({time.monotonic() - started:.0f} s so far); its log is {process.log}"
                )
            time.sleep(0.02)

    def _make_login_roles(self) -> None:
        self._run(
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--host={self._socket_dir}",
            f"--username={SUPERUSER}",
            "--dbname=postgres",
            f"--file={LOGIN_ROLES}",
            as_account=False,
        )

    def _run(self, program: str, *arguments: str, as_account: bool = True) -> None:
        account = self._account if as_account else replace(self._account, switch=False)
        try:
            subprocess.run(
                [self._bin / program, *arguments],
                check=True,
                capture_output=True,
                cwd="/",
                env=clean_environment(Path("/")),
                start_new_session=True,
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
            )
        except (OSError, subprocess.SubprocessError) as failure:
            output = getattr(failure, "stderr", None) or b""
            raise EmbeddedError(f"{program} failed: {output.decode(errors='replace').strip() or failure}") from failure


def _current_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _command_line(pid: int) -> str:
    """Return the command line of a process, '' if there is none; needs no library."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _orphans_in(cluster: Path) -> list[int]:
    """Return the processes of a server on ``cluster`` that have outlived it: they work in its folder, and init is their
    parent.

    Works on Linux only; elsewhere PostgreSQL itself reports that they have to end.
    """
    found = []
    folder = str(cluster.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                os.readlink(process / "cwd") == folder
                and (process / "cmdline").read_bytes().startswith(b"postgres: ")
                and not _is_postgres(int((process / "stat").read_text().rpartition(")")[2].split()[1]))
            ):
                found.append(int(process.name))
    return found


def _is_postgres(pid: int) -> bool:
    return Path(_command_line(pid).partition(" ")[0]).name == "postgres"


def _shared_memory_is_small() -> bool:
    if not SHARED_MEMORY.exists():
        return False
    space = os.statvfs(SHARED_MEMORY)
    return space.f_bavail * space.f_frsize < SHARED_MEMORY_NEEDED
