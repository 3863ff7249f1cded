"""Large answers of one tenant come at a pace, while others are about and the machine is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from time import monotonic

import httpx
import pytest

from server.errors import ShareExhausted
from server.fairness import large_answers
from server.fairness.large_answers import LargeAnswers
from server.fairness.presence import THIS_PROCESS, Presence
from server.fairness.processors import THIS_MACHINE
from tests.conftest import AppFactory, ProjectMaker

SMALL = "/api/v1/metrics?metric=calls&from=2026-10-01T00:00:00Z&to=2026-10-20T00:00:00Z"
LARGE = f"{SMALL}&interval=5m&fill=zero&max_points=11000"


@pytest.fixture(autouse=True)
def slow_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have more than half a megabyte at once."""
    monkeypatch.setattr(large_answers, "MEGABYTES_AT_ONCE", 0.5)
    monkeypatch.setattr(large_answers, "MEGABYTES_A_SECOND", 1)


ROUTE = "metrics"
MEGABYTE = 1_000_000


async def waited(answers: LargeAnswers, tenant: str, route: str = ROUTE, size: int = MEGABYTE // 10) -> float:
    """Return the seconds that ``tenant`` waits for an answer of ``size`` bytes."""
    began = monotonic()
    reserved = await answers.reserve(tenant, route)
    seconds = monotonic() - began
    answers.settle(tenant, route, size, reserved)
    return seconds


def after_a_megabyte(*, is_busy: bool = True, others: bool = True) -> LargeAnswers:
    """Return the answers of a process in which "greedy" had a megabyte."""
    presence = Presence()
    presence.note("greedy", monotonic())
    if others:
        presence.note("modest", monotonic())
    answers = LargeAnswers(presence, lambda: is_busy)
    answers.settle("greedy", ROUTE, MEGABYTE, 0.0)
    return answers


async def test_a_tenant_that_had_much_waits_for_the_next_answer_and_others_do_not() -> None:
    answers = after_a_megabyte()
    assert await waited(answers, "modest") < 0.1
    assert await waited(answers, "greedy", "small answers") < 0.1
    assert 0.3 < await waited(answers, "greedy") < 1


@pytest.mark.parametrize(("is_busy", "others"), [(False, True), (True, False)])
async def test_nobody_waits_on_an_idle_machine_or_alone(is_busy: bool, others: bool) -> None:
    assert await waited(after_a_megabyte(is_busy=is_busy, others=others), "greedy") < 0.1


async def test_questions_at_once_wait_for_each_other_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reserves what the last answer had, or all would pass before the first is counted."""
    monkeypatch.setattr(large_answers, "MEGABYTES_A_SECOND", 5)
    monkeypatch.setattr(large_answers, "LONGEST_SECONDS", 1.0)
    answers, began = after_a_megabyte(), monotonic()
    ended: list[float] = []

    async def ask() -> None:
        reserved = await answers.reserve("greedy", ROUTE)
        ended.append(monotonic() - began)
        answers.settle("greedy", ROUTE, MEGABYTE, reserved)

    results = await asyncio.gather(*(ask() for _ in range(64)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ShareExhausted)]
    assert len(refused) + len(ended) == 64
    assert 5 <= len(ended) <= 7, "those whose turn comes within a second"
    assert all(late - early > 0.15 for early, late in pairwise(ended[1:])), "a megabyte at five a second"


async def test_who_goes_away_or_fails_reserves_nothing() -> None:
    answers = after_a_megabyte()
    left = [asyncio.create_task(answers.reserve("greedy", ROUTE)) for _ in range(5)]
    await asyncio.sleep(0.05)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    answers.settle("greedy", ROUTE, None, await answers.reserve("greedy", ROUTE))
    assert await waited(answers, "greedy") < 0.5


async def test_a_small_answer_between_large_ones_lets_nobody_through() -> None:
    answers = after_a_megabyte()
    await waited(answers, "greedy", size=10)
    first, second = asyncio.create_task(answers.reserve("greedy", ROUTE)), await answers.reserve("greedy", ROUTE)
    assert await first
    assert second == pytest.approx(0.5), "half of what it was"


async def test_answers_that_the_cache_has_kept_count(
    start_app: AppFactory,
    project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(THIS_MACHINE), "are_busy", lambda self: True)
    await project("greedy")
    server = await start_app()
    THIS_PROCESS.note("somebody else", monotonic())

    async def took(path: str) -> float:
        began = monotonic()
        answer = await http.get(path)
        assert answer.status_code == 200, answer.text
        return monotonic() - began

    async with httpx.AsyncClient(base_url=server.base_url, headers=bearer("viewer", ["greedy"]), timeout=30) as http:
        await took(SMALL)
        answer = await http.get(LARGE)
        assert len(answer.content) > 400_000
        times = [await took(LARGE) for _ in range(3)]
        assert (await http.get(LARGE)).headers.get("Age"), "from the cache"
    assert max(times) > 0.25
