"""The garbage collector stops the event loop for a few milliseconds at most."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from server.process.garbage_collection import spare_long_lived_objects

MOST_AT_ONCE = 6_000
"""Objects in circles are freed in about as many microseconds."""


class Circle:
    """An object that only the collector frees, like a connection with its protocol."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def thresholds() -> Iterator[None]:
    """Restore the collector's settings."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_circles_are_freed_a_few_thousand_at_a_time(thresholds: None) -> None:
    spare_long_lived_objects()
    freed: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop":
            freed.append(info["collected"])

    gc.callbacks.append(note)
    try:
        for _ in range(50_000):
            Circle()
    finally:
        gc.callbacks.remove(note)
    assert sum(freed) > 40_000
    assert max(freed) < 2 * MOST_AT_ONCE  # an object and its dictionary
