"""Ancestors in one trace, told in constant time: a trace of ten thousand spans may be one long chain."""

from __future__ import annotations

from collections.abc import Mapping

from server.ingest.counting.count_rules import SpanView


class Ancestry:
    """The order in which a walk from the roots down enters and leaves each span. A ring of parents is cut somewhere."""

    def __init__(self, by_id: Mapping[str, SpanView]) -> None:
        self._entered: dict[str, int] = {}
        self._left: dict[str, int] = {}
        below: dict[str, list[str]] = {}
        roots = []
        for span_id, span in by_id.items():
            if span.parent_span_id in by_id:
                below.setdefault(span.parent_span_id or "", []).append(span_id)
            else:
                roots.append(span_id)
        for root in roots:
            self._walk(root, below)
        if len(self._entered) < len(by_id):
            for span_id in sorted(by_id.keys() - self._entered.keys()):
                self._walk(span_id, below)

    def is_above(self, outer: SpanView, inner: SpanView) -> bool:
        """Return whether ``outer`` is an ancestor of ``inner``."""
        entered = self._entered[inner.span_id]
        return self._entered[outer.span_id] < entered <= self._left[outer.span_id]

    def _walk(self, root: str, below: Mapping[str, list[str]]) -> None:
        path = [(root, False)]
        while path:
            span_id, is_done = path.pop()
            if is_done:
                self._left[span_id] = len(self._entered) - 1
            elif span_id not in self._entered:
                self._entered[span_id] = len(self._entered)
                path.append((span_id, True))
                path.extend((child, False) for child in below.get(span_id, ()))
