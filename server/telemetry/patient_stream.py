"""A stream for log lines that never makes its writers wait.

Standard error is often a pipe. If nobody reads it, a write waits forever once 64 KiB are in it, and with it the event
loop. Here a thread writes; lines that find no room in a bounded buffer are dropped and counted.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from typing import Final

from server.telemetry.observations import LogLinesLost, observe

MOST_CHARACTERS: Final = 4 * 1024 * 1024
"""Characters of lines that wait to be written."""
EXIT_SECONDS: Final = 1.0


class PatientStream:
    """The part of a text stream that log handlers use, over a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Start the thread that writes to ``descriptor``."""
        self._descriptor = descriptor
        self._waiting: list[str] = []
        self._size = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._written = threading.Event()
        self._written.set()
        threading.Thread(target=self._keep_writing, name="log lines", daemon=True).start()
        atexit.register(self._written.wait, EXIT_SECONDS)

    def write(self, text: str) -> None:
        """Put ``text``, whole lines, behind those that wait; drop it if there is no room."""
        with self._lock:
            has_room = self._size + len(text) <= MOST_CHARACTERS
            if has_room:
                self._waiting.append(text)
                self._size += len(text)
                self._written.clear()
            else:
                self._lost += text.count("\n")
            self._filled.set()
        if not has_room:
            observe(LogLinesLost(text.count("\n")))

    def flush(self) -> None:
        """Return at once: the thread writes as soon as it can."""

    def _keep_writing(self) -> None:
        while True:
            self._filled.wait()
            with self._lock:
                texts, self._waiting, lost, self._lost = self._waiting, [], self._lost, 0
                self._filled.clear()
            if lost:
                texts.append(json.dumps({"level": "WARNING", "message": "log lines lost", "count": lost}) + "\n")
            data = "".join(texts).encode("utf-8", "backslashreplace")
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                pass  # nobody will ever read it
            with self._lock:
                self._size = sum(map(len, self._waiting))
                if not self._waiting:
                    self._written.set()
