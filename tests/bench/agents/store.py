"""A store under measurement: the requests and questions that it takes, and their times."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.bench.http_load import LoadConnection
from tests.ingest.otlp_payloads import PROTOBUF

TICKS = 100
"""Units, in a second, in which the kernel tells the processor time of children."""


class Question(NamedTuple):
    """One read."""

    label: str
    tenant: str
    path: str
    must_find: bool = False
    """An empty answer would be a fast one that says nothing."""


class Store(ABC):
    """One store: where it takes spans, its processes, and what was measured."""

    traces_path = "/v1/traces"
    jaeger_path = "/jaeger"

    def __init__(self, name: str) -> None:
        self.name = name
        self.base_url = ""
        self.received = self.spans = 0
        self.seconds = self.processor_seconds = 0.0
        self.commits: list[float] = []
        self.reads: dict[str, list[tuple[float, float]]] = {}
        """Seconds that passed, and those of processors, by label."""
        self.figures: dict[str, float] = {}

    @abstractmethod
    def headers(self, tenant: str, content_type: str = PROTOBUF) -> dict[str, str]:
        """Return the headers of a caller of ``tenant``."""

    @abstractmethod
    def processes(self) -> set[int]:
        """Return the processes that take part in storing; those that they have waited for count with them."""

    async def send(self, requests: list[tuple[str, bytes]], clients: int) -> None:
        """Send ``requests``, pairs of a tenant and a body, and count the time until the last is answered."""
        waiting = list(reversed(requests))

        async def client() -> None:
            connections: dict[str, LoadConnection] = {}
            async with contextlib.AsyncExitStack() as stack:
                while waiting:
                    tenant, body = waiting.pop()
                    if tenant not in connections:
                        connection = LoadConnection(self.base_url, self.headers(tenant))
                        connections[tenant] = await stack.enter_async_context(connection)
                    started = time.perf_counter()
                    while (status := await connections[tenant].post(self.traces_path, body)) in (429, 503):
                        await asyncio.sleep(0.5)  # as exporters do
                    self.commits.append(time.perf_counter() - started)
                    if status != 200:
                        raise RuntimeError(f"{self.name}: the server answered {status}")

        started, processor = time.perf_counter(), processor_seconds(self.processes())
        await asyncio.gather(*(client() for _ in range(clients)))
        self.seconds += time.perf_counter() - started
        self.processor_seconds += processor_seconds(self.processes()) - processor
        self.received += sum(len(body) for _, body in requests)

    def ingest_figures(self) -> dict[str, float]:
        """Return the figures of what was sent."""
        return {
            "spans/s": self.spans / self.seconds,
            "MB/s": self.received / self.seconds / 1e6,
            "processor time, µs a span": 1e6 * self.processor_seconds / self.spans,
            "request p50, ms": 1000 * quantile(self.commits, 0.5),
            "request p99, ms": 1000 * quantile(self.commits, 0.99),
        }

    async def read(self, questions: list[Question]) -> None:
        """Ask ``questions``, one after the other."""
        for question in questions:
            headers = self.headers(question.tenant, "application/json")
            async with LoadConnection(self.base_url, headers) as connection:
                processor, started = processor_seconds(self.processes()), time.perf_counter()
                status, body = await connection.get(question.path)
                passed = time.perf_counter() - started
                processor = processor_seconds(self.processes()) - processor
                self.reads.setdefault(question.label, []).append((passed, processor))
                if status != 200:
                    raise RuntimeError(f"{self.name}: {question.path}: {status} {body[:200]!r}")
                if question.must_find and not orjson.loads(body)["data"]:
                    raise RuntimeError(f"{self.name}: {question.path}: nothing found")

    def report(self) -> dict[str, float]:
        """Return all figures by name."""
        reads = {}
        for label, found in self.reads.items():
            seconds, processor = zip(*found, strict=True)
            reads[f"{label}: p50, ms"] = 1000 * statistics.median(seconds)
            reads[f"{label}: p99, ms"] = 1000 * quantile(seconds, 0.99)
            reads[f"{label}: processor time, ms"] = 1000 * statistics.median(processor)
        return {**self.figures, **reads}


def quantile(seconds: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of ``seconds`` lie."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def with_descendants(pid: int) -> set[int]:
    """Return a process and all below it that are there; any may end meanwhile, as backends of a database do."""
    found = {pid}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found |= with_descendants(int(child))
    return found


def processor_seconds(pids: set[int]) -> float:
    """Return the processor time of the threads of these processes, and of their ended children."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += sum(map(int, ended)) / TICKS
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return total


def parent_of(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
