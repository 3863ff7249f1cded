"""A small believable history, the same in each test: six hours, two projects, agents, tools, errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from tests.span_factory import store

ACME, GLOBEX = "acme", "globex"
MODELS = (("openai", "gpt-5"), ("openai", "gpt-4.1"), ("anthropic", "claude-opus-4"))
TRACES = 48
HOSTILE_USER = '<img src=x onerror=alert(1)> "quoted" \\ 100% & co'


@dataclass(frozen=True)
class Seed:
    """The stored history: ``start`` to ``end`` are six hours; ``trace_id`` has agent, a tool, a model and an error."""

    start: datetime
    end: datetime
    trace_id: str

    def at(self, number: int) -> datetime:
        """Return the start of trace ``number``."""
        return self.start + timedelta(minutes=7.5 * number)

    def range(self) -> dict[str, Any]:
        """Return the range as Grafana writes it."""
        ends = {"from": iso(self.start), "to": iso(self.end)}
        return {**ends, "raw": dict(ends)}


def iso(at: datetime) -> str:
    """Format like JavaScript's ``toISOString``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


async def seed(services: Services) -> Seed:
    """Store the history in the projects acme and globex, which must exist."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if end.hour == 0:
        end -= timedelta(hours=1)  # counters begin with the UTC day: at its first moment there are none
    start = end - timedelta(hours=6)
    spans = [span for number in range(TRACES) for span in trace(number, start + timedelta(minutes=7.5 * number))]
    await store(services, ACME, spans)
    foreign = SpanRecord(
        ts=start + timedelta(minutes=5), trace_id="f" * 32, span_id="f" * 16, span_name="chat secret-model",
        provider="secret-provider", model="secret-model", operation_type="chat", is_generation=True,
        duration_ms=99.0, status_code="OK", user_id="secret-user", input_text="a secret", output_text="kept",
    )  # fmt: skip
    await store(services, GLOBEX, foreign)
    return Seed(start, end, f"{TRACES - 1:032x}")


def trace(number: int, at: datetime) -> list[SpanRecord]:
    """Trace ``number``: an agent that calls a tool and then a model. Every eighth fails."""
    provider, model = MODELS[number % len(MODELS)]
    failed = number % 8 == 7
    common: dict[str, Any] = {
        "trace_id": f"{number:032x}",
        "service_name": "checkout" if number % 2 else "search",
        "service_version": "1.1.0" if number >= TRACES // 2 else "1.0.0",
        "environment": "production" if number % 4 else "staging",
        "user_id": HOSTILE_USER if number % 12 == 5 else f"user-{number % 5}",
        "session_id": f"session-{number // 4}",
        "agent_name": "planner",
        "dialect": "genai",
        "resource_attributes": {"host.name": f"pod-{number % 3}"},
    }
    root = SpanRecord(
        **common, ts=at, span_id=f"{number:08x}00000001", span_name="invoke_agent planner", span_kind="server",
        operation_type="invoke_agent", duration_ms=1500.0 + 10 * number, status_code="ERROR" if failed else "OK",
    )  # fmt: skip
    tool = SpanRecord(
        **common, ts=at + timedelta(milliseconds=20), span_id=f"{number:08x}00000002",
        parent_span_id=root.span_id, span_name="execute_tool lookup", operation_type="execute_tool",
        tool_name="lookup", duration_ms=120.0, status_code="OK",
    )  # fmt: skip
    call = SpanRecord(
        **{**common, "agent_name": None}, ts=at + timedelta(milliseconds=200, microseconds=123),
        span_id=f"{number:08x}00000003", parent_span_id=root.span_id, span_name=f"chat {model}", span_kind="client",
        operation_type="chat", is_generation=True, provider=provider, model=model, request_model=model,
        prompt_name="answer", prompt_version="2" if number >= 30 else "1",
        input_type="messages", input_text=f"question {number}", output_text=f"answer {number}",
        input_messages=[{"role": "user", "parts": [{"type": "text", "content": f"question {number}"}]}],
        output_messages=[{"role": "assistant", "parts": [{"type": "text", "content": f"answer {number}"}]}],
        finish_reason="error" if failed else "stop", prompt_tokens=100 + number, completion_tokens=20 + number,
        total_tokens=120 + 2 * number, prompt_cost_usd=Decimal("0.001"), completion_cost_usd=Decimal("0.0002"),
        total_cost_usd=Decimal("0.0012"), cost_source="computed", duration_ms=400.0 + 25 * number,
        ttft_ms=80.0 + number, status_code="ERROR" if failed else "OK",
        error_type="rate_limit" if failed else None, error_message="429 too many requests" if failed else None,
        tags=["batch"] if number % 6 == 0 else [], attributes={"app.tier": "gold" if number % 3 else "free"},
        events=[{"name": "first_token", "ts": at.isoformat(), "attributes": {"n": 1}}],
    )  # fmt: skip
    return [root, tool, call]
