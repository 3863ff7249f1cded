"""Structural operators of TraceQL mean what their definition says, and are cheap for traces of any shape."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from datasource.tempo.families import Family, related_spans
from datasource.tempo.traceql import STRUCTURE

SPANS = 8000
SHAPES: dict[str, Callable[[int], str | None]] = {
    "chain": lambda number: str(number - 1) if number else None,
    "crowd": lambda number: "0" if number else None,
    "ring": lambda number: str((number + 1) % SPANS),
    "orphans": lambda _: "elsewhere",
}


def family_of(parents: dict[str, str | None]) -> Family:
    return Family({span: {"parent_span_id": parent} for span, parent in parents.items()})


def is_related(parents: dict[str, str | None], sign: str, left: str, right: str) -> bool:
    """Decide for one pair, by the words of Tempo's documentation."""

    def is_above(upper: str, lower: str) -> bool:
        seen: set[str] = set()
        at = parents[lower]
        while at in parents and at not in seen:
            seen.add(at)
            at = parents[at]
        return upper in seen

    if sign == "~":
        return left != right and parents[left] is not None and parents[left] == parents[right]
    if len(sign) == 2:
        return is_above(left, right) if sign == ">>" else is_above(right, left)
    return parents[right] == left if sign == ">" else parents[left] == right


@pytest.mark.parametrize("sign", STRUCTURE)
def test_random_families_are_related_as_the_definition_says(sign: str) -> None:
    dice = random.Random(sign)
    for _ in range(200):
        names = [str(number) for number in range(dice.randint(1, 9))]
        parents = {name: dice.choice([None, "elsewhere", *names]) for name in names}
        left, right = ({name for name in names if dice.random() < 0.5} for _ in range(2))
        plain = sign.lstrip("!&")
        wanted = {span for span in right if any(is_related(parents, plain, other, span) for other in left)}
        if sign.startswith("!"):
            wanted = right - wanted
        elif sign.startswith("&"):
            wanted |= {span for span in left if any(is_related(parents, plain, span, other) for other in right)}
        assert related_spans(family_of(parents), sign, left, right) == wanted, (parents, left, right)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_trace_makes_a_relation_dear(shape: str) -> None:
    """By pairs, each of the larger ones would take from many seconds to hours."""
    family = family_of({str(number): SHAPES[shape](number) for number in range(SPANS)})
    spans = set(family.rows)
    begun = time.process_time()
    for sign in STRUCTURE:
        related_spans(family, sign, spans, spans)
        related_spans(family, sign, {"0"}, spans)
        related_spans(family, sign, spans, {str(SPANS - 1)})
    assert time.process_time() - begun < 5
