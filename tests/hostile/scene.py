"""A server, its stores, the hostile tenant and its neighbour; and what is looked at after each wave."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.load import PROJECT as HOSTILE
from tests.bench.load import load
from tests.bench.server_process import serve_environment
from tests.bench.soak import resident_megabytes
from tests.hostile.hostile import Hostile
from tests.hostile.neighbour import CANARY, NeighbourProcess
from tests.hostile.waves import WAVES
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.program import Program
from tests.storage.faulty_path import FaultyPath

NEIGHBOUR: Final = "neighbour"
QUIET_SECONDS: Final = 15.0
"""So long a server may take to get quiet after a wave."""
MORE_DESCRIPTORS: Final = 12
"""Of pools and caches that are still warming up."""


def bearer(urls: EmbeddedUrls, role: Role, project: str) -> str:
    """Return a credential of one project."""
    return f"Bearer {issue_token(Settings(jwt_secret=urls.jwt_secret), role=role, projects=[project], ttl=7200)}"


def descriptors(pid: int) -> int:
    """Return the number of files and sockets that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def attack_in_waves(folder: Path, waves: Sequence[str], arguments: argparse.Namespace) -> list[str]:
    """Run the waves twice; give what did not hold."""
    with EmbeddedServices(folder / "data") as urls:
        await prepare(urls, arguments.spans)
        path = FaultyPath(arguments.seed)
        async with path.before(urls.redis_url) as redis_url:
            environment = serve_environment(urls, REDIS_URL=redis_url, OBSERVATORY_EXPORT_FOLDER=str(folder / "files"))
            program = await asyncio.to_thread(Program, folder, ["serve", "--workers", "1"], environment)
            try:
                base_url = await asyncio.to_thread(program.wait_until_serving)
                hostile = Hostile(base_url, bearer(urls, Role.ADMIN, HOSTILE), arguments.seed, path, urls.redis_url)
                await leave_canary(hostile)
                with NeighbourProcess(base_url, bearer(urls, Role.DEVELOPER, NEIGHBOUR)) as neighbour:
                    return await Watch(program, hostile, neighbour, arguments).over(waves)
            finally:
                await asyncio.to_thread(program.__exit__, None, None, None)


async def prepare(urls: EmbeddedUrls, spans: int) -> None:
    """Make the projects; the hostile one has spans of thirty days."""
    await migrate(urls.owner_url)
    await load(urls.owner_url, spans)
    owner = await asyncpg.connect(urls.owner_url)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", NEIGHBOUR)
    await owner.close()


async def leave_canary(hostile: Hostile) -> None:
    """Store what nobody else may see."""
    import httpx

    body = export_request(5, attributes={"gen_ai.request.model": CANARY.decode()}).SerializeToString()
    async with httpx.AsyncClient(base_url=hostile.base_url, headers=hostile.headers) as client:
        await hostile.ask(client, "POST", "/v1/traces", content=body, headers={"Content-Type": PROTOBUF})


class Watch:
    """Looks at the server while waves run."""

    def __init__(
        self, program: Program, hostile: Hostile, neighbour: NeighbourProcess, arguments: argparse.Namespace
    ) -> None:
        self._program, self._hostile, self._neighbour = program, hostile, neighbour
        self._seconds, self._growth, self._once = arguments.seconds, arguments.growth, arguments.once
        self._faults: list[str] = []
        (self._pid,) = program.worker_pids()

    async def over(self, waves: Sequence[str]) -> list[str]:
        """Run ``waves`` twice; give what did not hold."""
        await asyncio.sleep(3)
        rest, held = descriptors(self._pid), []
        await self._neighbour.felt()
        for _ in range(1 if self._once else 2):
            for name in waves:
                await self._wave(name, rest)
            held.append(resident_megabytes(self._pid))
        if held[-1] > held[0] + self._growth:
            self._faults.append(f"memory grew from {held[0]:.0f} to {held[-1]:.0f} MB the second time")
        return self._faults

    async def _wave(self, name: str, rest: int) -> None:
        hostile, began = self._hostile, time.monotonic()
        hostile.seen.statuses.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await WAVES[name](hostile)
        lasted = time.monotonic() - began
        await self._is_still_there(name)
        await self._gets_quiet(name, rest)
        felt = await self._neighbour.felt()
        for whose, faults in (("", hostile.seen.faults), ("the neighbour: ", felt.faults)):
            self._faults += [f"{name}: {whose}{fault}" for fault in faults]
        hostile.seen.faults.clear()
        statuses = ", ".join(f"{count} × {status}" for status, count in hostile.seen.statuses.most_common())
        slowest = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in felt.slowest.items())
        print(f"  {name:14} {lasted:5.1f} s, {resident_megabytes(self._pid):6.1f} MB; "
              f"{statuses}; the neighbour's {felt.asked} requests, slowest: {slowest}", flush=True)  # fmt: skip

    async def _is_still_there(self, name: str) -> None:
        deadline = time.monotonic() + QUIET_SECONDS
        while not (pids := self._program.worker_pids()) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        if pids != [self._pid]:
            warnings = [line for line in self._program.output.splitlines() if '"INFO"' not in line][-5:]
            self._faults.append(f"{name}: the server process was replaced: {warnings}")
            self._pid = pids[0]

    async def _gets_quiet(self, name: str, rest: int) -> None:
        deadline = time.monotonic() + QUIET_SECONDS
        while (number := descriptors(self._pid)) > rest + MORE_DESCRIPTORS:
            if time.monotonic() > deadline:
                self._faults.append(f"{name}: {number} descriptors are open after it, {rest} before")
                return
            await asyncio.sleep(0.25)
