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
        self._held: dict[str, dict[SpanKey, bool]] = {}
        self.let_go = False
        """Whether a span was dropped since this was last set to False."""

    def __len__(self) -> int:
        """Return how many may be taken."""
        return len(self._moved)

    def add(self, key: SpanKey, *, is_update: bool = False) -> None:
        """Add a span; ``is_update``: it may have had another start before."""
        if (held := self._held.get(key.project_id)) is not None:
            held[key] = held.get(key, False) or is_update
            if len(held) > self._most // 10:
                held.clear()
                self.let_go = True
            return
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

    def hold(self, project: str) -> None:
        """Give no span of ``project`` out until :meth:`release`."""
        self._held.setdefault(project, {})
        waiting = [(key, is_update) for key, is_update in self._moved.items() if key.project_id == project]
        for key, is_update in waiting:
            del self._moved[key]
            self.add(key, is_update=is_update)
        self._heap = [item for item in self._heap if item[1].project_id != project]
        heapq.heapify(self._heap)

    def release(self, project: str) -> None:
        """Give the spans of ``project`` out again."""
        for key, is_update in self._held.pop(project, {}).items():
            self.add(key, is_update=is_update)

    def take(self, most: int) -> list[tuple[SpanKey, bool]]:
        """Remove the newest ``most`` spans and return them, each with whether it is an update."""
        taken: list[tuple[SpanKey, bool]] = []
        while self._heap and len(taken) < most:
            _, key = heapq.heappop(self._heap)
            taken.append((key, self._moved.pop(key)))
        return taken
