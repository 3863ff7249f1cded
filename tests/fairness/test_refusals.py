"""Callers that are refused again and again hear it at a steady pace."""

from __future__ import annotations

import asyncio
from time import monotonic

from server.fairness.pace import Pace


async def test_refusals_come_at_a_steady_pace_for_each_caller() -> None:
    paced = Pace(5, 50)

    async def refuse(caller: str) -> None:
        paced.count(caller)
        await paced.wait(caller)

    for _ in range(5):
        await refuse("rude")
    began = monotonic()
    await asyncio.gather(*(refuse("rude") for _ in range(20)))
    assert monotonic() - began >= 0.35  # twenty at fifty a second
    began = monotonic()
    polite = asyncio.create_task(refuse("polite"))
    await asyncio.sleep(0)
    assert polite.done(), "another caller does not wait"
