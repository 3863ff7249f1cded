"""An agent's sum counts where the spans of its calls tell the usage of the last step alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from server.ingest.counting.call_counting import decide_counts
from server.ingest.counting.count_rules import LAST_STEP, SpanView

VOLT = "@voltagent/core"


def view(name: str, parent: str | None, operation: str, tokens: tuple[int, int] | None, **fields: Any) -> SpanView:
    prompt, completion = tokens or (None, None)
    values = {
        "span_id": name, "parent_span_id": parent, "start_us": 0, "end_us": 1_000_000, "operation": operation,
        "kind": "internal", "reports": tokens is not None or operation == "chat", "model": "gpt-4o", "scope": VOLT,
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": sum(tokens) if tokens else None,
    }  # fmt: skip
    return SpanView(**values | fields)


@pytest.mark.parametrize(
    ("spans", "counted"),
    [
        pytest.param(
            [view("run", None, "agent", (240, 60)), view("call", "run", "chat", (120, 30))], {"run"}, id="two steps"
        ),
        pytest.param(
            [view("run", None, "agent", (120, 30)), view("call", "run", "chat", (120, 30))], {"call"}, id="one step"
        ),
        pytest.param([view("call", "run", "chat", (120, 30))], {"call"}, id="the agent has not come"),
        pytest.param(
            [
                view("run", None, "agent", (240, 60)),
                view("call", "run", "chat", (120, 30)),
                view("tried", "run", "chat", None, has_error=True),
            ],
            {"run", "tried"},
            id="a call that failed before stays one",
        ),
        pytest.param(
            [
                view("boss", None, "agent", (240, 60)),
                view("call", "boss", "chat", (100, 30)),
                view("tool", "boss", "tool", None),
                view("helper", "tool", "agent", (90, 20)),
                view("its call", "helper", "chat", (50, 10)),
            ],
            {"boss", "helper"},
            id="an agent below has a sum of its own",
        ),
        pytest.param(
            [
                view("run", None, "agent", (240, 60), scope="other"),
                view("call", "run", "chat", (120, 30), scope="other"),
            ],
            {"call"},
            id="another instrumentation",
        ),
        pytest.param(
            [
                view("run", None, "agent", (240, 60)),
                view("call", "run", "chat", (120, 30)),
                view("step 1", "call", "chat", (120, 30), scope="ai"),
                view("step 2", "call", "chat", (120, 30), scope="ai", start_us=500_000),
            ],
            {"step 1", "step 2"},
            id="another instrumentation tells every step",
        ),
    ],
)
def test_what_counts(spans: list[SpanView], counted: set[str]) -> None:
    for order in itertools.permutations(spans):
        decisions = decide_counts(order)
        assert {name for name, decision in decisions.items() if decision.counts} == counted
        for decision in decisions.values():
            assert decision.rule != LAST_STEP or decision.counted_in in counted
