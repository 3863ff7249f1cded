"""Usage of a chain, workflow or agent that repeats the sum of the calls in its time, though they lie beside it.

Where two instrumentations of one framework open and close their spans in turn, a call may come to lie below the span of
the other one. The chain that the framework reports the sum on is then not above it. That its usage is, to the token,
the sum of the calls that ran in its time says that it is no usage of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from server.ingest.counting.call_likeness import CLOCK_US
from server.ingest.counting.count_rules import REPEATED_USAGE, Decision, SpanView


def leave_out_sums(reporting: Sequence[SpanView], decisions: dict[str, Decision]) -> None:
    """Leave out those of ``reporting`` that repeat the sum of calls which count, in a trace that several scopes tell
    of. ``decisions`` are changed.
    """
    sums = [span for span in reporting if not span.is_call and span.total_tokens and decisions[span.span_id].counts]
    if not sums or len({span.scope for span in reporting}) < 2:
        return
    calls = sorted(
        (span for span in reporting if span.is_call and span.total_tokens and decisions[span.span_id].counts),
        key=lambda span: span.place,
    )
    starts = [call.start_us for call in calls]
    for span in sums:
        repeated = _calls_of(span, calls, starts)
        if repeated is not None:
            decisions[span.span_id] = Decision(False, REPEATED_USAGE, repeated.span_id)


def _calls_of(span: SpanView, calls: Sequence[SpanView], starts: Sequence[int]) -> SpanView | None:
    """Return the first of the calls in the time of ``span``, if their tokens add up to its own."""
    prompt, completion = span.prompt_tokens or 0, span.completion_tokens or 0
    first: SpanView | None = None
    for call in calls[bisect_left(starts, span.start_us - CLOCK_US) :]:
        if call.start_us > span.end_us:
            break
        if call.end_us <= span.end_us + CLOCK_US:
            first = first or call
            prompt, completion = prompt - (call.prompt_tokens or 0), completion - (call.completion_tokens or 0)
            if prompt < 0 or completion < 0:
                return None
    return first if prompt == 0 and completion == 0 else None
