"""Which spans of a trace are above which, against a walk from parent to parent. Traces of any shape are decided in a
time that grows with their spans, not with the square of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from server.ingest.counting.ancestry import Ancestry
from server.ingest.counting.call_counting import decide_counts
from server.ingest.counting.count_rules import SpanView


def agent(number: int, parent: int | None, scope: str = "a") -> SpanView:
    above = None if parent is None else str(parent)
    return SpanView(str(number), above, number, 10**9 - number, "agent", "internal", False, scope=scope, agent_name="x")


@pytest.mark.parametrize("seed", range(20))
def test_ancestors_are_those_that_a_walk_from_parent_to_parent_meets(seed: int) -> None:
    chance = random.Random(seed)
    spans = [agent(number, chance.choice([None, 99, *range(number)])) for number in range(40)]
    chance.shuffle(spans)
    by_id = {span.span_id: span for span in spans}
    ancestry = Ancestry(by_id)
    for inner in spans:
        above, met = by_id.get(inner.parent_span_id or ""), set()
        while above is not None:
            met.add(above.span_id)
            above = by_id.get(above.parent_span_id or "")
        assert {outer.span_id for outer in spans if ancestry.is_above(outer, inner)} == met


def test_a_ring_of_parents_is_cut_at_the_same_span_in_any_order() -> None:
    spans = [agent(0, 2), agent(1, 0), agent(2, 1)]
    for order in (spans, spans[::-1]):
        ancestry = Ancestry({span.span_id: span for span in order})
        assert [ancestry.is_above(spans[0], spans[2]), ancestry.is_above(spans[2], spans[0])] == [True, False]


SHAPES: dict[str, Callable[[int], SpanView]] = {
    "a star": lambda number: agent(number, 0 if number else None, "b" if number else "a"),
    "a chain": lambda number: agent(number, number - 1 if number else None, "ab"[number % 2]),
    "two chains": lambda number: agent(number, number - 2 if number > 1 else None, "ab"[number % 2]),
    "roots": lambda number: agent(number, None, "ab"[number % 2]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_the_spans_of_one_name_take_little_more_than_four_times_as_long(shape: str) -> None:
    def seconds(count: int) -> float:
        spans = [SHAPES[shape](number) for number in range(count)]
        began = time.process_time()
        decide_counts(spans)
        return time.process_time() - began

    assert min(seconds(3200) for _ in range(2)) < 8 * min(seconds(800) for _ in range(3))
