"""Whether the machine is busy."""

from __future__ import annotations

from server.fairness.processors import Processors


def test_a_machine_is_busy_while_most_of_its_processors_were_in_use_lately() -> None:
    clock = worked = passed = 0.0
    processors = Processors(lambda: (worked, passed), lambda: clock)

    def step(seconds: float, share: float) -> bool:
        nonlocal clock, worked, passed
        clock, worked, passed = clock + seconds, worked + 2 * seconds * share, passed + 2 * seconds
        return processors.are_busy()

    assert not step(1, 0.5)
    assert step(1, 0.9)
    assert step(0.1, 0.0), "too short to say something new"
    assert not step(1, 0.1)


def test_where_the_system_does_not_tell_it_is_never_busy() -> None:
    clock = 0.0
    processors = Processors(lambda: None, lambda: clock)
    clock = 1.0
    assert not processors.are_busy()
