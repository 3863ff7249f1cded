"""The decision which of the spans that several instrumentations make of one run of an agent, or of one call of a tool,
is that run or call.

Two instrumentations of one framework, or a framework that traces itself and an instrumentation of it, each make a span
for the same run. One stays what it is: the outermost, since it lasts as long as whoever asked had to wait, or of spans
beside each other the longest. The others are steps of it, so that counts by agent or tool count it once. Two spans are
one run if they are of two scopes, bear one name, and either lie below each other with nothing but transport, chains and
workflows between, or run at the same time beside each other. Each scope tells of a run once: an agent that hands over
to itself has two runs, of which each scope tells both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from server.ingest.counting.ancestry import Ancestry
from server.ingest.counting.call_likeness import CLOCK_US
from server.ingest.counting.count_rules import (
    AGENT,
    AGENT_RUN,
    NO_TOOL,
    SAME_AGENT_RUN,
    SAME_RUN_USAGE,
    SAME_TOOL_CALL,
    TOLD_TOOL,
    TOOL,
    TOOL_TOLD_TWICE,
    Decision,
    SpanView,
)
from server.ingest.dialects.canonical_names import TRANSPARENT_OPERATIONS

ENTITIES: Final = (AGENT, TOOL)
_BETWEEN: Final = TRANSPARENT_OPERATIONS | {NO_TOOL, "workflow"}
_START_US: Final = 50_000
"""Spans beside each other that tell of one run begin within this time, or a tenth of its length."""
_MOST_AT_ONCE: Final = 100
"""Runs of one name at one time that a further one is compared with."""


def decide_told_twice(by_id: Mapping[str, SpanView], decisions: dict[str, Decision]) -> None:
    """Decide for the agents and tools of one trace, and add to ``decisions``, which has those for calls and usage."""
    for kind in ENTITIES:
        spans = [span for span in by_id.values() if span.operation == kind]
        if len({span.scope for span in spans}) > 1:
            for top, others in _Runs(by_id, spans, kind, decisions).told_twice():
                _decide_run(top, others, decisions)
        for span in spans:
            if span.was_told_twice and span.span_id not in decisions:
                decisions[span.span_id] = Decision(False, None)


def _decide_run(top: SpanView, others: Sequence[SpanView], decisions: dict[str, Decision]) -> None:
    """Let ``top`` be the run, and take what it lacks from ``others``. Usage that one of them alone reports counts."""
    ids = [span.span_id for span in others]
    stands = decisions.setdefault(top.span_id, Decision(False, AGENT_RUN if top.operation == AGENT else TOLD_TOOL))
    stands.lenders += ids
    stands.content_lenders += ids
    for span in others:
        known = decisions.get(span.span_id)
        if known is not None and known.counts:
            known.rule = SAME_RUN_USAGE
        elif top.operation == AGENT:
            decisions[span.span_id] = Decision(False, SAME_AGENT_RUN, top.span_id)
        else:
            rule = TOOL_TOLD_TWICE if known is None else SAME_TOOL_CALL
            decisions[span.span_id] = Decision(False, rule, top.span_id)


class _Runs:
    """The spans of one kind in one trace, put together to runs."""

    def __init__(
        self, by_id: Mapping[str, SpanView], spans: Iterable[SpanView], kind: str, decisions: Mapping[str, Decision]
    ) -> None:
        self._by_id = by_id
        self._kind = kind
        self._nearest: dict[str, str | None] = {}
        """By span: the nearest span of the kind above it, with nothing between that keeps them apart."""
        self._members: dict[str, list[SpanView]] = {}
        """By the top of each run: all its spans."""
        self._top: dict[str, str] = {}
        self._scopes: dict[str, set[str | None]] = {}
        """By span: the scopes of its run from it up to the top."""
        by_rule = {span.span_id: decisions[span.span_id] for span in spans if span.span_id in decisions}
        # Tools that the rule for MCP has put together stay so.
        steps = {span_id for span_id, decision in by_rule.items() if decision.rule == SAME_TOOL_CALL}
        self._spans = sorted(
            (span for span in spans if span.scope and span.span_id not in steps), key=lambda span: span.place
        )

    def told_twice(self) -> Iterator[tuple[SpanView, list[SpanView]]]:
        """Yield each run of several spans: the one that stays, and the others in their order."""
        for span in self._spans:
            self._join_above(span)
        self._join_beside()
        for top, members in self._members.items():
            if len(members) > 1:
                others = sorted((span for span in members if span.span_id != top), key=lambda span: span.place)
                yield self._by_id[top], others

    def _join_above(self, span: SpanView) -> None:
        """Put ``span``, and those above it on which that depends, into the runs that they belong to."""
        path: list[SpanView] = []
        on_path: set[str] = set()
        current: SpanView | None = span
        while current is not None and current.span_id not in self._top and current.span_id not in on_path:
            path.append(current)
            on_path.add(current.span_id)
            nearest = self._nearest_above(current)
            current = None if nearest is None else self._by_id[nearest]
        for one in reversed(path):
            nearest = self._nearest_above(one)
            top = self._top.get(nearest) if nearest is not None else None
            if nearest is not None and top is not None and self._is_one_run(self._by_id[nearest], one):
                self._top[one.span_id] = top
                self._members[top].append(one)
                self._scopes[one.span_id] = self._scopes[nearest] | {one.scope}
            else:
                self._top[one.span_id] = one.span_id
                self._members[one.span_id] = [one]
                self._scopes[one.span_id] = {one.scope}

    def _nearest_above(self, span: SpanView) -> str | None:
        if span.span_id in self._nearest:
            return self._nearest[span.span_id]
        path = [span.span_id]
        seen = {span.span_id}
        above = self._by_id.get(span.parent_span_id or "")
        while above is not None and above.span_id not in seen and above.operation in _BETWEEN:
            if above.span_id in self._nearest:
                break
            seen.add(above.span_id)
            path.append(above.span_id)
            above = self._by_id.get(above.parent_span_id or "")
        found: str | None = None
        if above is not None and above.span_id not in seen:
            found = above.span_id if above.operation == self._kind else self._nearest.get(above.span_id)
        self._nearest.update(dict.fromkeys(path, found))
        return found

    def _is_one_run(self, outer: SpanView, inner: SpanView) -> bool:
        if outer.start_us - CLOCK_US > inner.start_us or inner.start_us > outer.end_us + CLOCK_US:
            return False
        if inner.scope in self._scopes[outer.span_id]:
            return False
        if _name(inner) and _name(outer):
            return _name(inner) == _name(outer)
        return inner.scope != outer.scope and 2 * _length(inner) >= _length(outer)

    def _join_beside(self) -> None:
        """Put runs of one name together that several scopes tell beside each other."""
        by_name: dict[str, list[SpanView]] = {}
        for top in list(self._members):
            if _name(self._by_id[top]):
                by_name.setdefault(_name(self._by_id[top]), []).append(self._by_id[top])
        for alike in by_name.values():
            if len({span.scope for top in alike for span in self._members[top.span_id]}) > 1:
                self._join_alike(sorted(alike, key=lambda span: span.place))

    def _join_alike(self, alike: Sequence[SpanView]) -> None:
        running: list[SpanView] = []
        for span in alike:
            running = [other for other in running if other.end_us + CLOCK_US >= span.start_us][-_MOST_AT_ONCE:]
            near = [other for other in running if _is_one_time(other, span) and self._may_join(other, span)]
            if not near:
                running.append(span)
                continue
            other = min(near, key=lambda one: (span.start_us - one.start_us, one.place))
            top, rest = (span, other) if _length(span) > _length(other) else (other, span)
            self._members[top.span_id] += self._members.pop(rest.span_id)
            if top is span:
                running[running.index(other)] = span

    def _may_join(self, one: SpanView, other: SpanView) -> bool:
        told, tells = ({span.scope for span in self._members[top.span_id]} for top in (one, other))
        return told.isdisjoint(tells) and not (
            self._ancestry.is_above(one, other) or self._ancestry.is_above(other, one)
        )

    @cached_property
    def _ancestry(self) -> Ancestry:
        return Ancestry(self._by_id)


def _name(span: SpanView) -> str:
    return ((span.agent_name if span.operation == AGENT else span.tool_name) or "").lower()


def _length(span: SpanView) -> int:
    return span.end_us - span.start_us


def _is_one_time(first: SpanView, second: SpanView) -> bool:
    """Return whether both begin together, and share at least half of the longer one."""
    longest = max(_length(first), _length(second))
    shared = min(first.end_us, second.end_us) - second.start_us
    return second.start_us - first.start_us <= max(_START_US, longest // 10) and 2 * (shared + CLOCK_US) >= longest
