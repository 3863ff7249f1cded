"""Callers that are refused again and again hear it at a steady pace."""

from __future__ import annotations

import asyncio
from collections import Counter
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


async def test_those_beyond_the_longest_wait_do_not_end_it_together() -> None:
    """Two hundred connections beyond the pace once were answered at one moment, in one turn of the event loop."""
    paced, ended = Pace(5, 50, 0.5), Counter[int]()

    async def refuse() -> None:
        paced.count("rude")
        await paced.wait("rude")
        ended[int((monotonic() - began) / 0.05)] += 1

    began = monotonic()
    await asyncio.gather(*(refuse() for _ in range(230)))
    assert sum(count for place, count in ended.items() if place >= 5) >= 200, "they wait for half of the bound at least"
    assert max(ended.values()) <= 100
    assert monotonic() - began < 2
