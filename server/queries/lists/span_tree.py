"""Tree order for the spans of a trace: parents before children, siblings by start.

Real telemetry is untidy: parents arrive late or never, a span may name itself or its own descendant as parent, one span
id may occur twice. No span is lost because of that; each reports how it was placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Placement(StrEnum):
    """Reason for a span's place."""

    ROOT = "root"
    """It has no parent id."""
    CHILD = "child"
    """It is below its parent."""
    ORPHAN = "orphan"
    """Its parent is not among the trace's spans; it is shown at the top."""
    CYCLE = "cycle"
    """Following its parents leads back to it; the earliest span of such a cycle is shown at the top."""


@dataclass(frozen=True, slots=True)
class SpanNode:
    """The parts of a span that decide its place in the tree; ``size`` is its stored size in bytes."""

    span_id: str
    parent_span_id: str | None
    ts: datetime
    size: int = 0


@dataclass(frozen=True, slots=True)
class PlacedSpan:
    """A span's place: ``depth`` is 0 at the top, ``children`` counts direct children."""

    node: SpanNode
    depth: int
    placement: Placement
    children: int


def arrange(nodes: Sequence[SpanNode]) -> list[PlacedSpan]:
    """Return all ``nodes`` in tree order: depth first, siblings by (ts, span_id). Takes linear time after the sort."""
    ordered = sorted(nodes, key=lambda node: (node.ts, node.span_id))
    position: dict[str, int] = {}
    for index, node in enumerate(ordered):
        position.setdefault(node.span_id, index)
    children: list[list[int]] = [[] for _ in ordered]
    tops: list[tuple[int, Placement]] = []
    for index, node in enumerate(ordered):
        if node.parent_span_id is None:
            tops.append((index, Placement.ROOT))
        elif node.parent_span_id not in position:
            tops.append((index, Placement.ORPHAN))
        else:
            children[position[node.parent_span_id]].append(index)
    placed: list[PlacedSpan] = []
    seen = bytearray(len(ordered))
    _walk(ordered, children, tops, seen, placed)
    # Spans not reachable from a root belong to a cycle or hang below one.
    rings = [(index, Placement.CYCLE) for index in _rings(ordered, position, seen)]
    _walk(ordered, children, rings, seen, placed)
    return placed


def _walk(
    ordered: Sequence[SpanNode],
    children: Sequence[Sequence[int]],
    tops: Sequence[tuple[int, Placement]],
    seen: bytearray,
    placed: list[PlacedSpan],
) -> None:
    """Append everything below ``tops`` to ``placed``, with a stack instead of recursion, since depth has no bound."""
    stack = [(index, 0, placement) for index, placement in reversed(tops)]
    while stack:
        index, depth, placement = stack.pop()
        if seen[index]:
            continue
        seen[index] = 1
        placed.append(PlacedSpan(ordered[index], depth, placement, len(children[index])))
        stack.extend((child, depth + 1, Placement.CHILD) for child in reversed(children[index]))


def _rings(ordered: Sequence[SpanNode], position: dict[str, int], seen: bytearray) -> list[int]:
    """Return the earliest span of each cycle of parents. Every span not yet ``seen`` has a parent that is not seen
    either.
    """
    done, on_path = 1, 2
    state = bytearray(seen)
    earliest: list[int] = []
    for start in range(len(ordered)):
        path: list[int] = []
        current = start
        while state[current] == 0:
            state[current] = on_path
            path.append(current)
            current = position[ordered[current].parent_span_id or ""]
        if state[current] == on_path:
            earliest.append(min(path[path.index(current) :]))
        for index in path:
            state[index] = done
    return sorted(earliest)
