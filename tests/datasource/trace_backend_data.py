"""One trace over two services, for the tests of the trace protocols."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from server.ingest.mapping.span_record import SpanRecord
from tests.span_factory import make_span

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROOT_ID, CALL_ID, TOOL_ID = "00000000000000a1", "00000000000000a2", "00000000000000a3"


def checkout_trace(start: datetime | None = None) -> list[SpanRecord]:
    """Return an agent of service ``web`` that calls a model through service ``gateway`` and a tool that fails."""
    begin = start or datetime.now(UTC).replace(microsecond=123456) - timedelta(minutes=5)
    return [
        make_span(
            ts=begin,
            trace_id=TRACE_ID,
            span_id=ROOT_ID,
            span_name="invoke_agent shopper",
            span_kind="server",
            service_name="web",
            service_version="1.4.0",
            operation_type="agent",
            is_generation=False,
            provider=None,
            model=None,
            request_model=None,
            agent_name="shopper",
            duration_ms=2000.5,
            session_id="s-1",
            user_id="u-1",
            resource_attributes={"host.name": "web-1"},
        ),
        make_span(
            ts=begin + timedelta(milliseconds=100),
            trace_id=TRACE_ID,
            span_id=CALL_ID,
            parent_span_id=ROOT_ID,
            span_name="chat gpt-5",
            service_name="gateway",
            model="gpt-5",
            request_model="gpt-5",
            prompt_tokens=120,
            completion_tokens=30,
            total_tokens=150,
            total_cost_usd=Decimal("0.0015"),
            duration_ms=900.25,
            ttft_ms=210.0,
            input_text="user: which shoes?",
            output_text="assistant: the red ones",
            attributes={"team": "search", "nested": {"a": [1, 2]}},
            events=[
                {"name": "first token", "ts": (begin + timedelta(milliseconds=310)).isoformat(), "attributes": {"n": 1}}
            ],
            links=[{"trace_id": "1" * 32, "span_id": "2" * 16}],
        ),
        make_span(
            ts=begin + timedelta(milliseconds=1200),
            trace_id=TRACE_ID,
            span_id=TOOL_ID,
            parent_span_id=ROOT_ID,
            span_name="execute_tool stock",
            span_kind="internal",
            service_name="web",
            service_version="1.4.0",
            operation_type="tool",
            is_generation=False,
            provider=None,
            model=None,
            request_model=None,
            tool_name="stock",
            duration_ms=50.0,
            resource_attributes={"host.name": "web-1"},
            status_code="ERROR",
            error_type="TimeoutError",
            error_message="no answer from stock",
        ),
    ]
