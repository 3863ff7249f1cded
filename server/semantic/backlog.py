"""Spans that wait for their vectors: the newest first, and never more than a number."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime
from typing import Final

MOST_WAITING: Final = 50_000
"""Number of spans kept, about 15 MB. Older ones are dropped, and found again by the walk through stored spans."""


@dataclass(frozen=True, slots=True, order=True)
class SpanKey:
    """A stored span."""

    ts: datetime
    project_id: str
    trace_id: str
    span_id: str


class Backlog:
    """The waiting spans of one process."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._moved: dict[SpanKey, bool] = {}
        self._heap: list[tuple[float, SpanKey]] = []
        self.let_go = False
        """Whether a span was dropped since this was last set to False."""

    def __len__(self) -> int:
        return len(self._moved)

    def add(self, key: SpanKey, *, is_update: bool = False) -> None:
        """Add a span; ``is_update``: it may have had another start before."""
        if key in self._moved:
            self._moved[key] |= is_update
            return
        self._moved[key] = is_update
        heapq.heappush(self._heap, (-key.ts.timestamp(), key))
        if len(self._moved) > self._most:
            kept = heapq.nsmallest(self._most * 9 // 10, self._heap)
            self._moved = {item: self._moved[item] for _, item in kept}
            self._heap = kept
            self.let_go = True

    def take(self, most: int) -> list[tuple[SpanKey, bool]]:
        """Remove the newest ``most`` spans and return them, each with whether it is an update."""
        taken: list[tuple[SpanKey, bool]] = []
        while self._heap and len(taken) < most:
            _, key = heapq.heappop(self._heap)
            taken.append((key, self._moved.pop(key)))
        return taken
