"""Server processes in two network namespaces, one of which is cut off from PostgreSQL and Redis for a while."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.http_load import LoadConnection
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.ledger import SPANS, Ledger, compare
from tests.process.network_namespaces import Door, Namespace
from tests.process.program import PROGRAM, Program

pytestmark = pytest.mark.skipif("TEST_PARTITION" not in os.environ, reason="make test-partition")

PROCESSES = int(os.environ.get("PARTITION_PROCESSES", "4"))
"""Of each namespace."""
CUT_SECONDS = float(os.environ.get("PARTITION_SECONDS", "15"))
PER_MINUTE, BURST = 120, 144
REVOKED_SECONDS = 5.0
"""Two until the next look at the revocations, and three for a connection to the database."""
ANSWER_SECONDS = 20.0
PROJECT = "north"


@dataclass(frozen=True)
class Site:
    """Servers of one namespace."""

    namespace: Namespace
    url: str


@dataclass(frozen=True)
class Answer:
    """The answer that a caller of a site received, and when it asked and received it."""

    site: Site
    status: int
    asked: float
    heard: float


class Callers:
    """Callers of both sites, until they are stopped."""

    def __init__(self, sites: list[Site]) -> None:
        self._sites = sites
        self._tasks: list[asyncio.Task[None]] = []
        self.ledger = Ledger()

    def read(self, key: str) -> list[Answer]:
        """Ask for lists with ``key``, at both sites; what was heard is in the list that is returned."""
        heard: list[Answer] = []
        for site in self._sites:
            self._tasks.append(asyncio.create_task(self._read(site, key, heard)))
        return heard

    def send(self, headers: dict[str, str]) -> list[Answer]:
        """Store batches, each again until it is acknowledged."""
        heard: list[Answer] = []
        for site in self._sites:
            self._tasks.append(asyncio.create_task(self._send(site, {**headers, "Content-Type": PROTOBUF}, heard)))
        return heard

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    async def _read(self, site: Site, key: str, heard: list[Answer]) -> None:
        number = 0
        while True:
            number += 1
            path = f"/api/v1/traces?limit={number % 90 + 5}"
            await _exchange(site, {"Authorization": f"Bearer {key}"}, path, None, heard)
            await asyncio.sleep(0.005)

    async def _send(self, site: Site, headers: dict[str, str], heard: list[Answer]) -> None:
        while True:
            request = export_request(SPANS)
            trace_id = request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
            self.ledger.sent[trace_id] = PROJECT
            while await _exchange(site, headers, "/v1/traces", request.SerializeToString(), heard) != 200:
                await asyncio.sleep(0.1)
            self.ledger.acknowledged.add(trace_id)
            await asyncio.sleep(0.1)


async def _exchange(site: Site, headers: dict[str, str], path: str, body: bytes | None, heard: list[Answer]) -> int:
    asked = time.monotonic()
    async with asyncio.timeout(60), LoadConnection(site.url, headers) as connection:
        status = (await connection.get(path))[0] if body is None else await connection.post(path, body)
    heard.append(Answer(site, status, asked, time.monotonic()))
    return status


@asynccontextmanager
async def two_sites(folder: Path, settings: dict[str, str]) -> AsyncIterator[list[Site]]:
    """Start servers in two namespaces, which reach the services of this run over their own back links."""
    async with AsyncExitStack() as stack:
        doors = {name: Door(settings[name]) for name in ("DATABASE_URL", "REDIS_URL")}
        for door in doors.values():
            await stack.enter_async_context(door)
        started = []
        for number in (1, 2):
            namespace = stack.enter_context(Namespace(number))
            ports = {name: await door.open(namespace.services) for name, door in doors.items()}

            def database(name: str, at: str = f"{namespace.services}:{ports['DATABASE_URL']}") -> str:
                login, _, rest = settings[name].partition("@")
                return f"{login}@{at}{rest.partition('?')[0]}"

            there = {
                **settings,
                **{name: database(name) for name in settings if name.startswith("DATABASE_") and name.endswith("URL")},
                "REDIS_URL": f"redis://{namespace.services}:{ports['REDIS_URL']}/"
                + settings["REDIS_URL"].rpartition("db=")[2],
                "RATE_LIMIT_INSTANCES": str(2 * PROCESSES),
                "OBSERVATORY_HOST": "0.0.0.0",  # of a namespace that only this machine reaches
            }
            command: list[str | Path] = [*namespace.command, PROGRAM]
            program = Program(folder, ["serve", "--workers", str(PROCESSES)], there, command=command)
            started.append((namespace, stack.enter_context(program)))
        sites = []
        for namespace, program in started:
            told = await asyncio.to_thread(program.wait_until_serving)
            sites.append(Site(namespace, f"http://{namespace.servers}:{told.rpartition(':')[2].split('/')[0]}"))
        yield sites


async def test_processes_that_are_cut_off_break_no_promise(
    tmp_path: Path, serve_settings: dict[str, str], project: Any, bearer: Any
) -> None:
    await project(PROJECT)
    async with two_sites(tmp_path, serve_settings) as (near, far):
        async with httpx.AsyncClient(base_url=near.url, headers=bearer("admin"), timeout=60) as admin:

            async def key(**limit: int) -> tuple[str, str]:
                body = {"kind": "dashboard", "projects": [PROJECT], "label": "reader", **limit}
                made = (await admin.post("/api/v1/keys", json=body)).json()["data"]
                return made["key_id"], made["key"]

            _, counted = await key(rate_limit_per_minute=PER_MINUTE)
            revoked_id, revoked = await key()
            callers = Callers([near, far])
            begun = time.monotonic()
            limited, withdrawn = callers.read(counted), callers.read(revoked)
            sent = callers.send(bearer("developer", [PROJECT]))
            await asyncio.sleep(5)
            far.namespace.cut()
            cut = time.monotonic()
            await asyncio.sleep(CUT_SECONDS / 2)
            assert (await admin.delete(f"/api/v1/keys/{revoked_id}")).status_code == 200
            was_revoked = time.monotonic()
            await asyncio.sleep(CUT_SECONDS / 2)
            far.namespace.mend()
            mended = time.monotonic()
            await asyncio.sleep(REVOKED_SECONDS + 5)
            await callers.stop()
            passed = time.monotonic() - begun
        await asyncio.sleep(2)
        await compare(serve_settings["DATABASE_OWNER_URL"], callers.ledger)

    def last_good(site: Site) -> float:
        return max(answer.asked for answer in withdrawn if answer.site is site and answer.status == 200)

    # Callers whose key cannot be looked up, because the database is away, get 503 before any limit counts them.
    let_through = sum(answer.status == 200 for answer in limited)
    statuses = Counter((answer.status, "cut" if answer.site is far else "whole") for answer in limited)
    revoked_near, revoked_far = last_good(near) - was_revoked, last_good(far) - mended
    back = min(a.heard for a in sent if a.site is far and a.status == 200 and a.heard > mended) - mended
    longest = [max(a.heard - a.asked for a in sent + limited if a.site is site) for site in (near, far)]
    print(
        f"{passed:.1f} s, {len(callers.ledger.acknowledged)} batches, {let_through} let through; longest answer "
        f"{longest[0]:.1f} s, {longest[1]:.1f} s where it was cut; a revoked key refused after {revoked_near:.1f} s, "
        f"there {revoked_far:.1f} s after the cut; stored again {back:.1f} s after the cut; {dict(statuses)}"
    )
    assert {answer.status for answer in sent if answer.site is near} == {200}, "the other site's cut is felt here"
    assert {answer.status for answer in limited if answer.site is near} == {200, 429}
    assert {answer.status for answer in sent if answer.site is far} <= {200, 429, 503, 504}
    assert {status for status, _ in statuses} <= {200, 429, 503, 504}
    assert all(answer.heard - answer.asked < ANSWER_SECONDS for answer in sent + limited + withdrawn)
    assert revoked_near < REVOKED_SECONDS
    assert revoked_far < REVOKED_SECONDS
    # One that is asked shortly before the end of the cut may wait for it.
    assert not any(a.status == 200 for a in withdrawn if a.site is far and cut + 1 < a.asked and a.heard < mended)
    whole = BURST + PER_MINUTE / 60 * passed
    assert let_through <= whole + whole / 2, "more than Redis's bucket and the buckets of half of the processes"
