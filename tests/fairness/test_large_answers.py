"""Large answers of one tenant come at a pace, while others are about and the machine is busy."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import httpx
import pytest

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


async def waited(answers: LargeAnswers, tenant: str) -> float:
    """Return the seconds that ``tenant`` waits for its next answer."""
    began = monotonic()
    await answers.wait(tenant)
    return monotonic() - began


def after_a_megabyte(*, is_busy: bool, others: bool) -> LargeAnswers:
    """Return the answers of a process in which "greedy" had a megabyte."""
    presence = Presence()
    presence.note("greedy", monotonic())
    if others:
        presence.note("modest", monotonic())
    answers = LargeAnswers(presence, lambda: is_busy)
    answers.count("greedy", 1_000_000)
    return answers


async def test_a_tenant_that_had_much_waits_for_the_next_answer_and_others_do_not() -> None:
    answers = after_a_megabyte(is_busy=True, others=True)
    assert await waited(answers, "modest") < 0.1
    assert 0.3 < await waited(answers, "greedy") < 1


@pytest.mark.parametrize(("is_busy", "others"), [(False, True), (True, False)])
async def test_nobody_waits_on_an_idle_machine_or_alone(is_busy: bool, others: bool) -> None:
    assert await waited(after_a_megabyte(is_busy=is_busy, others=others), "greedy") < 0.1


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
