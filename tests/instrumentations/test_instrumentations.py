"""Real instrumentations, live: what they send today maps to the same numbers as the captured payloads.

Run by ``make test-instrumentations`` in an environment of its own. A change in a library shows
here first; ``make capture-instrumentations`` then renews tests/fixtures/otlp.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from capture import run_scenario
from drive import SCENARIOS

from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import decode_traces

EXPECTED_COST = {
    "openai_v2": "0.00240016",
    "openai_v2_latest": "0.00240016",
    "openinference_openai": "0.00190016",
    "openinference_anthropic": "0.00666",
    "openinference_langchain": "0.001425",
    "traceloop_openai": "0.00190016",
    "traceloop_anthropic": "0.00666",
    "pydantic_ai": "0.001425",
    "logfire_openai": "0.00190016",
    "litellm": "0.00309",
    "langwatch": "0.0024",
}
"""What the calls of a scenario cost together, each once: see the usage constants of vendor_stub."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_of_a_scenario_cost_what_the_vendor_would_charge(scenario: str) -> None:
    body = run_scenario(scenario)["traces"].SerializeToString()
    batch = map_spans(decode_traces(body, "application/x-protobuf"), now=datetime.now(UTC))
    assert batch.rejected == []
    counted = [record for record in batch.records if record.is_generation]
    cost = sum((record.total_cost_usd or Decimal(0) for record in counted), Decimal(0))
    assert cost == Decimal(EXPECTED_COST[scenario])
    assert all(record.provider and record.model for record in counted)
    assert any(record.status_code == "ERROR" for record in counted)
