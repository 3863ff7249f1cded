"""Grafana's built-in Jaeger data source gets what it asks for: recorded requests, exact shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.datasource.trace_backend_data import CALL_ID, ROOT_ID, TOOL_ID, TRACE_ID, checkout_trace
from tests.span_factory import make_span, store

FIXTURES = Path(__file__).parent.parent / "fixtures" / "grafana"
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
async def http(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Bearer
) -> httpx.AsyncClient:
    """A reader of project alpha, which holds the trace; beta holds one that must never show."""
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", checkout_trace())
    await store(app_server.services, "beta", make_span(service_name="secret", trace_id="f" * 32))
    client.headers.update(bearer("viewer", ["alpha"]))
    return client


def around_now(**more: str) -> str:
    now = datetime.now(UTC)
    start = int((now - timedelta(hours=1)).timestamp() * 1e6)
    return urlencode({"start": start, "end": int(now.timestamp() * 1e6), **more})


async def test_every_tag_that_is_shown_finds_its_trace(http: httpx.AsyncClient) -> None:
    trace = (await http.get(f"/jaeger/api/traces/{TRACE_ID}")).json()["data"][0]
    shown = [tag for span in trace["spans"] for tag in span["tags"]]
    shown += [tag for process in trace["processes"].values() for tag in process["tags"]]
    assert len({tag["key"] for tag in shown}) > 15
    for tag in shown:
        value = tag["value"]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        query = around_now(tags=json.dumps({tag["key"]: text}))
        found = (await http.get(f"/jaeger/api/traces?{query}")).json()["data"]
        assert [item["traceID"] for item in found or ()] == [TRACE_ID], tag
        other = around_now(tags=json.dumps({tag["key"]: "987654321"}))
        if tag["key"] != "error":
            assert (await http.get(f"/jaeger/api/traces?{other}")).json()["data"] in ([], None), tag


@pytest.mark.parametrize("trace_id", ["xyz", "0" * 32, "a" * 33, "12-34", "%20"])
async def test_an_id_that_no_trace_can_have_is_refused(http: httpx.AsyncClient, trace_id: str) -> None:
    for path in ("/jaeger/api/traces", "/tempo/api/traces", "/tempo/api/v2/traces"):
        assert (await http.get(f"{path}/{trace_id}")).status_code == 400, path
        assert (await http.get(f"{path}/{'1' * 32}")).status_code == 404, path


async def test_services_and_operations(http: httpx.AsyncClient) -> None:
    assert (await http.get("/jaeger/api/services")).json() == {
        "data": ["gateway", "web"],
        "total": 2,
        "limit": 0,
        "offset": 0,
        "errors": None,
    }
    operations = (await http.get("/jaeger/api/services/web/operations")).json()["data"]
    assert operations == ["execute_tool stock", "invoke_agent shopper"]
    named = (await http.get("/jaeger/api/operations?service=gateway")).json()["data"]
    assert named == [{"name": "chat gpt-5", "spanKind": ""}]


async def test_names_in_a_path_are_decoded(http: httpx.AsyncClient, app_server: AppServer) -> None:
    name = "shop/eu & café"
    await store(app_server.services, "alpha", make_span(service_name=name, span_name="chat"))
    answer = await http.get(f"/jaeger/api/services/{quote(name, safe='')}/operations")
    assert answer.json()["data"] == ["chat"]


async def test_a_trace_has_whole_microseconds_references_processes_and_typed_tags(http: httpx.AsyncClient) -> None:
    body = (await http.get(f"/jaeger/api/traces/{TRACE_ID}")).json()
    (trace,) = body["data"]
    assert trace["traceID"] == TRACE_ID
    spans = {span["spanID"]: span for span in trace["spans"]}
    assert set(spans) == {ROOT_ID, CALL_ID, TOOL_ID}
    for span in spans.values():
        assert type(span["startTime"]) is int
        assert type(span["duration"]) is int
        assert span["processID"] in trace["processes"]
    assert spans[ROOT_ID]["duration"] == 2_000_500
    assert spans[CALL_ID]["references"] == [
        {"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": ROOT_ID},
        {"refType": "FOLLOWS_FROM", "traceID": "1" * 32, "spanID": "2" * 16},
    ]
    tags = {tag["key"]: (tag["type"], tag["value"]) for tag in spans[CALL_ID]["tags"]}
    assert tags["gen_ai.response.model"] == ("string", "gpt-5")
    assert tags["gen_ai.usage.input_tokens"] == ("int64", 120)
    assert tags["team"] == ("string", "search")
    assert tags["nested"] == ("string", '{"a":[1,2]}')
    assert tags["gen_ai.input.text"] == ("string", "user: which shoes?")
    assert spans[CALL_ID]["logs"][0]["timestamp"] == spans[CALL_ID]["startTime"] + 210_000
    failed = {tag["key"]: tag["value"] for tag in spans[TOOL_ID]["tags"]}
    assert failed["error"] is True
    assert failed["otel.status_description"] == "no answer from stock"
    processes = {process["serviceName"]: process["tags"] for process in trace["processes"].values()}
    assert set(processes) == {"web", "gateway"}
    assert {"key": "host.name", "type": "string", "value": "web-1"} in processes["web"]


@pytest.mark.parametrize("trace_id", ["f" * 32, "e" * 32])
async def test_a_foreign_trace_and_an_unknown_one_are_the_same_404(http: httpx.AsyncClient, trace_id: str) -> None:
    answer = await http.get(f"/jaeger/api/traces/{trace_id}")
    assert answer.status_code == 404
    assert answer.json() == {
        "data": None,
        "total": 0,
        "limit": 0,
        "offset": 0,
        "errors": [{"code": 404, "msg": "There is no such trace"}],
    }


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"service": "gateway"}, True),
        ({"service": "gateway", "operation": "All"}, True),
        ({"service": "web", "operation": "chat gpt-5"}, False),
        ({"service": "gateway", "minDuration": "900ms", "maxDuration": "1s"}, True),
        ({"service": "gateway", "minDuration": "1s"}, False),
        ({"service": "web", "tags": '{"error":"true"}'}, True),
        ({"service": "gateway", "tags": '{"error":"true"}'}, False),
        ({"service": "gateway", "tags": '{"team":"search","gen_ai.response.model":"gpt-5"}'}, True),
        ({"service": "gateway", "tags": '{"model":"gpt-4"}'}, False),
        ({"service": "gateway", "tags": '{"gen_ai.usage.input_tokens":"120"}'}, True),
        ({"service": "secret"}, False),
    ],
)
async def test_search(http: httpx.AsyncClient, parameters: dict[str, str], found: bool) -> None:
    answer = await http.get(f"/jaeger/api/traces?{around_now(**parameters)}")
    assert answer.status_code == 200
    traces = answer.json()["data"]
    assert [trace["traceID"] for trace in traces] == ([TRACE_ID] if found else [])
    for trace in traces:
        assert len(trace["spans"]) == 3


async def test_the_root_stands_first_though_a_child_began_at_the_same_time(
    http: httpx.AsyncClient, app_server: AppServer
) -> None:
    at, trace_id = datetime.now(UTC) - timedelta(minutes=2), "e" * 32
    child = make_span(ts=at, trace_id=trace_id, span_id="0" * 15 + "1", parent_span_id="f" * 16, service_name="late")
    root = make_span(ts=at, trace_id=trace_id, span_id="f" * 16, span_name="the root", service_name="late")
    await store(app_server.services, "alpha", [child, root])
    (found,) = (await http.get(f"/jaeger/api/traces?{around_now(service='late')}")).json()["data"]
    assert found["spans"][0]["operationName"] == "the root", "Grafana names a trace after its first span"


async def test_a_refusal_is_no_json_that_passes_for_an_answer(http: httpx.AsyncClient) -> None:
    answer = await http.get("/jaeger/api/services", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()


async def test_dependencies_of_thousands_of_spans_are_quick(http: httpx.AsyncClient, app_server: AppServer) -> None:
    at = datetime.now(UTC) - timedelta(minutes=3)
    spans = [
        make_span(ts=at, trace_id=f"{number // 2:032x}", span_id=f"{number:016x}",
                  parent_span_id=f"{number - 1:016x}" if number % 2 else None,
                  service_name=("front", "back")[number % 2])
        for number in range(4000)
    ]  # fmt: skip
    await store(app_server.services, "alpha", spans)
    end = int(datetime.now(UTC).timestamp() * 1000)
    answer = await http.get(f"/jaeger/api/dependencies?endTs={end}&lookback=3600000", timeout=4)
    assert {"parent": "front", "child": "back", "callCount": 2000} in answer.json()["data"]


async def test_dependencies_count_calls_between_services(http: httpx.AsyncClient) -> None:
    end = int(datetime.now(UTC).timestamp() * 1000)
    for lookback in (3_600_000, 10**18 - 1):
        answer = await http.get(f"/jaeger/api/dependencies?endTs={end}&lookback={lookback}")
        assert answer.json()["data"] == [{"parent": "web", "child": "gateway", "callCount": 1}]


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("jaeger-*.json")))
async def test_recorded_requests_are_answered(http: httpx.AsyncClient, name: str) -> None:
    recorded = json.loads((FIXTURES / name).read_text())
    headers = {key: value for key, value in recorded["headers"].items() if key not in ("Authorization", "X-Grafana-Id")}
    answer = await http.request(recorded["method"], recorded["path"], headers=headers)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"data", "total", "limit", "offset", "errors"}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("tags=[1]", "tags"),
        ("tags={%22error", "tags"),
        ("minDuration=long", "minDuration"),
        ("start=x", "start"),
        ("start=20&end=10", "end"),
        ("limit=-1", "limit"),
        ("start=999999999999999999&end=999999999999999999", "start"),
        ("minDuration=" + "9" * 400 + "s", "minDuration"),
        ("tag=error:true", "tag"),
        ("traceID=" + "a" * 32, "traceID"),
    ],
)
async def test_bad_parameters_are_400_and_named(http: httpx.AsyncClient, query: str, word: str) -> None:
    answer = await http.get(f"/jaeger/api/traces?service=web&{query}")
    assert answer.status_code == 400
    assert word in answer.json()["errors"][0]["msg"]


async def test_billing_sees_times_and_tokens_but_no_content(http: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await http.get(f"/jaeger/api/traces/{TRACE_ID}", headers=bearer("billing", ["alpha"]))
    assert answer.status_code == 200
    for secret in ("which shoes", "red ones", "no answer from stock", "search"):
        assert secret not in answer.text
    assert "gen_ai.usage.input_tokens" in answer.text


async def test_without_a_credential_nothing_is_told(app_server: AppServer) -> None:
    async with httpx.AsyncClient(base_url=app_server.base_url) as anonymous:
        assert (await anonymous.get("/jaeger/api/services")).status_code == 401
