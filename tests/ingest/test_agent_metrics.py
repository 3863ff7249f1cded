"""Counters of coding agents become daily figures, each increase once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from server.ingest.mapping.agent_metrics import FIGURES
from tests.conftest import ProjectMaker
from tests.ingest.spans_in_both_encodings import JSON, PROTOBUF, attributes
from tests.ingest.test_agent_events import CAPTURED_NS, captured

HOUR_NS = 3600 * 10**9
DELTA, CUMULATIVE = 1, 2


def point(value: float, start: int, end: int, **values: Any) -> dict[str, Any]:
    named = {key.replace("__", "."): item for key, item in values.items()}
    return {
        "asDouble": value, "startTimeUnixNano": str(start), "timeUnixNano": str(end), "attributes": attributes(named),
    }  # fmt: skip


def metrics(name: str, *points: dict[str, Any], temporality: int = DELTA, **resource: Any) -> dict[str, Any]:
    named = {key.replace("__", "."): item for key, item in resource.items()}
    metric = {
        "name": name,
        "sum": {"aggregationTemporality": temporality, "isMonotonic": True, "dataPoints": list(points)},
    }
    return {
        "resourceMetrics": [{"resource": {"attributes": attributes(named)}, "scopeMetrics": [{"metrics": [metric]}]}]
    }


class Agents:
    """Sends metrics and reads figures as one project."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers

    async def send(self, document: dict[str, Any]) -> Any:
        response = await self.client.post("/v1/metrics", json=document, headers=self.headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def figures(self, **params: str) -> list[dict[str, Any]]:
        response = await self.client.get("/api/v1/analytics/coding-agents", params=params, headers=self.headers)
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()["data"]
        return rows


@pytest.fixture
async def agents(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker) -> Agents:
    await project("alpha")
    return Agents(client, bearer("developer", ["alpha"]))


async def test_what_claude_code_sends_by_default_is_counted_once(agents: Agents) -> None:
    shift = time.time_ns() - CAPTURED_NS
    for _ in range(2):
        body = captured("claude_code", "metrics", shift)
        response = await agents.client.post(
            "/v1/metrics", content=body, headers={**agents.headers, "content-type": JSON}
        )
        assert (response.status_code, response.json()) == (200, {})
    rows = {row["figure"]: row["value"] for row in await agents.figures(group_by="agent")}
    assert rows == {
        "sessions": 1.0, "cost_usd": pytest.approx(0.0018989999999999999), "tokens": 300.0, "active_seconds": 6.529,
    }  # fmt: skip
    by_kind = await agents.figures(figure="tokens", group_by="kind,model")
    assert next((row["kind"], row["model"]) for row in by_kind) == ("input", "claude-sonnet-4-5")


async def test_figures_are_split_by_person_repository_and_tool(agents: Agents) -> None:
    now = time.time_ns()
    edits = [
        point(2, now - HOUR_NS, now, user__email="kim@example.org", tool_name="Edit", decision="accept"),
        point(1, now - HOUR_NS, now, user__email="kim@example.org", tool_name="Edit", decision="reject"),
    ]
    await agents.send(metrics("claude_code.code_edit_tool.decision", *edits, vcs__repository__name="shop"))
    rows = await agents.figures(group_by="kind,person,repository,tool")
    assert rows == [
        {
            "figure": "edits",
            "kind": kind,
            "person": "kim@example.org",
            "repository": "shop",
            "tool": "Edit",
            "value": value,
        }
        for kind, value in (("accepted", 2.0), ("refused", 1.0))
    ]


async def test_of_a_cumulative_counter_only_the_increase_counts(agents: Agents) -> None:
    now = time.time_ns()
    began, again = now - 10 * HOUR_NS, now - HOUR_NS
    sent = [
        (5, began, now - 9),
        (5, began, now - 9),
        (8, began, now - 8),
        (7, began, now - 8),
        (3, again, now - 7),
        (1, again, now - 6),
    ]
    for value, start, end in sent:
        document = metrics("gemini_cli.session.count", point(value, start, end), temporality=CUMULATIVE)
        assert await agents.send(document) == {}
    (row,) = await agents.figures(group_by="agent")
    assert (row["agent"], row["value"]) == ("gemini_cli", 5 + 3 + 3 + 1)


async def test_other_points_are_dropped_and_the_answer_says_so_in_both_encodings(agents: Agents) -> None:
    now = time.time_ns()
    document = metrics("http.server.requests", point(1, now, now))
    answer = await agents.send(document)
    assert answer["partialSuccess"]["rejectedDataPoints"] == "1"
    assert "OTEL_METRICS_EXPORTER=none" in answer["partialSuccess"]["errorMessage"]
    body = ParseDict(document, ExportMetricsServiceRequest()).SerializeToString()
    headers = {**agents.headers, "content-type": PROTOBUF}
    response = await agents.client.post("/v1/metrics", content=body, headers=headers)
    assert ExportMetricsServiceResponse.FromString(response.content).partial_success.rejected_data_points == 1


@pytest.mark.parametrize("at", [1, 2**62])
async def test_a_point_of_an_impossible_time_is_dropped(agents: Agents, at: int) -> None:
    answer = await agents.send(metrics("claude_code.session.count", point(1, at, at)))
    assert answer["partialSuccess"]["rejectedDataPoints"] == "1"


@pytest.mark.parametrize("body", [b"[]", b'{"resourceMetrics": 5}', b"{"])
async def test_a_body_that_is_no_metrics_is_refused(agents: Agents, body: bytes) -> None:
    response = await agents.client.post("/v1/metrics", content=body, headers={**agents.headers, "content-type": JSON})
    assert response.status_code == 400


@pytest.mark.parametrize(("name", "value"), [("figure", "lies"), ("group_by", "shoe_size"), ("colour", "red")])
async def test_an_unknown_figure_group_or_parameter_is_an_error(agents: Agents, name: str, value: str) -> None:
    response = await agents.client.get("/api/v1/analytics/coding-agents", params={name: value}, headers=agents.headers)
    assert response.status_code == 400


async def test_money_needs_its_scope(
    agents: Agents, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    now = time.time_ns()
    await agents.send(metrics("claude_code.cost.usage", point(1, now, now)))
    headers = bearer("developer", ["alpha"], scopes=["metrics:read"])
    response = await client.get("/api/v1/analytics/coding-agents", headers=headers)
    assert response.json()["data"] == []
    assert "cost_usd" in FIGURES
