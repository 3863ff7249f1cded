"""The tenant next door: it asks and sends at a steady pace, and knows what it may be shown.

It runs in a process of its own, so that nothing that the hostile tenant does here delays it.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from tests.bench.http_load import LoadConnection
from tests.bench.ingest import Payloads
from tests.ingest.otlp_payloads import PROTOBUF

CANARY: Final = b"only-of-the-hostile"
"""Stands in what the hostile tenant stores, and in nothing that the neighbour may see."""
_SECONDS: Final = 30.0


@dataclass
class Felt:
    """The neighbour's figures since it was asked last."""

    asked: int = 0
    acknowledged: int = 0
    """Spans."""
    faults: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)


class NeighbourProcess:
    """The neighbour from outside. A context manager."""

    def __init__(self, base_url: str, credential: str) -> None:
        self._line, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_live, args=(base_url, credential, theirs), daemon=True)

    def __enter__(self) -> NeighbourProcess:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    async def felt(self, allowed: frozenset[int] = frozenset({200})) -> Felt:
        """Return the neighbour's figures since the last call; from now on, ``allowed`` answers are not faults."""
        self._line.send(allowed)
        found: Felt = await asyncio.to_thread(self._line.recv)
        return found


def _live(base_url: str, credential: str, line: Connection) -> None:
    asyncio.run(Neighbour(base_url, credential, line).live())


class Neighbour:
    """A client that asks all the time, and notes each failure with its request."""

    def __init__(self, base_url: str, credential: str, line: Connection) -> None:
        self._base_url, self._line = base_url, line
        self._headers = {"Authorization": credential, "Content-Type": PROTOBUF}
        self._numbers = itertools.count()
        self._payloads = Payloads(3, words=30)
        self._allowed: frozenset[int] = frozenset({200})
        self._felt = Felt()

    def _tell(self) -> None:
        self._allowed = self._line.recv()
        self._line.send(self._felt)
        self._felt = Felt()

    def _question(self) -> str:
        number = next(self._numbers)
        questions = (
            f"/api/v1/traces?from=now-1h&limit={1 + number % 30}",
            f"/api/v1/traces?from=now-1h&search=word{number}",
            f"/api/v1/metrics?metric=calls,cost&from=now-{1 + number % 5}h&group_by=model",
            f"/api/v1/facets/model?from=now-{1 + number % 5}h",
            "/prometheus/api/v1/query?query=sum(llm_calls_total)",
        )
        return questions[number % len(questions)]

    async def live(self) -> None:
        """Ask, send and look whether the server lives, until ended."""
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._tell)

        async def read(connection: LoadConnection) -> tuple[int, str]:
            question = self._question()
            status, body = await connection.get(question)
            if CANARY in body:
                self._felt.faults.append(f"{question} showed what belongs to the other tenant")
            return status, question

        async def look(connection: LoadConnection) -> tuple[int, str]:
            return (await connection.get("/live"))[0], "/live"

        async def send(connection: LoadConnection) -> tuple[int, str]:
            status = await connection.post("/v1/traces", self._payloads.batch())
            self._felt.acknowledged += 100 * (status == 200)
            return status, "/v1/traces"

        async with asyncio.TaskGroup() as group:
            group.create_task(self._steadily("reads", 8, read))
            group.create_task(self._steadily("ingest", 1, send))
            group.create_task(self._steadily("/live", 10, look))

    async def _steadily(
        self, name: str, a_second: float, act: Callable[[LoadConnection], Awaitable[tuple[int, str]]]
    ) -> None:
        while True:
            try:
                async with LoadConnection(self._base_url, self._headers) as connection:
                    for _ in range(20):  # then a new connection
                        began = time.monotonic()
                        async with asyncio.timeout(_SECONDS):
                            status, what = await act(connection)
                        took = time.monotonic() - began
                        self._felt.asked += 1
                        slowest = self._felt.slowest
                        slowest[name] = max(took, slowest.get(name, 0.0))
                        if status not in self._allowed:
                            self._felt.faults.append(f"{status} for {what}")
                        await asyncio.sleep(max(0.0, 1 / a_second - took))
            except (OSError, EOFError, TimeoutError) as error:
                self._felt.faults.append(f"{name}: {type(error).__name__}")
                await asyncio.sleep(0.2)
