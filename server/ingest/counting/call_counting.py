"""The decision which spans of a trace count, so that each model call counts once and none is lost.

Several spans may report one call: a framework's and the client library's, the client's and the vendor's. Some report
none at all: the usage is on the agent that made the calls. The decision is a pure function of the spans of a trace,
whatever their order and however they were split into requests: it is made for the spans of one request before they
are stored (:mod:`server.ingest.mapping.request_counts`), and again over the stored ones where a trace comes in pieces
(:mod:`server.ingest.writing.stored_counts`). :data:`~server.ingest.counting.count_rules.COUNT_RULES` has
the rules by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from functools import cached_property
from typing import Final

from server.ingest.counting.ancestry import Ancestry
from server.ingest.counting.call_likeness import (
    CLOCK_US,
    begin_and_end_together,
    begin_together_beside,
    is_bill_of,
    is_booking_of,
    is_one_response,
    is_one_window,
    silent_last,
)
from server.ingest.counting.count_rules import (
    BILLED_OUTSIDE,
    INNER_COUNTS,
    ONLY_REPORT,
    OUTER_COUNTS,
    REPEATED_USAGE,
    SAME_RESPONSE,
    SAME_WINDOW,
    TOOL,
    USAGE_WITHOUT_CALL,
    Decision,
    SpanView,
)
from server.ingest.counting.last_steps import count_sums_of_steps
from server.ingest.counting.told_twice import decide_told_twice
from server.ingest.counting.tool_counting import decide_tool_calls
from server.ingest.counting.usage_sums import leave_out_sums
from server.ingest.dialects.canonical_names import (
    BOUNDARY_OPERATIONS,
    TRANSPARENT_OPERATIONS,
    operation_family,
)
from server.ingest.dialects.model_stem import is_same_model

MOST_VIEWS: Final = 4
"""More spans than this with one response id: the server does not make unique ids, and they tell nothing."""
MOST_LINKED: Final = 64
"""Traces that hang together by more and more answers, or by one moment, are not followed further than this."""
_MOST_ALIKE: Final = 100
"""The same for calls of one usage, which are compared pair by pair."""

_DIRECT, _THROUGH_TRANSPORT, _THROUGH_CHAIN, _BOUNDARY = 0, 1, 2, 3


def decide_counts(spans: Iterable[SpanView]) -> dict[str, Decision]:
    """Decide for every span of one trace that reports something; spans that report nothing have no decision."""
    by_id = {span.span_id: span for span in spans}
    reports = [span for span in by_id.values() if span.reports]
    tools = [span for span in reports if span.operation == TOOL]
    decisions = decide_tool_calls(by_id, tools) if tools else {}
    reporting = sorted((span for span in reports if span.operation != TOOL), key=lambda span: span.place)
    if len(reporting) < 2:
        decisions.update((span.span_id, _alone(span)) for span in reporting)
    else:
        decisions.update(_TraceDecision(by_id, reporting).decide())
    decide_told_twice(by_id, decisions)
    return decisions


def _alone(span: SpanView) -> Decision:
    return Decision(True, ONLY_REPORT if span.is_call else USAGE_WITHOUT_CALL)


class _Silent(Enum):
    """Where a call without usage is looked for beside another."""

    BESIDE, ANYWHERE = 1, 2


class _TraceDecision:
    """The decision over one trace, rule by rule."""

    def __init__(self, by_id: dict[str, SpanView], reporting: Sequence[SpanView]) -> None:
        self._by_id = by_id
        self._reporting = reporting
        self._decisions = {span.span_id: _alone(span) for span in reporting}
        self._above: dict[str, str | None] = {}
        """The parent of each span as far as it is known; None where a ring of parents is cut."""
        self._outer: dict[str, tuple[SpanView, int] | None] = {}
        """The nearest call above, and the widest of what lies between."""
        self._standing: dict[str, list[SpanView]] = {}
        """The spans that count for a call: itself, or the calls inside it."""

    def decide(self) -> dict[str, Decision]:
        self._cut_rings()
        calls = [span for span in self._reporting if span.is_call]
        inner: dict[str, list[tuple[SpanView, int]]] = {}
        for call in calls:
            outer = self._outer_call(call)
            if outer is not None:
                inner.setdefault(outer[0].span_id, []).append((call, outer[1]))
        for call in self._innermost_first(calls):
            self._count_nested(call, inner.get(call.span_id, []))
        self._count_usage_without_call()
        count_sums_of_steps(self._reporting, self._above, self._decisions, self._leave_out)
        self._count_bookings_once()
        self._count_views_once()
        leave_out_sums(self._reporting, self._decisions)
        self._point_at_what_counts()
        return self._decisions

    def _cut_rings(self) -> None:
        """Cut cycles of parents: the way up ends where it would come back."""
        done: set[str] = set()
        for span in self._reporting:
            path: list[str] = []
            on_path: set[str] = set()
            current: str | None = span.span_id
            while current is not None and current not in done:
                if current in on_path:
                    self._above[path[-1]] = None
                    break
                path.append(current)
                on_path.add(current)
                parent = self._by_id[current].parent_span_id
                self._above[current] = parent if parent in self._by_id else None
                current = self._above[current]
            done.update(path)

    def _outer_call(self, call: SpanView) -> tuple[SpanView, int] | None:
        """Return the nearest call above ``call``, remembered for every span on the way."""
        path = [call.span_id]
        found: tuple[SpanView, int] | None = None
        while (above := self._above[path[-1]]) is not None:
            span = self._by_id[above]
            if span.is_call:
                found = (span, _DIRECT)
                break
            if above in self._outer:
                found = self._outer[above]
                if found is not None:
                    found = (found[0], max(found[1], _width(span)))
                break
            path.append(above)
        for span_id in reversed(path):
            self._outer[span_id] = found
            if found is not None:
                found = (found[0], max(found[1], _width(self._by_id[span_id])))
        return self._outer[call.span_id]

    def _innermost_first(self, calls: Sequence[SpanView]) -> list[SpanView]:
        depth: dict[str, int] = {}
        for call in calls:
            path = [call]
            while path[-1].span_id not in depth and (outer := self._outer_call(path[-1])) is not None:
                path.append(outer[0])
            level = depth.get(path[-1].span_id, 0)
            for step, span in enumerate(reversed(path)):
                depth.setdefault(span.span_id, level + step)
        return sorted(calls, key=lambda call: -depth[call.span_id])

    def _count_nested(self, call: SpanView, below: Sequence[tuple[SpanView, int]]) -> None:
        """Count, of a call and the calls inside it, those that report usage: the inner ones before the outer one."""
        inner = _reports_of(call, below)
        standing = [span for other in inner for span in self._standing[other.span_id]]
        is_billed = is_bill_of(call, standing)
        if is_billed:
            is_outer = True
        elif any(span.has_usage for span in standing):
            is_outer = False
        elif call.has_usage or not standing:
            is_outer = True
        else:
            is_outer = call.model is not None and not any(span.model is not None for span in standing)
        if is_outer:
            for span in standing:
                self._leave_out(span, BILLED_OUTSIDE if is_billed else OUTER_COUNTS, [call])
            self._standing[call.span_id] = [call]
        else:
            self._leave_out(call, INNER_COUNTS, sorted(standing, key=lambda span: not span.has_usage))
            self._standing[call.span_id] = standing

    def _leave_out(self, span: SpanView, rule: int, counted: Sequence[SpanView]) -> None:
        decision = self._decisions[span.span_id]
        self._decisions[span.span_id] = Decision(False, rule, counted[0].span_id)
        lenders, content = [span.span_id, *decision.lenders], [span.span_id, *decision.content_lenders]
        for other in counted:
            self._decisions[other.span_id].lenders += lenders
        if len(counted) == 1:
            self._decisions[counted[0].span_id].content_lenders += content

    def _count_usage_without_call(self) -> None:
        """Count an agent, chain or workflow if no span below it has usage, and it is not inside a call that has."""
        below: dict[str, str] = {}
        for span in self._reporting:
            if not span.has_usage:
                continue
            above = self._above[span.span_id]
            while above is not None and above not in below:
                below[above] = span.span_id
                above = self._above[above]
        for span in self._reporting:
            if span.is_call:
                continue
            outer = self._outer_call(span)
            repeated = below.get(span.span_id)
            if repeated is None and outer is not None and outer[1] < _BOUNDARY:
                standing = self._standing[outer[0].span_id]
                repeated = next((other.span_id for other in standing if other.has_usage), None)
            if repeated is not None or not span.has_usage:
                self._decisions[span.span_id] = Decision(False, REPEATED_USAGE, repeated)

    def _count_views_once(self) -> None:
        """Call that are not nested: told by their response id, else by equal time, model and usage."""
        counted = [span for span in self._reporting if self._decisions[span.span_id].counts and span.has_usage]
        # Calls before agents; a reported cost is the bill; without the cached tokens a computed one is too high; of two
        # views of a call the shorter one is nearer to it.
        counted.sort(
            key=lambda span: (
                not span.is_call,
                not span.is_billed,
                not span.tells_cache,
                span.end_us - span.start_us,
                span.place,
            )
        )
        by_response: dict[str, list[SpanView]] = {}
        by_usage: dict[tuple[object, ...], list[SpanView]] = {}
        for span in counted:
            if span.response_id:
                by_response.setdefault(span.response_id, []).append(span)
            if span.total_tokens and span.scope:
                for usage in span.usages:
                    by_usage.setdefault(usage, []).append(span)
        for same in by_response.values():
            if 1 < len(same) <= MOST_VIEWS:
                self._count_responses_once(same)
        for same in by_usage.values():
            if len(same) <= _MOST_ALIKE and len({span.scope for span in same}) > 1:
                self._count_windows_once(same)
        self._count_silent_siblings_once()

    def _count_silent_siblings_once(self) -> None:
        """Leave out a call without usage beside a call of another instrumentation, with the same span above both, or
        none (the roots of linked traces), or anywhere in the trace if they begin and end together: one that fails
        counts rather than one that says nothing.
        """
        counted = [span for span in self._reporting if span.is_call and self._decisions[span.span_id].counts]
        if all(span.has_usage for span in counted):
            return
        siblings: dict[str | None, list[SpanView]] = {}
        for span in counted:
            if span.scope:
                siblings.setdefault(span.parent_span_id, []).append(span)
        for same in siblings.values():
            if 1 < len(same) <= _MOST_ALIKE and len({span.scope for span in same}) > 1:
                same.sort(key=silent_last)
                self._count_windows_once(same, _Silent.BESIDE)
        counted = [span for span in counted if self._decisions[span.span_id].counts and span.scope]
        if len(counted) <= _MOST_ALIKE and len({span.scope for span in counted}) > 1:
            self._count_windows_once(sorted(counted, key=silent_last), _Silent.ANYWHERE)

    def _count_responses_once(self, same: Sequence[SpanView]) -> None:
        for position, outer in enumerate(same):
            for inner in same[:position]:
                if self._decisions[inner.span_id].counts and is_one_response(inner, outer):
                    self._leave_out(outer, SAME_RESPONSE, [inner])
                    break

    def _count_windows_once(self, same: Sequence[SpanView], silent: _Silent | None = None) -> None:
        """Pair calls, one from each instrumentation: two calls at once with equal usage stay two. ``silent``: leave
        out calls without usage alone.
        """
        taken: set[tuple[str, str | None]] = set()
        for position, outer in enumerate(same):
            if not self._decisions[outer.span_id].counts or (silent and outer.has_usage):
                continue
            near = [
                inner
                for inner in same[:position]
                if self._decisions[inner.span_id].counts
                and (inner.span_id, outer.scope) not in taken
                and is_one_window(inner, outer)
                and (
                    silent is not _Silent.ANYWHERE
                    or begin_and_end_together(inner, outer)
                    or begin_together_beside(inner, outer)
                )
                # The spans between them have told already that they are two calls.
                and not self._ancestry.is_above(outer, inner)
            ]
            if near:
                inner = min(near, key=lambda span: (abs(span.start_us - outer.start_us), span.place))
                taken.add((inner.span_id, outer.scope))
                self._leave_out(outer, SAME_WINDOW, [inner])

    def _count_bookings_once(self) -> None:
        """Leave out spans of no length in which a framework books the usage of a call, each for one call. The call
        itself may be counted in a span inside it.
        """
        bookings = [
            span
            for span in self._reporting
            if not span.is_call
            and span.total_tokens
            and span.end_us - span.start_us <= CLOCK_US
            and self._decisions[span.span_id].counts
        ]
        if not bookings:
            return
        by_usage: dict[tuple[object, ...], list[SpanView]] = {}
        for call in self._reporting:
            if call.is_call:
                by_usage.setdefault((call.prompt_tokens, call.completion_tokens, call.scope), []).append(call)
        booked: set[str] = set()
        for booking in bookings:
            alike = by_usage.get((booking.prompt_tokens, booking.completion_tokens, booking.scope), ())
            calls = [call for call in alike if call.span_id not in booked and is_booking_of(booking, call)]
            if calls:
                call = max(calls, key=lambda span: (span.end_us, span.place))
                booked.add(call.span_id)
                self._decisions[booking.span_id] = Decision(False, REPEATED_USAGE, call.span_id)

    @cached_property
    def _ancestry(self) -> Ancestry:
        return Ancestry(self._by_id)

    def _point_at_what_counts(self) -> None:
        for decision in self._decisions.values():
            for _ in range(len(self._decisions)):
                target = self._decisions.get(decision.counted_in or "")
                if target is None or target.counts:
                    break
                decision.counted_in = target.counted_in


def _width(span: SpanView) -> int:
    """Return how much a span between two calls keeps them apart."""
    if span.operation in BOUNDARY_OPERATIONS:
        return _BOUNDARY
    return _THROUGH_TRANSPORT if span.operation in TRANSPARENT_OPERATIONS else _THROUGH_CHAIN


def _reports_of(call: SpanView, below: Sequence[tuple[SpanView, int]]) -> list[SpanView]:
    """Return those of the calls ``below`` that are the same call: only transport between, or a chain and equal
    usage.
    """
    family = operation_family(call.operation)
    alike = [(span, width) for span, width in below if operation_family(span.operation) == family]
    near = [span for span, width in alike if width < _THROUGH_CHAIN]
    far = [span for span, width in alike if width == _THROUGH_CHAIN and is_same_model(span.model, call.model)]
    total = sum(span.total_tokens or 0 for span in (*near, *far))
    if far and (not call.has_usage or not total or total == call.total_tokens):
        near += far
    return sorted(near, key=lambda span: span.place)
