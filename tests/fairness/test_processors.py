"""Whether the machine is busy."""

from __future__ import annotations

import time

import pytest

from server.fairness.processors import (
    BUSY_LOOP_SHARE,
    STAYS_BUSY_SECONDS,
    Processors,
    Times,
    busy_share,
    wanted_seconds,
)


class Machine:
    """A machine of eight processors whose figures a test decides."""

    def __init__(self) -> None:
        self.clock = self.worked = self.passed = self.wanted = 0.0
        self.processors = Processors(lambda: self.times, lambda: self.clock, lambda: self.wanted, count=8)

    @property
    def times(self) -> Times:
        return self.worked, self.passed

    def is_busy_after(self, seconds: float, share: float, loop: float = 0.0) -> bool:
        """Let time pass in which ``share`` of the processors worked, and the loop wanted one for ``loop`` of it."""
        self.clock += seconds
        self.worked += 8 * seconds * share
        self.passed += 8 * seconds
        self.wanted += seconds * loop
        return self.processors.are_busy()


def test_a_machine_is_busy_while_most_of_its_processors_were_in_use_lately() -> None:
    machine = Machine()
    assert not machine.is_busy_after(1, 0.65)
    assert machine.is_busy_after(1, 0.9)
    assert machine.is_busy_after(0.1, 0.0), "too short to say something new"
    assert machine.is_busy_after(STAYS_BUSY_SECONDS - 0.2, 0.1), "those who rest make it idle"
    assert not machine.is_busy_after(1, 0.1)


def test_a_machine_is_busy_while_the_event_loop_worked_or_waited_for_a_processor() -> None:
    machine = Machine()
    machine.is_busy_after(1, 0.1)
    assert not machine.is_busy_after(1, 0.1, BUSY_LOOP_SHARE - 0.05)
    assert machine.is_busy_after(1, 0.1, BUSY_LOOP_SHARE + 0.05)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (2, 0.5), (3, 2 / 3), (4, 0.7), (64, 0.7)])
def test_of_few_processors_one_has_to_be_idle(count: int, share: float) -> None:
    assert busy_share(count) == pytest.approx(share)


def test_linux_tells_how_long_a_thread_wanted_a_processor() -> None:
    before = wanted_seconds()
    if before is None:
        pytest.skip("this system does not tell")
    ends = time.thread_time() + 0.1
    while time.thread_time() < ends:
        pass
    after = wanted_seconds()
    assert after is not None
    assert after - before > 0.09


def test_where_the_system_does_not_tell_it_is_never_busy() -> None:
    clock = 0.0
    processors = Processors(lambda: None, lambda: clock, lambda: None)
    clock = 1.0
    assert not processors.are_busy()
