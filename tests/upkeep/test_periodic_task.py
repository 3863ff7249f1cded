"""Background loops: how they begin, end, pause and fail."""

from __future__ import annotations

import asyncio

import pytest

from server.errors import DatabaseUnavailable
from server.fairness.party import SERVER, Party, current_party
from server.periodic_task import PeriodicTask
from server.telemetry.observations import BackgroundWorkFailed


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[BackgroundWorkFailed]:
    seen: list[BackgroundWorkFailed] = []
    monkeypatch.setattr("server.periodic_task.observe", seen.append)
    return seen


async def test_no_failure_ends_the_loop(failures: list[BackgroundWorkFailed]) -> None:
    outcomes = [DatabaseUnavailable(), ValueError("a mistake of ours"), None]
    done = asyncio.Event()

    async def run() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        done.set()

    task = PeriodicTask("example", run, first_pause=0, pause=60, pause_after_failure=0)
    task.start()
    task.start()  # twice is once
    async with asyncio.timeout(5):
        await done.wait()
    await task.stop()
    assert failures == [
        BackgroundWorkFailed("example", "database_unavailable"),
        BackgroundWorkFailed("example", "internal_error"),
    ]
    assert not [other for other in asyncio.all_tasks() if other.get_name() == "example"]


async def test_a_stop_cancels_the_run_and_writes_down_what_is_left(failures: list[BackgroundWorkFailed]) -> None:
    begun = asyncio.Event()
    cancelled: list[bool] = []

    async def run() -> None:
        if begun.is_set():
            return
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    task = PeriodicTask("example", run, first_pause=0, pause=60, runs_at_stop=True)
    await task.stop()  # before it has begun: nothing to do
    assert not begun.is_set()
    task.start()
    await begun.wait()
    await task.stop()
    assert cancelled == [True]
    assert not failures


async def test_the_pause_may_follow_from_how_long_the_run_took() -> None:
    took: list[float] = []
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)

    def next_pause(seconds: float) -> float:
        took.append(seconds)
        return 0.0 if len(took) < 3 else 60.0

    task = PeriodicTask("example", run, first_pause=0, pause=60, next_pause=next_pause)
    task.start()
    async with asyncio.timeout(5):
        while len(took) < 3:
            await asyncio.sleep(0.005)
    await task.stop()
    assert runs == 3
    assert min(took) >= 0.009


async def test_background_work_is_counted_for_nobody_who_happens_to_begin_it() -> None:
    seen: list[Party] = []
    done = asyncio.Event()

    async def run() -> None:
        seen.append(current_party.get())
        done.set()

    for asked, expected in ((None, SERVER), (Party("alpha", "live tail"), Party("alpha", "live tail"))):
        task = PeriodicTask("example", run, first_pause=0, pause=60)
        mark = current_party.set(Party("beta", "somebody"))
        task.start() if asked is None else task.start(asked)
        current_party.reset(mark)
        async with asyncio.timeout(30):
            await done.wait()
        done.clear()
        await task.stop()
        assert seen.pop() == expected
