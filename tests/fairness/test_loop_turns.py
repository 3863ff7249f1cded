"""Turns of the event loop: who goes first, what is left to the others, and the pace of refusals."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic, perf_counter

import pytest

from server.fairness import refusals
from server.fairness.loop_turns import LoopTurns
from server.fairness.party import SERVER, Party, current_party
from server.fairness.refusals import Refusals

STEP_SECONDS = 0.002
BUSY_TASKS = 40


def step(seconds: float = STEP_SECONDS) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def as_party(who: Party, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    context = contextvars.copy_context()
    context.run(current_party.set, who)

    async def run() -> None:
        await work()

    return asyncio.get_running_loop().create_task(run(), context=context)


class Busy:
    """Tenants that fill the loop with steps, and how many they have made."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, tenant: str, tasks: int = BUSY_TASKS) -> None:
        self.steps[tenant] = 0

        async def fill() -> None:
            while True:
                step()
                self.steps[tenant] += 1
                await asyncio.sleep(0)

        self._tasks += [as_party(Party(tenant, str(number)), fill) for number in range(tasks)]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    LoopTurns(asyncio.get_running_loop()).start()
    found = Busy()
    yield found
    await found.end()


async def rounds(count: int = 20) -> None:
    for _ in range(count):
        step(0.0001)
        await asyncio.sleep(0)


@pytest.mark.parametrize("who", [Party("calm", "one"), SERVER], ids=["tenant", "server"])
async def test_a_tenant_with_many_steps_lets_others_go_first(busy: Busy, who: Party) -> None:
    busy.begin("busy")
    await as_party(Party("calm", "one"), rounds)
    await asyncio.sleep(0.3)  # it is noticed
    before = busy.steps["busy"]
    await as_party(who, rounds)
    # Without turns, all forty steps run between two of ours.
    assert busy.steps["busy"] - before <= 60


async def test_what_others_leave_is_used(busy: Busy) -> None:
    busy.begin("busy")
    await as_party(Party("calm", "one"), rounds)
    before = busy.steps["busy"]
    await asyncio.sleep(0.5)
    assert busy.steps["busy"] - before > 10


async def test_the_heavier_of_two_gets_what_the_lighter_leaves(busy: Busy) -> None:
    busy.begin("many", 40)
    busy.begin("few", 2)
    await asyncio.sleep(0.3)
    before = dict(busy.steps)
    async with asyncio.timeout(60):  # on a busy machine, steps take longer than they should
        while sum(busy.steps.values()) - sum(before.values()) < 300:
            await asyncio.sleep(0.1)
    many, few = (busy.steps[name] - before[name] for name in ("many", "few"))
    assert 0.25 < few / many < 4  # two tasks against forty have about half


async def test_a_task_ends_though_its_step_is_put_aside(busy: Busy) -> None:
    busy.begin("busy", 200)
    await as_party(Party("calm", "one"), rounds)
    await asyncio.sleep(0.3)
    await busy.end()  # in time
    cleaned = []

    async def cleans() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(await asyncio.sleep(0, "done"))

    task = as_party(Party("busy", "one"), cleans)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["done"]


async def test_refusals_come_at_a_steady_pace_for_each_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "AT_ONCE", 5)
    paced = Refusals()
    began = monotonic()
    for _ in range(5):
        await paced.pace("rude")
    at_once = monotonic() - began
    await asyncio.gather(*(paced.pace("rude") for _ in range(20)))
    later = monotonic() - began
    began = monotonic()
    await paced.pace("polite")
    assert at_once < 0.3
    assert later >= 0.35  # twenty at fifty a second
    assert monotonic() - began < 0.3
