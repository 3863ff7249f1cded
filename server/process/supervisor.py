"""A supervisor that keeps N server processes alive behind one port, and ends them in good order.

Sanic does not replace a dead worker, and its manager kills everything if one cannot start. Here each process is a plain
child with a single server in it (:mod:`server.process.worker_process`): a dead one is replaced, with growing delays if
it keeps dying. :mod:`server.process.listener` keeps connections meanwhile,
:mod:`server.process.accept_gate` spreads them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from server.process.accept_gate import ConnectionTable
from server.process.companion import Companion
from server.process.metrics_page import metrics_page
from server.process.silence import Silence

logger = logging.getLogger("observatory.supervisor")

FIRST_DELAY_SECONDS = 0.1
# Short enough that senders that retry for half a minute find somebody, whatever is killed how often. The delay keeps a
# process that cannot start from taking the processor; it is no punishment.
LONGEST_DELAY_SECONDS = 5.0
# A process that has lived this long is healthy: its next death is replaced without delay.
HEALTHY_SECONDS = 30.0
# If no process has ever started, this many failures in a row end the program.
HOPELESS_FAILURES = 5
# Time that a worker may need beyond its drain before it is killed.
GRACE_SECONDS = 5.0
WATCH_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Slot:
    """A place for one server process, while processes come and go."""

    place: int
    process: subprocess.Popen[bytes] | None = None
    lifeline: socket.socket | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    silence: Silence | None = None
    """None: the process does not serve yet, or no more."""


class Supervisor:
    """Runs the server processes until it is told to stop."""

    def __init__(
        self,
        listener: socket.socket,
        processes: int,
        environ: Mapping[str, str],
        *,
        stop_seconds: float,
        on_ready: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
        watch: Callable[[], None] = lambda: None,
        metrics_address: tuple[str, int] | None = None,
        companions: Sequence[Companion] = (),
    ) -> None:
        """:param listener: the socket from which all server processes accept connections.
        :param processes: how many server processes to run.
        :param environ: environment of the server processes; it holds their settings.
        :param stop_seconds: how long a drain may take in all.
        :param on_ready: called once, when the first process serves.
        :param on_stop: called once, before the processes are told to drain.
        :param watch: called about once a second; an exception of it stops everything.
        :param metrics_address: host and port of a page with the metrics of all processes; None: they serve it.
        :param companions: processes to run beside the servers.
        """
        self._listener = listener
        self._slots = [Slot(place) for place in range(processes)]
        self._table, self._table_descriptor = ConnectionTable.create(processes)
        self._environ = dict(environ)
        self._stop_seconds = stop_seconds
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._watch = watch
        self._metrics_address = metrics_address
        self._companions = tuple(companions)
        self._was_ready = False
        self._is_misconfigured = False
        self._stop_requests = 0
        self._metrics_dir: Path | None = None

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or SIGHUP; return the exit code. Main thread only.

        0: drained. 1: ended at once by a second signal, or no process ever came up.
        """
        with _signals_as_bytes(self._note_stop) as wakeups, self._shared_metrics():
            try:
                return self._supervise(wakeups)
            finally:
                self._kill_all()

    def _supervise(self, wakeups: int) -> int:
        next_watch = time.monotonic() + WATCH_SECONDS
        while not self._stop_requests:
            now = time.monotonic()
            for slot in self._slots:
                self._tend(slot, now)
            for companion in self._companions:
                ended = companion.tend(self._environ, now)
                if ended is not None:
                    self._forget_metrics(ended)
            if self._is_misconfigured:
                return 1
            if not self._was_ready and any(slot.failures >= HOPELESS_FAILURES for slot in self._slots):
                logger.error("no server process starts; the reason is above")
                return 1
            if now >= next_watch:
                seconds = now - next_watch + WATCH_SECONDS
                next_watch = now + WATCH_SECONDS
                self._watch()
                self._end_frozen(seconds)
            self._wait(wakeups, next_watch)
        return self._drain(wakeups)

    def _tend(self, slot: Slot, now: float) -> None:
        """Start the slot's process, or note its death and when to replace it."""
        if slot.process is None:
            if now >= slot.restart_at:
                self._start(slot, now)
            return
        if slot.process.poll() is None:
            return
        status, pid = slot.process.returncode, slot.process.pid
        self._forget(slot)
        if status == os.EX_CONFIG:
            # It has reported the reason, and another one would fail in the same way.
            self._is_misconfigured = True
            return
        slot.failures = 1 if now - slot.started_at > HEALTHY_SECONDS else slot.failures + 1
        delay = min(FIRST_DELAY_SECONDS * 2 ** (slot.failures - 1), LONGEST_DELAY_SECONDS)
        slot.restart_at = now + delay
        logger.warning(
            "server process ended, another follows", extra={"pid": pid, "status": status, "delay_seconds": delay}
        )

    def _end_frozen(self, seconds: float) -> None:
        """Kill processes whose event loop has stopped, so that they are replaced and their connections closed.

        ``seconds`` have passed since the last watch.
        """
        for slot in self._slots:
            if slot.process is not None and slot.silence is not None and slot.silence.is_frozen(seconds):
                logger.error("server process does not answer and is killed", extra={"pid": slot.process.pid})
                slot.process.kill()
                slot.silence = None

    def _start(self, slot: Slot, now: float) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listener, lifeline, table = self._listener.fileno(), theirs.fileno(), self._table_descriptor
        with theirs:
            slot.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # a folder named server in the current directory is none of ours
                    "-m",
                    "server.process.worker_process",
                    *map(str, (listener, lifeline, slot.place, table)),
                ],
                env=self._environ,
                pass_fds=(listener, lifeline, table),
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal reaches only this process, which then drains the others.
                start_new_session=True,
            )
        slot.lifeline = ours
        slot.started_at = now
        slot.silence = None

    def _wait(self, wakeups: int, until: float) -> None:
        """Sleep until a signal, a byte from a worker, a restart that is due, or ``until``."""
        due = [slot.restart_at for slot in self._slots if slot.process is None]
        timeout = max(0.0, min([until, *due]) - time.monotonic())
        by_descriptor = {slot.lifeline.fileno(): slot for slot in self._slots if slot.lifeline is not None}
        readable, _, _ = select.select([wakeups, *by_descriptor], [], [], timeout)
        for descriptor in readable:
            if descriptor == wakeups:
                os.read(wakeups, 4096)
            else:
                self._hear(by_descriptor[descriptor])

    def _hear(self, slot: Slot) -> None:
        """Read the lifeline: the first byte means that the process serves, later ones that it still does; its end, that
        the process is ending (SIGCHLD follows).
        """
        if slot.lifeline is None:
            return
        if not slot.lifeline.recv(1024):
            slot.lifeline.close()
            slot.lifeline = None
            slot.silence = None
            return
        if slot.process is None:
            return
        if slot.silence is not None:
            slot.silence.end()
            return
        slot.silence = Silence(slot.process.pid)
        logger.info("server process serves", extra={"pid": slot.process.pid})
        if not self._was_ready:
            self._was_ready = True
            self._on_ready()

    def _drain(self, wakeups: int) -> int:
        """Let the processes finish; a second signal or the deadline cuts them off."""
        logger.info("stopping: running requests may finish")
        self._on_stop()
        # Once its last copy is closed, the port refuses at once instead of queueing for nobody.
        self._listener.close()
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        for companion in self._companions:
            companion.terminate()
        deadline = time.monotonic() + self._stop_seconds + GRACE_SECONDS
        while any(slot.process is not None and slot.process.poll() is None for slot in self._slots) or not all(
            companion.has_ended for companion in self._companions
        ):
            remaining = deadline - time.monotonic()
            if self._stop_requests > 1 or remaining <= 0:
                logger.warning("stopping at once: unfinished requests are cut off")
                return 1
            select.select([wakeups], [], [], min(remaining, WATCH_SECONDS))
            with contextlib.suppress(BlockingIOError):
                os.read(wakeups, 4096)
        return 0

    def _kill_all(self) -> None:
        self._listener.close()
        for slot in self._slots:
            if slot.process is not None:
                if slot.process.poll() is None:
                    slot.process.kill()
                    slot.process.wait()
                self._forget(slot)
        for companion in self._companions:
            companion.kill()
        os.close(self._table_descriptor)

    def _forget(self, slot: Slot) -> None:
        self._table.set_absent(slot.place)
        if slot.process is not None:
            self._forget_metrics(slot.process.pid)
        slot.process = None
        if slot.lifeline is not None:
            slot.lifeline.close()
            slot.lifeline = None

    def _forget_metrics(self, pid: int) -> None:
        if self._metrics_dir is not None:
            mark_process_dead(pid, str(self._metrics_dir))  # type: ignore[no-untyped-call]

    def _note_stop(self) -> None:
        self._stop_requests += 1

    @contextlib.contextmanager
    def _shared_metrics(self) -> Iterator[None]:
        """Provide a folder through which one page shows the metrics of all processes: of each of them, or ours."""
        if len(self._slots) + len(self._companions) == 1 and self._metrics_address is None:
            yield
            return
        with TemporaryDirectory(prefix="llm-observatory-metrics-") as folder:
            self._metrics_dir = Path(folder)
            self._environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            if self._metrics_address is None:
                yield
                return
            with metrics_page(self._metrics_address, folder):
                yield


@contextlib.contextmanager
def _signals_as_bytes(on_stop: Callable[[], None]) -> Iterator[int]:
    """Provide a file descriptor that becomes readable at each signal; stop signals also call ``on_stop``."""

    def stop(number: int, frame: FrameType | None) -> None:
        on_stop()

    def wake(number: int, frame: FrameType | None) -> None:
        """Do nothing: only the byte on the descriptor matters."""

    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, wake)
    previous_descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(previous_descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
