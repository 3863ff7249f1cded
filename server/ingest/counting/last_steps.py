"""Agents whose calls tell the usage of their last step alone.

Some frameworks make one span for all the requests to the model that a run needs, and write to it what the last one
used. The sum is on the span of the agent (``tells_last_step`` in ``dialects/scopes.json``). It counts then, and the
calls, which are part of it, do not. An agent below another one has a sum of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from server.ingest.counting.count_rules import LAST_STEP, USAGE_WITHOUT_CALL, Decision, SpanView
from server.ingest.dialects.scope_traits import scope_traits

LeaveOut = Callable[[SpanView, int, Sequence[SpanView]], None]


def count_sums_of_steps(
    reporting: Sequence[SpanView],
    above: Mapping[str, str | None],
    decisions: dict[str, Decision],
    leave_out: LeaveOut,
) -> None:
    """Count those of ``reporting`` that are the sum of steps of which the spans below tell less. ``above``: the parent
    of each span.
    """
    agents = {
        span.span_id: span
        for span in reporting
        if not span.is_call and span.total_tokens and span.scope and scope_traits(span.scope).tells_last_step
    }
    if not agents:
        return
    steps: dict[str, list[SpanView]] = {}
    for span in reporting:
        if span.is_call and span.has_usage and decisions[span.span_id].counts:
            agent = _agent_of(span, above, agents)
            if agent is not None and agent.scope == span.scope:
                steps.setdefault(agent.span_id, []).append(span)
    for span_id, calls in steps.items():
        agent = agents[span_id]
        if _is_less(calls, agent):
            decisions[span_id] = Decision(True, USAGE_WITHOUT_CALL)
            for call in calls:
                leave_out(call, LAST_STEP, [agent])


def _agent_of(span: SpanView, above: Mapping[str, str | None], agents: Mapping[str, SpanView]) -> SpanView | None:
    current = above[span.span_id]
    while current is not None and current not in agents:
        current = above[current]
    return None if current is None else agents[current]


def _is_less(calls: Sequence[SpanView], agent: SpanView) -> bool:
    """Return whether ``calls`` have a part of the tokens of ``agent``."""
    prompt = sum(call.prompt_tokens or 0 for call in calls)
    completion = sum(call.completion_tokens or 0 for call in calls)
    told = agent.prompt_tokens or 0, agent.completion_tokens or 0
    return prompt <= told[0] and completion <= told[1] and (prompt, completion) != told
