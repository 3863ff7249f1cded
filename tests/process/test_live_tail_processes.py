"""The live tail of a server of two processes: streams of both see every span, and are told when it stops."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx

from tests.live.conftest import tail
from tests.process.conftest import Starter
from tests.rest.test_freshness_across_processes import export

STREAMS = 6
SPANS = 8


async def test_streams_of_two_processes_see_every_span_and_are_told_when_they_stop(
    start: Starter, project: Any, bearer: Any
) -> None:
    await project("alpha")
    headers = bearer("developer", ["alpha"])
    program = await asyncio.to_thread(start, "--workers", "2")
    async with AsyncExitStack() as open_streams:
        tails = []
        for _ in range(STREAMS):  # each on a connection of its own, which the processes share evenly
            http = await open_streams.enter_async_context(httpx.AsyncClient(base_url=program.base_url, timeout=30))
            tails.append(await open_streams.enter_async_context(tail(http, headers)))
        for number in range(SPANS):
            async with httpx.AsyncClient(base_url=program.base_url, timeout=30) as sender:
                body = export(f"{number + 1:032x}", f"{number + 1:016x}", time.time_ns() - 1_000_000_000)
                assert (await sender.post("/v1/traces", json=body, headers=headers)).status_code == 200
        for live in tails:
            await live.until(lambda live: len(live.spans) == SPANS)
            assert live.spans == tails[0].spans
        assert await asyncio.to_thread(program.stop) == 0
        for live in tails:
            await live.until(lambda live: live.is_over)
            assert live.events[-1].name == "goodbye"
            assert live.events[-1].data["reason"] == "draining"
