"""Other stores of traces, which take the same requests in the same run: a binary is given, nothing is downloaded."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.agents.store import Store, with_descendants
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program

MERGE_SECONDS = 600.0


class VictoriaTraces(Store):
    """VictoriaTraces, one node, in a folder of its own; all tenants share it.

    It answers a request when the spans are in memory, and writes them to files some seconds later: a loss of power
    takes what was acknowledged since.
    """

    traces_path = "/insert/opentelemetry/v1/traces"
    jaeger_path = "/select/jaeger"

    def __init__(self, binary: Path, folder: Path) -> None:
        super().__init__("VictoriaTraces")
        self._binary, self._folder = binary.resolve(), folder
        self._data = folder / "victoria-traces"
        self._pid = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Run it."""
        port = free_port()
        arguments = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={self._data}"]
        with Program(self._folder, arguments, {}, command=[self._binary]) as it:
            it.wait_for("started server at")
            self.base_url, self._pid = f"http://127.0.0.1:{port}", it.process.pid
            yield

    def headers(self, tenant: str, content_type: str = PROTOBUF) -> dict[str, str]:
        """Return the headers of a caller."""
        return {"Content-Type": content_type}

    def processes(self) -> set[int]:
        """Return its process."""
        return with_descendants(self._pid)

    async def settle(self, spans: int) -> None:
        """Note the bytes in its files, after what is in memory was written and files were merged into one.

        ``spans``: how many it was sent.
        """
        self.spans = spans
        async with httpx.AsyncClient(base_url=self.base_url, timeout=60) as http:
            for step in ("force_flush", "force_merge"):
                (await http.get(f"/internal/{step}")).raise_for_status()
            await self._wait_until_merged(http)
        self.figures = {
            **self.ingest_figures(),
            "bytes on disk a byte": folder_bytes(self._data) / self.received,
        }

    async def _wait_until_merged(self, http: httpx.AsyncClient) -> None:
        deadline, size = time.monotonic() + MERGE_SECONDS, -1
        while True:
            await asyncio.sleep(2)
            merging = re.search(r"^vt_active_force_merges (\d+)", (await http.get("/metrics")).text, re.M)
            if merging is None:
                raise RuntimeError(f"{self.name} does not tell whether it merges")
            before, size = size, folder_bytes(self._data)
            if merging[1] == "0" and size == before:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} still merges")


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below ``folder``."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # merged meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total
