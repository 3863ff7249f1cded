"""Signs that two reports of a model call are one: answer, time, model and usage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from server.ingest.counting.count_rules import SpanView
from server.ingest.dialects.canonical_names import operation_family
from server.ingest.dialects.model_stem import is_same_model
from server.ingest.dialects.scope_traits import scope_traits

CLOCK_US: Final = 2_000
"""Two instrumentations round the times of one call differently by this much."""
_TOGETHER_US: Final = 10_000
"""Two spans of one call, below different spans, begin and end within this time, or a twentieth of its length."""
_BOOKED_US: Final = 1_000_000
"""A framework that books the usage of a call in a span of its own does so within this time."""


def is_one_response(inner: SpanView, outer: SpanView) -> bool:
    """Return whether two calls with one response id are one."""
    if not is_same_model(inner.model, outer.model):
        return False
    # The two ends of a call have clocks of their own.
    return {inner.kind, outer.kind} == {"client", "server"} or _is_one_time(inner, outer)


def is_one_window(inner: SpanView, outer: SpanView) -> bool:
    """Return whether calls that two instrumentations report are one by time, model and usage."""
    return (
        inner.scope != outer.scope
        and not (inner.response_id and outer.response_id)
        and (not outer.is_call or operation_family(inner.operation) == operation_family(outer.operation))
        and _is_one_usage(inner, outer)
        and is_same_model(inner.model, outer.model)
        and _is_one_time(inner, outer)
    )


def _is_one_usage(inner: SpanView, outer: SpanView) -> bool:
    """Return whether ``outer`` reports nothing, or the tokens of ``inner``, with or without those of the cache."""
    if not outer.total_tokens or (inner.prompt_tokens, inner.completion_tokens) == (
        outer.prompt_tokens, outer.completion_tokens,
    ):  # fmt: skip
        return True
    return not outer.tells_cache and (outer.prompt_tokens, outer.completion_tokens) in inner.usages


def is_booking_of(booking: SpanView, call: SpanView) -> bool:
    """Return whether ``booking`` tells of the usage of ``call``, just after it."""
    return (
        is_same_model(call.model, booking.model)
        and call.end_us - CLOCK_US <= booking.start_us <= call.end_us + _BOOKED_US
    )


def is_bill_of(call: SpanView, standing: Sequence[SpanView]) -> bool:
    """Return whether ``call`` reports the tokens of the one call inside it, and what that does not tell: its cost, or
    how many of the tokens were cached.
    """
    if len(standing) != 1 or standing[0].is_billed:
        return False
    if not call.is_billed and (standing[0].tells_cache or not call.tells_cache):
        return False
    return bool(call.total_tokens) and call.total_tokens == standing[0].total_tokens


def _is_one_time(one: SpanView, other: SpanView) -> bool:
    return _runs_within(one, other) or _runs_within(other, one)


def silent_last(span: SpanView) -> tuple[bool, bool, tuple[int, str]]:
    """Return a key that sorts a call with usage before one that fails, and both before one that says nothing."""
    return not span.has_usage, not span.has_error, span.place


def begin_and_end_together(one: SpanView, other: SpanView) -> bool:
    """Return whether two spans are of one time so nearly that nothing else need tell that they are one call."""
    apart = max(_TOGETHER_US, (one.end_us - one.start_us) // 20)
    return abs(one.start_us - other.start_us) <= apart and abs(one.end_us - other.end_us) <= apart


def begin_together_beside(one: SpanView, other: SpanView) -> bool:
    """Return whether two spans begin at one time, and are of senders of which each tells of the same calls. The one
    that only waits for the end of the other's work may end later.
    """
    if abs(one.start_us - other.start_us) > _TOGETHER_US or one.scope is None or other.scope is None:
        return False
    group = scope_traits(one.scope).beside
    return group is not None and one.scope != other.scope and group == scope_traits(other.scope).beside


def _runs_within(inner: SpanView, outer: SpanView) -> bool:
    return inner.start_us >= outer.start_us - CLOCK_US and inner.end_us <= outer.end_us + CLOCK_US
