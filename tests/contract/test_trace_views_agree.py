"""One trace, asked for through REST, the JSON data source, Jaeger and Tempo: the same spans, four renderings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.conftest import AppServer, ProjectMaker
from tests.datasource.trace_backend_data import TRACE_ID, checkout_trace
from tests.span_factory import store

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class SeenSpan:
    """The figures of a span that every view must show. Times in microseconds, as Jaeger has no finer ones."""

    span_id: str
    parent: str
    name: str
    service: str
    start: int
    duration: int
    is_error: bool


@pytest.fixture
async def http(
    client: httpx.AsyncClient,
    app_server: AppServer,
    project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
) -> httpx.AsyncClient:
    """A reader of the project that holds the trace."""
    await project("alpha")
    await store(app_server.services, "alpha", checkout_trace())
    client.headers.update(bearer("viewer", ["alpha"]))
    return client


async def by_rest(http: httpx.AsyncClient) -> set[SeenSpan]:
    rows = (await http.get(f"/api/v1/traces/{TRACE_ID}")).json()["data"]["spans"]
    return {
        SeenSpan(
            row["span_id"],
            row["parent_span_id"] or "",
            row["span_name"],
            row["service_name"],
            (datetime.fromisoformat(row["ts"]) - EPOCH) // MICROSECOND,
            round(row["duration_ms"] * 1000),
            row["status_code"] == "ERROR",
        )
        for row in rows
    }


async def by_panel(http: httpx.AsyncClient) -> set[SeenSpan]:
    now = datetime.now(UTC)
    body = {
        "range": {"from": (now - timedelta(hours=1)).isoformat(), "to": now.isoformat()},
        "targets": [{"refId": "A", "target": "trace", "strict": True, "payload": {"trace_id": TRACE_ID}}],
    }
    (frame,) = (await http.post("/grafana/query", json=body)).json()
    names = [field["name"] for field in frame["schema"]["fields"]]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*frame["data"]["values"], strict=True)]
    return {
        SeenSpan(
            row["spanID"],
            row["parentSpanID"] or "",
            row["operationName"],
            row["serviceName"],
            round(row["startTime"] * 1000),
            round(row["duration"] * 1000),
            row["statusCode"] == 2,
        )
        for row in rows
    }


async def by_jaeger(http: httpx.AsyncClient) -> set[SeenSpan]:
    (trace,) = (await http.get(f"/jaeger/api/traces/{TRACE_ID}")).json()["data"]
    return {
        SeenSpan(
            span["spanID"],
            next((item["spanID"] for item in span["references"] if item["refType"] == "CHILD_OF"), ""),
            span["operationName"],
            trace["processes"][span["processID"]]["serviceName"],
            span["startTime"],
            span["duration"],
            any(tag["key"] == "error" and tag["value"] is True for tag in span["tags"]),
        )
        for span in trace["spans"]
    }


async def by_tempo(http: httpx.AsyncClient) -> set[SeenSpan]:
    answer = await http.get(f"/tempo/api/traces/{TRACE_ID}", headers={"Accept": "application/protobuf"})
    found = set()
    for resource in TracesData.FromString(answer.content).resource_spans:
        attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            found |= {
                SeenSpan(
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    attributes["service.name"],
                    span.start_time_unix_nano // 1000,
                    (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                )
                for span in scope.spans
            }
    return found


async def test_four_views_of_one_trace_agree(http: httpx.AsyncClient) -> None:
    expected = await by_rest(http)
    assert len(expected) == 3
    assert sum(span.is_error for span in expected) == 1
    assert await by_panel(http) == expected
    assert await by_jaeger(http) == expected
    assert await by_tempo(http) == expected
