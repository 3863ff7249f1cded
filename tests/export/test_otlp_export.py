"""format=otlp: spans that were exported and are taken in again are what they were."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from server.export.ndjson_format import TRAILER_KEY
from server.export.otlp_format import OtlpEncoder
from server.ingest.mapping.exported_spans import COLUMNS, EXPORT_SCOPE, RESERVED
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import decode_traces
from tests.conftest import AppServer
from tests.export.conftest import COUNT, NOW
from tests.ingest.spans_in_both_encodings import JSON
from tests.ingest.test_captured_payloads import SCENARIOS, rows
from tests.span_factory import make_span, store

EXPORT = "/api/v1/export/traces"
OWN = {column.name for column in dataclasses.fields(SpanRecord)}


def encoded(records: Sequence[SpanRecord]) -> bytes:
    """Return the file of ``records``, without its trailer."""
    # Not dataclasses.asdict(), which rebuilds messages from their items: known ones need more than that.
    return OtlpEncoder(trailer=False, rows_before=0).page(
        [{name: getattr(record, name) for name in OWN} for record in records]
    )


def joined(lines: bytes) -> bytes:
    """Return one request of all spans of a file."""
    resources = [resource for line in lines.splitlines() for resource in json.loads(line)["resourceSpans"]]
    return json.dumps({"resourceSpans": resources}).encode()


def taken_in(lines: bytes, now: datetime) -> list[SpanRecord]:
    batch = map_spans(decode_traces(joined(lines), JSON), now=now)
    assert batch.rejected == []
    return batch.records


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_real_instrumentations_sent_comes_back_as_it_was(scenario: str) -> None:
    records = rows(scenario)
    assert taken_in(encoded(records), max(record.ts for record in records) + timedelta(hours=1)) == records


def odd_spans() -> list[SpanRecord]:
    """Return spans with everything that a row can hold and that OTLP has no place for, or another one."""
    now = datetime.now(UTC).replace(microsecond=1)
    deep: Any = "end"
    for _ in range(20):
        deep = [deep]
    return [
        make_span(
            ts=now,
            parent_span_id="00000000000000aa",
            attributes={
                "otel.scope.name": "other",
                "gen_ai.request.model": "kept beside the column",
                "llm_observatory.attribute.x": 1,
                "llm_observatory.json.x": "no JSON",
                "large": 2**64 - 1,
                "deep": deep,
                "nothing": None,
                "list": [1, 1.0, True, None, "a", {"b": []}],
                "gen_ai.response.id": "resp-1",
            },
            resource_attributes={"service.name": "another name", "host.cpus": 8, "huge": 2**63},
            events=[
                {"name": "exception", "ts": "2026-11-01T00:00:00.000001Z", "attributes": {"large": 2**63}},
                {"name": "no time", "ts": None, "attributes": {}, "dropped_attributes_count": 3},
            ],
            links=[{"trace_id": "ab" * 16, "span_id": "cd" * 8, "attributes": {"a": [1]}, "trace_state": "k=v"}],
            tags=["a", "b,c"],
            status_code="ERROR",
            error_type="RateLimitError",
            error_message="line one\nline two",
            usage_details={"input_audio": 3, "service_tier": "batch"},
            dropped={"input_text": {"original_length": 300_000}},
            prompt_cost_usd=Decimal("0.1234567891"),
            completion_cost_usd=Decimal("0.0000000001"),
            total_cost_usd=Decimal("0.1234567892"),
            cache_savings_usd=Decimal("-0.5000000000"),
            cost_source="computed",
            price_version="2026-11-01",
            usage_rule=3,
            count_rule=1,
            ttft_ms=12.345,
            input_type="text",
            input_text="a text without messages",
            output_text="another text than that of the messages",
            output_messages=[{"role": "assistant", "parts": [{"type": "text", "content": "said"}]}],
            finish_reason="stop",
        ),
        make_span(ts=now, status_code="UNSET", duration_ms=0.0, is_generation=False, operation_type="tool"),
    ]


def test_what_otlp_has_no_place_for_comes_back_as_it_was() -> None:
    records = odd_spans()
    assert taken_in(encoded(records), records[0].ts + timedelta(minutes=1)) == records


def test_every_column_is_in_the_file() -> None:
    native = {
        "ts", "trace_id", "span_id", "parent_span_id", "span_name", "span_kind", "duration_ms", "status_code",
        "error_message", "tags", "input_messages", "output_messages", "attributes", "resource_attributes", "events",
        "links",
    }  # fmt: skip
    assert {item.column for item in COLUMNS} | native | {"counted_in"} == OWN
    assert len(RESERVED) == len(COLUMNS) + 3


@pytest.mark.parametrize("item", COLUMNS, ids=lambda item: item.column)
@pytest.mark.parametrize("value", [{"intValue": "-1"}, {"stringValue": "x" * 300_000}, {"arrayValue": {}}, {}])
def test_a_hostile_value_costs_at_most_its_column(item: Any, value: dict[str, Any]) -> None:
    message = json.loads(encoded([make_span(ts=datetime.now(UTC))]))
    scope = message["resourceSpans"][0]["scopeSpans"][0]
    assert scope["scope"]["name"] == EXPORT_SCOPE
    attributes = scope["spans"][0]["attributes"]
    attributes[:] = [pair for pair in attributes if pair["key"] != item.attribute]
    attributes.append({"key": item.attribute, "value": value})
    (record,) = taken_in(json.dumps(message).encode(), datetime.now(UTC) + timedelta(minutes=1))
    found = getattr(record, item.column)
    assert found is None or found == "other" or isinstance(found, str | bool) or found == -1.0
    assert not isinstance(found, str) or len(found) <= 262_144


def test_costs_that_were_not_exported_are_computed_anew() -> None:
    record = make_span(ts=datetime.now(UTC), prompt_tokens=1000, completion_tokens=10, total_tokens=1010, count_rule=1)
    hidden = {"cost_source": None, "price_version": None, "total_cost_usd": None}
    lines = OtlpEncoder(trailer=False, rows_before=0).page([{**dataclasses.asdict(record), **hidden}])
    (found,) = taken_in(lines, datetime.now(UTC) + timedelta(minutes=1))
    assert (found.cost_source, found.total_cost_usd) == ("computed", Decimal("0.0026"))


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("project_id", "ingested_at")}


async def test_an_export_sent_to_another_project_gives_the_same_rows_and_sums(
    api: httpx.AsyncClient, app_server: AppServer, project: Any, bearer: Any
) -> None:
    await store(app_server.services, "alpha", odd_spans())
    await project("copy")
    answer = await api.get(EXPORT, params={"format": "otlp"})
    assert answer.status_code == 200, answer.text
    *lines, trailer = answer.content.splitlines()
    assert json.loads(trailer)["resourceSpans"] == []
    assert json.loads(trailer)[TRAILER_KEY]["rows"] == len(lines) == COUNT + 2
    for headers, body in ((bearer("admin", ["copy"]), joined(answer.content)), (bearer("admin", ["copy"]), lines[0])):
        sent = await api.post("/v1/traces", content=body, headers={**headers, "content-type": JSON})
        assert (sent.status_code, sent.json()) == (200, {})

    async def asked(path: str, project_id: str, **params: Any) -> Any:
        found = await api.get(path, params={**params, "project_id": project_id}, headers=bearer("admin", ["*"]))
        assert found.status_code == 200, found.text
        return json.loads(found.content, parse_float=Decimal)["data"]

    lists = [
        [comparable(row) for row in await asked("/api/v1/traces", name, fields="all", limit=1000)]
        for name in ("alpha", "copy")
    ]
    assert len(lists[0]) == COUNT + 2
    by_id = [{row["span_id"]: row for row in rows} for rows in lists]
    for span_id, row in by_id[0].items():
        assert by_id[1][span_id] == row
    window = {"from": (NOW - timedelta(days=1)).isoformat(), "to": (NOW + timedelta(hours=1)).isoformat()}
    sums = [
        await asked("/api/v1/metrics", name, metric="calls,total_tokens,cost", group_by="model", **window)
        for name in ("alpha", "copy")
    ]
    assert sums[0] == sums[1]


JUDGED = {
    "gen_ai.evaluation.name": "toxicity",
    "gen_ai.evaluation.score.value": {"doubleValue": 0.25},
    "gen_ai.evaluation.score.label": "low",
    "gen_ai.evaluation.explanation": "friendly",
    "gen_ai.evaluation.evaluator.id": "judge-1",
}


async def test_scores_are_events_of_their_spans_and_come_back_as_they_were(
    api: httpx.AsyncClient, app_server: AppServer, project: Any, bearer: Any
) -> None:
    """Of people, of a whole trace, of a text, and one that the sender had sent as an event and that stays one."""
    await project("copy")
    admin, now = bearer("admin", ["*"]), datetime.now(UTC)
    start = int((now - timedelta(minutes=1)).timestamp() * 1_000_000) * 1000
    attributes = [
        {"key": key, "value": value if isinstance(value, dict) else {"stringValue": value}}
        for key, value in JUDGED.items()
    ]
    ids = {"traceId": "5c" * 16, "spanId": "5c" * 8}
    event = {"name": "gen_ai.evaluation.result", "timeUnixNano": str(start + 7_000), "attributes": attributes}
    other = {"name": "note", "attributes": [{"key": "llm_observatory.score.id", "value": {"stringValue": "no score"}}]}
    span = {**ids, "name": "chat", "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**9),
            "events": [event, other]}  # fmt: skip
    leaf = {**ids, "spanId": "5d" * 8, "parentSpanId": "5c" * 8, "name": "tool", "startTimeUnixNano": str(start + 1000)}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span, leaf]}]}]}
    to_alpha = bearer("admin", ["alpha"])
    assert (await api.post("/v1/traces", json=body, headers=to_alpha)).json() == {}
    for score in (
        {"score_id": "by-a-person", "span_id": leaf["spanId"], "name": "helpful", "value": True, "source": "human",
         "comment": "öfter so " * 100},
        {"score_id": "of-the-trace", "name": "grade", "value": "B+"},
        {"score_id": "a number", "span_id": leaf["spanId"], "name": "helpful", "value": -3.5, "source": "eval"},
    ):  # fmt: skip
        answer = await api.post("/api/v1/scores", json={"trace_id": ids["traceId"], **score}, headers=to_alpha)
        assert answer.status_code == 201, answer.text

    async def shown(project_id: str) -> list[list[Any]]:
        answer = await api.get(f"/api/v1/traces/{ids['traceId']}", params={"project_id": project_id}, headers=admin)
        spans = [(item["span_id"], item["events"]) for item in answer.json()["data"]["spans"]]
        scores = answer.json()["data"]["scores"]
        return [spans, [{key: value for key, value in item.items() if key != "project_id"} for item in scores]]

    file = (await api.get(EXPORT, params={"format": "otlp", "trace_id": ids["traceId"]})).content
    told = [
        {item["key"] for item in event["attributes"]}
        for line in joined(file).splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for event in resource["scopeSpans"][0]["spans"][0].get("events", ())
        if event["name"] == "gen_ai.evaluation.result"
    ]
    assert len(told) == 4
    assert all({"gen_ai.evaluation.name", "llm_observatory.score.id"} <= names for names in told)
    for _ in range(2):
        sent = await api.post(
            "/v1/traces", content=joined(file), headers={**bearer("admin", ["copy"]), "content-type": JSON}
        )
        assert (sent.status_code, sent.json()) == (200, {})
    before, after = await shown("alpha"), await shown("copy")
    assert len(before[1]) == 4
    assert {score["created_by"] for score in before[1]} > {"judge-1"}
    assert after == before


def test_a_score_that_cannot_have_been_exported_costs_only_itself() -> None:
    (record,) = odd_spans()[1:]
    score = {
        "score_id": "s", "span_id": record.span_id, "name": "n", "data_type": "numeric", "value": 1.0,
        "string_value": None, "source": "api", "comment": None, "ts": record.ts, "created_by": None,
    }  # fmt: skip
    for change in ({"data_type": "text"}, {"source": "nobody"}, {"score_id": ""}, {"value": None}, {"value": "many"}):
        row = {**dataclasses.asdict(record), "scores": [{**score, **change}]}
        lines = OtlpEncoder(trailer=False, rows_before=0).page([row])
        batch = map_spans(decode_traces(joined(lines), JSON), now=record.ts + timedelta(minutes=1))
        assert batch.scores == [], change
        (found,) = batch.records
        assert found.events == record.events
        assert found.dropped == {"scores": {"reason": "no_score"}}


async def test_an_otlp_file_has_whole_spans_and_goes_on_where_it_was_cut(api: httpx.AsyncClient) -> None:
    for name, value in (("fields", "core"), ("view", "traces")):
        refused = await api.get(EXPORT, params={"format": "otlp", name: value})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["parameter"] == name
        job = await api.post("/api/v1/exports", json={"format": "otlp", name: [value] if name == "fields" else value})
        assert (job.status_code, job.json()["errors"][0]["pointer"]) == (400, f"/{name}")
