"""The rules by which spans count, and what the decision looks at and says.

:mod:`server.ingest.counting.call_counting` decides for model calls,
:mod:`server.ingest.counting.tool_counting` for calls of tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS

ONLY_REPORT, USAGE_WITHOUT_CALL = 1, 2
INNER_COUNTS, OUTER_COUNTS, SAME_RESPONSE, SAME_WINDOW, REPEATED_USAGE, BILLED_OUTSIDE = 3, 4, 5, 6, 7, 8
TOOL_CALL, SAME_TOOL_CALL = 9, 10
AGENT_RUN, SAME_AGENT_RUN, SAME_RUN_USAGE, TOLD_TOOL, TOOL_TOLD_TWICE = 11, 12, 13, 14, 15
LAST_STEP = 16

COUNT_RULES: Final[Mapping[int, str]] = {
    ONLY_REPORT: "counts: the report of a model call",
    USAGE_WITHOUT_CALL: "counts: usage of a span that is no call, where no span below it reports any, "
    "or the last step's alone",
    INNER_COUNTS: "does not count: a span inside it reports the same call",
    OUTER_COUNTS: "does not count: the span around it reports the usage of the same call, this one none",
    SAME_RESPONSE: "does not count: a span with the same response id, within its time, reports the same call",
    SAME_WINDOW: "does not count: another instrumentation reports a call of the same time, model and usage, with or "
    "without what was cached",
    BILLED_OUTSIDE: "does not count: the span around it reports the same usage, and what it cost or how much is cached",
    REPEATED_USAGE: "does not count: its usage repeats that of the calls below or around it, or of the one just before",
    TOOL_CALL: "is no model call: the report of a tool call, of which there may be others",
    SAME_TOOL_CALL: "is no tool call of its own: the span around it reports the same one",
    AGENT_RUN: "is no model call: the run of an agent, of which other instrumentations may tell too",
    SAME_AGENT_RUN: "is no run of an agent of its own: another instrumentation tells of the same one",
    SAME_RUN_USAGE: "counts: usage of a run of an agent of which another instrumentation tells too, without usage",
    TOLD_TOOL: "is no model call: the call of a tool, of which other instrumentations may tell too",
    TOOL_TOLD_TWICE: "is no tool call of its own: another instrumentation tells of the same one",
    LAST_STEP: "does not count: it tells the usage of the last step of the agent, which tells that of all",
}
"""Meaning of each ``count_rule``."""

TOOL_RULES: Final = frozenset({TOOL_CALL, SAME_TOOL_CALL})
"""The rules of spans that may be a further report of a tool call."""
TOLD_RULES: Final = frozenset({AGENT_RUN, SAME_AGENT_RUN, SAME_RUN_USAGE, TOLD_TOOL, TOOL_TOLD_TWICE})
"""The rules of agents and tools of which several instrumentations tell, or told once."""
AGENT, TOOL, NO_TOOL = "agent", "tool", "chain"
"""Operation of a span that reports the run of an agent, or a tool call, and of a further report of the same one."""
_STEPS: Final = frozenset({SAME_TOOL_CALL, SAME_AGENT_RUN, SAME_RUN_USAGE, TOOL_TOLD_TWICE})
_OPERATIONS: Final[Mapping[int, str]] = {
    **dict.fromkeys((*TOOL_RULES, TOLD_TOOL, TOOL_TOLD_TWICE), TOOL),
    **dict.fromkeys((AGENT_RUN, SAME_AGENT_RUN, SAME_RUN_USAGE), AGENT),
}


def told_operation(count_rule: int | None, operation: str) -> str:
    """Return the operation that a span told, whatever it was taken for beside others."""
    return operation if count_rule is None else _OPERATIONS.get(count_rule, operation)


def entity_columns(operation: str, rule: int | None, tool_name: str | None) -> tuple[str, str | None]:
    """Return operation type and tool name of a span that tells of an agent or a tool. A further report of a run or call
    is a step of it, and names no tool, so that counts by operation or tool count it once.
    """
    if rule not in _STEPS:
        return operation, tool_name
    return NO_TOOL, None if operation == TOOL else tool_name


@dataclass(slots=True)
class SpanView:
    """The data of the decision. Times in microseconds since the epoch."""

    span_id: str
    parent_span_id: str | None
    start_us: int
    end_us: int
    operation: str
    kind: str
    reports: bool
    """Whether the span may count: a model call, or another span with usage of its own."""
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    has_cost: bool = False
    response_id: str | None = None
    scope: str | None = None
    is_billed: bool = False
    """Whether the sender reported what it cost."""
    tool_name: str | None = None
    cache_tokens: int = 0
    """Tokens of the prompt that the vendor read from its cache or wrote to it, as far as the sender reported them."""
    has_error: bool = False
    agent_name: str | None = None
    was_told_twice: bool = False
    """Whether it was found before that several instrumentations tell of it."""

    @property
    def is_call(self) -> bool:
        """A model call, as opposed to an agent, chain or workflow with usage."""
        return self.reports and self.operation in GENERATION_OPERATIONS

    @property
    def tells_cache(self) -> bool:
        """Whether the sender reported tokens that the vendor read from its cache or wrote to it."""
        return self.cache_tokens > 0

    @property
    def usages(self) -> set[tuple[int | None, int | None]]:
        """Prompt and completion as this sender reports them, and as one would who does not know of the cache."""
        return usages_told(self.prompt_tokens, self.completion_tokens, self.cache_tokens)

    @property
    def has_usage(self) -> bool:
        """Whether there is something to count."""
        return bool(self.total_tokens) or self.has_cost

    @property
    def place(self) -> tuple[int, str]:
        """The order in which spans are looked at, the same in every process."""
        return self.start_us, self.span_id


def usages_told(prompt: int | None, completion: int | None, cached: int) -> set[tuple[int | None, int | None]]:
    """Return the counts by which reports of a call may tell it: Anthropic's input alone, as some copy it, lacks what
    was cached.
    """
    told = {(prompt, completion)}
    if cached and prompt is not None:
        told.add((prompt - cached, completion))
    return told


@dataclass(slots=True)
class Decision:
    """Whether a span counts, why, and where its call is counted if not here."""

    counts: bool
    rule: int | None
    """None for an agent or a tool that turned out to be told by one alone."""
    counted_in: str | None = None
    lenders: list[str] = field(default_factory=list)
    """Other reports of the call, from which the counted span takes a user, session, tags, agent or prompt it lacks."""
    content_lenders: list[str] = field(default_factory=list)
    """Those of them that report this call alone, and so its messages."""
