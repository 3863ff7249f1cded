"""Tree order of a trace's spans."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from server.queries.lists.span_tree import PlacedSpan, Placement, SpanNode, arrange

START = datetime(2026, 1, 1, tzinfo=UTC)


def node(span_id: str, parent: str | None, second: int = 0) -> SpanNode:
    return SpanNode(span_id, parent, START + timedelta(seconds=second))


def shape(placed: list[PlacedSpan]) -> list[tuple[str, int, str]]:
    return [(item.node.span_id, item.depth, item.placement.value) for item in placed]


def test_parents_stand_before_children_and_siblings_by_start() -> None:
    placed = arrange([node("c", "a", 3), node("b", "a", 1), node("d", "b", 2), node("a", None)])
    assert shape(placed) == [("a", 0, "root"), ("b", 1, "child"), ("d", 2, "child"), ("c", 1, "child")]
    assert [item.children for item in placed] == [2, 1, 0, 0]


def test_an_orphan_and_what_hangs_below_it_survive() -> None:
    placed = arrange([node("a", None), node("x", "never-sent", 1), node("y", "x", 2)])
    assert shape(placed) == [("a", 0, "root"), ("x", 0, "orphan"), ("y", 1, "child")]


def test_a_span_that_names_itself_as_parent_survives() -> None:
    assert shape(arrange([node("a", "a")])) == [("a", 0, "cycle")]


def test_a_ring_is_shown_from_its_earliest_span_and_its_tail_hangs_below() -> None:
    placed = arrange([node("tail", "b", 0), node("a", "b", 1), node("b", "a", 2)])
    assert shape(placed) == [("a", 0, "cycle"), ("b", 1, "child"), ("tail", 2, "child")]


def test_a_span_id_that_stands_twice_is_shown_twice() -> None:
    placed = arrange([node("a", None), node("a", None, 1), node("b", "a", 2)])
    assert shape(placed) == [("a", 0, "root"), ("b", 1, "child"), ("a", 0, "root")]


def test_a_chain_of_twenty_thousand_spans_needs_no_recursion() -> None:
    chain = [node("0", None)] + [node(str(n), str(n - 1), n) for n in range(1, 20_000)]
    assert arrange(chain)[-1].depth == 19_999


def test_a_long_tail_below_a_ring_takes_linear_time() -> None:
    ring = [node("r0", "r1", 50_000), node("r1", "r0", 50_001)]
    tail = [node("t0", "r0")] + [node(f"t{n}", f"t{n - 1}", n) for n in range(1, 20_000)]
    placed = arrange(ring + tail)
    assert placed[0].node.span_id == "r0"
    assert len(placed) == 20_002


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 12), st.integers(0, 5)), max_size=25))
def test_every_span_is_placed_once_whatever_the_parents_say(rows: list[tuple[int, int | None, int]]) -> None:
    nodes = [node(str(name), None if parent is None else str(parent), second) for name, parent, second in rows]
    placed = arrange(nodes)
    assert sorted(str(item.node) for item in placed) == sorted(str(item) for item in nodes)
    for before, after in itertools.pairwise(placed):
        assert after.depth <= before.depth + 1
    for item in placed:
        assert (item.depth == 0) == (item.placement is not Placement.CHILD)
