"""Relations of the spans of a trace, for the structural operators of TraceQL.

Each question is answered for whole sets of spans in time that grows with the spans, not with their pairs: chains and
crowds of ten thousand spans are cheap to send, and a trace is looked at on the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from datasource.traces.trace_search import Row


@dataclass(slots=True)
class Family:
    """The spans of one trace by their ids."""

    rows: dict[str, Row] = field(default_factory=dict)
    _children: dict[str, list[str]] | None = None

    def parents(self, spans: set[str]) -> set[str]:
        """Return the callers of ``spans`` that are known."""
        return {parent for span in spans if (parent := self.rows[span]["parent_span_id"]) in self.rows}

    def children(self, spans: set[str]) -> set[str]:
        """Return the spans that ``spans`` call."""
        if self._children is None:
            self._children = {}
            for span, row in self.rows.items():
                self._children.setdefault(row["parent_span_id"], []).append(span)
        return {child for span in spans for child in self._children.get(span, ())}

    def ancestors(self, spans: set[str]) -> set[str]:
        """Return all callers of ``spans``, direct or not."""
        return _closure(self.parents, spans)

    def descendants(self, spans: set[str]) -> set[str]:
        """Return all that ``spans`` call, directly or not."""
        return _closure(self.children, spans)

    def siblings(self, spans: set[str]) -> set[str]:
        """Return the spans that have the caller of another one in ``spans``; it may be a caller that is not known."""
        crowd = Counter(self.rows[span]["parent_span_id"] for span in spans)
        return {
            span
            for span, row in self.rows.items()
            if (parent := row["parent_span_id"]) is not None and crowd[parent] > (span in spans)
        }


def _closure(step: Callable[[set[str]], set[str]], spans: set[str]) -> set[str]:
    """Return all that steps from ``spans`` reach, each span once, also where spans call each other in a ring."""
    found: set[str] = set()
    edge = spans
    while edge := step(edge) - found:
        found |= edge
    return found


# From spans on the left of the operator to those that it takes on its right.
_RELATIONS: Final[Mapping[str, Callable[[Family, set[str]], set[str]]]] = {
    ">>": Family.descendants,
    ">": Family.children,
    "<<": Family.ancestors,
    "<": Family.parents,
    "~": Family.siblings,
}
_MIRRORED: Final = {">>": "<<", "<<": ">>", ">": "<", "<": ">", "~": "~"}


def related_spans(family: Family, sign: str, left: set[str], right: set[str]) -> set[str]:
    """Return the spans of ``left sign right``, one of the structural operators, also with ``!`` or ``&`` in front."""
    relation = sign.lstrip("!&")
    related = right & _RELATIONS[relation](family, left)
    if sign.startswith("!"):
        return right - related
    if sign.startswith("&"):
        return related | left & _RELATIONS[_MIRRORED[relation]](family, right)
    return related
