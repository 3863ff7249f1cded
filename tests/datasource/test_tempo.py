"""Grafana's built-in Tempo data source gets protobuf by id and strict JSON for searches."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from tests.conftest import AppServer, ProjectMaker
from tests.datasource.trace_backend_data import CALL_ID, ROOT_ID, TOOL_ID, TRACE_ID, checkout_trace
from tests.span_factory import make_span, store

FIXTURES = Path(__file__).parent.parent / "fixtures" / "grafana"
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
async def http(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Bearer
) -> httpx.AsyncClient:
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", checkout_trace())
    await store(app_server.services, "beta", make_span(service_name="secret", trace_id="f" * 32))
    client.headers.update(bearer("viewer", ["alpha"]))
    return client


def trace_of_v2(body: bytes) -> TracesData:
    """Return the trace in a TraceByIDResponse: field 1, length-delimited."""
    assert body[0] == 0x0A
    length, shift, position = 0, 0, 1
    while True:
        byte = body[position]
        length |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    assert position + length == len(body)
    return TracesData.FromString(body[position:])


async def test_echo_is_a_word_for_who_has_the_key(http: httpx.AsyncClient) -> None:
    answer = await http.get("/tempo/api/echo")
    assert (answer.status_code, answer.text) == (200, "echo")
    refused = await http.get("/tempo/api/echo", headers={"Authorization": "Bearer wrong"})
    assert refused.status_code == 401, "Save & test must not pass with a wrong key"


async def test_the_spoken_version_is_told(http: httpx.AsyncClient) -> None:
    """Grafana's editor asks before it offers anything."""
    answer = await http.get("/tempo/api/status/buildinfo")
    assert answer.status_code == 200
    major, minor, _ = (int(part) for part in answer.json()["version"].split("."))
    assert (major, minor) >= (2, 6), "older ones have no metrics"


@pytest.mark.parametrize("query", ["{ }", "{ status = error }", '{ resource.service.name = "web" }'])
async def test_every_span_of_an_answer_has_the_same_attributes(http: httpx.AsyncClient, query: str) -> None:
    """Grafana makes a column of each attribute, and columns of different lengths break its table."""
    traces = (await search(http, query))["traces"]
    spans = [span for trace in traces for spans in trace["spanSets"] for span in spans["spans"]]
    assert spans
    assert len({tuple(item["key"] for item in span["attributes"]) for span in spans}) == 1


@pytest.mark.parametrize("path", ["/tempo/api/traces/", "/tempo/api/v2/traces/"])
async def test_a_trace_by_id_keeps_the_converters_rules(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path + TRACE_ID, headers={"Accept": "application/protobuf"})
    assert answer.headers["content-type"] == "application/protobuf"
    trace = trace_of_v2(answer.content) if "v2" in path else TracesData.FromString(answer.content)
    spans: dict[str, Span] = {}
    for resource in trace.resource_spans:
        assert resource.resource.attributes
        for scope in resource.scope_spans:
            assert scope.HasField("scope")
            for span in scope.spans:
                assert span.HasField("status")
                spans[span.span_id.hex()] = span
    assert set(spans) == {ROOT_ID, CALL_ID, TOOL_ID}
    assert spans[CALL_ID].trace_id.hex() == TRACE_ID
    assert spans[CALL_ID].parent_span_id.hex() == ROOT_ID
    assert spans[ROOT_ID].end_time_unix_nano - spans[ROOT_ID].start_time_unix_nano == 2_000_500_000
    assert spans[TOOL_ID].status.code == Status.STATUS_CODE_ERROR
    attributes = {item.key: item.value for item in spans[CALL_ID].attributes}
    assert attributes["gen_ai.usage.input_tokens"].int_value == 120
    assert spans[CALL_ID].events[0].name == "first token"
    assert spans[CALL_ID].links[0].trace_id.hex() == "1" * 32


async def test_an_id_without_its_leading_zeros_is_found(http: httpx.AsyncClient, app_server: AppServer) -> None:
    await store(app_server.services, "alpha", make_span(trace_id="0" * 16 + "1234567890abcdef"))
    assert (await http.get("/tempo/api/traces/1234567890ABCDEF")).status_code == 200


async def test_ids_that_are_not_hexadecimal_are_shown_too(http: httpx.AsyncClient, app_server: AppServer) -> None:
    spans = [
        make_span(trace_id="imported-1", span_id="root"),
        make_span(trace_id="imported-1", span_id="leaf", parent_span_id="root"),
    ]
    await store(app_server.services, "alpha", spans)
    trace = TracesData.FromString((await http.get("/tempo/api/traces/imported-1")).content)
    root, leaf = sorted(
        (span for resource in trace.resource_spans for scope in resource.scope_spans for span in scope.spans),
        key=lambda span: len(span.parent_span_id),
    )
    assert leaf.parent_span_id == root.span_id
    assert len(root.trace_id) == 16


@pytest.mark.parametrize("trace_id", ["f" * 32, "e" * 32])
async def test_foreign_and_unknown_traces_are_404_on_both_paths(http: httpx.AsyncClient, trace_id: str) -> None:
    for path in ("/tempo/api/traces/", "/tempo/api/v2/traces/"):
        answer = await http.get(path + trace_id)
        assert (answer.status_code, answer.text) == (404, "There is no such trace")


async def search(http: httpx.AsyncClient, query: str, **more: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())
    parameters = urlencode({"q": query, "start": now - 3600, "end": now + 1, "limit": 20, **more})
    answer = await http.get(f"/tempo/api/search?{parameters}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"traces", "metrics"}
    return body


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        ("{}", {ROOT_ID, CALL_ID, TOOL_ID}),
        ('{ resource.service.name = "gateway" }', {CALL_ID}),
        ("{resource.service.name=gateway}", {CALL_ID}),
        ('{ span.gen_ai.request.model = "gpt-5" && duration > 100ms }', {CALL_ID}),
        ("{ status = error }", {TOOL_ID}),
        ('{ name =~ "chat.*|execute.*" }', {CALL_ID, TOOL_ID}),
        ('{ name !~ "chat.*" && resource.service.name != "x" }', {ROOT_ID, TOOL_ID}),
        ('{ span.team = "search" || kind = server }', {ROOT_ID, CALL_ID}),
        ("{ span.gen_ai.usage.output_tokens >= 30 }", {CALL_ID}),
        ("{ duration > 1h }", set()),
        ('{ resource.service.name = "secret" }', set()),
    ],
)
async def test_traceql(http: httpx.AsyncClient, query: str, matched: set[str]) -> None:
    traces = (await search(http, query))["traces"]
    assert len(traces) == (1 if matched else 0)
    for trace in traces:
        assert trace["traceID"] == TRACE_ID
        assert trace["rootTraceName"] == "invoke_agent shopper"
        assert trace["rootServiceName"] == "web"
        assert type(trace["startTimeUnixNano"]) is str
        assert type(trace["durationMs"]) is int
        (spans,) = trace["spanSets"]
        assert spans["matched"] == len(matched)
        assert {span["spanID"] for span in spans["spans"]} == matched


_VALUE = dict.fromkeys(("stringValue", "intValue", "doubleValue", "boolValue"))
_KEY_VALUE = {"key": None, "value": _VALUE}
_SPAN_SET = {
    "matched": None,
    "attributes": _KEY_VALUE,
    "spans": {
        **dict.fromkeys(("spanID", "name", "startTimeUnixNano", "durationNanos")), "attributes": _KEY_VALUE,
    },
}  # fmt: skip
_EXEMPLAR = {"labels": _KEY_VALUE, "value": None, "timestampMs": None}
_SAMPLE = {"timestampMs": None, "value": None}
TEMPOPB: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("search", {"q": "{ } | select(span.team, status)"}, {
        "metrics": {},
        "traces": {
            **dict.fromkeys(("traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs")),
            "spanSets": _SPAN_SET,
        },
    }),
    ("v2/search/tags", {}, {"scopes": {"name": None, "tags": None}}),
    ("v2/search/tag/span.team/values", {}, {"tagValues": {"type": None, "value": None}}),
    ("search/tags", {}, {"tagNames": None}),
    ("search/tag/status/values", {}, {"tagValues": None}),
    ("metrics/query_range", {"q": "{ } | rate() by (status)", "exemplars": "9"}, {
        "metrics": {}, "series": {"labels": _KEY_VALUE, "samples": _SAMPLE, "exemplars": _EXEMPLAR},
    }),
    ("metrics/query", {"q": "{ } | quantile_over_time(duration, 0.5)"}, {
        "metrics": {}, "series": {"labels": _KEY_VALUE, "value": None},
    }),
]  # fmt: skip
"""Address, parameters, and the members that the messages of Tempo's protobuf have: Grafana fails on any other."""


def _strangers(known: dict[str, Any] | None, value: Any) -> list[str]:
    """Return the members of ``value``, at any depth, that ``known`` does not have."""
    if isinstance(value, list):
        return [name for item in value for name in _strangers(known, item)]
    if not isinstance(value, dict):
        return []
    members = known or {}
    here = [name for name in value if name not in members]
    return here + [name for key in value if key in members for name in _strangers(members[key], value[key])]


async def test_answers_have_only_the_members_of_tempos_messages(http: httpx.AsyncClient) -> None:
    for path, parameters, known in TEMPOPB:
        answer = await http.get(f"/tempo/api/{path}", params=parameters)
        assert answer.status_code == 200, (path, answer.text)
        assert all(answer.json().values()) or "metrics" in known, path
        assert _strangers(known, answer.json()) == [], path


async def test_spans_of_a_set_are_limited_but_counted(http: httpx.AsyncClient) -> None:
    (trace,) = (await search(http, "{}", spss=1))["traces"]
    assert len(trace["spanSets"][0]["spans"]) == 1
    assert trace["spanSets"][0]["matched"] == 3


@pytest.mark.parametrize(
    "query",
    ["{", "{ a }", "{ duration > soon }", "{ status = great }", "{} | rate()", "{ name =~ `(a+)+` }", "x" * 5000],
)
async def test_what_is_not_understood_is_400_in_words(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get("/tempo/api/search", params={"q": query})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text


@pytest.mark.parametrize("name", ["tags", "minDuration", "maxDuration"])
async def test_filters_of_older_versions_are_refused_not_ignored(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get("/tempo/api/search", params={name: "x"})
    assert (answer.status_code, answer.text) == (400, f"{name}: is not supported here; write it as TraceQL in q")


async def test_names_and_values_of_attributes(http: httpx.AsyncClient) -> None:
    tags = {scope["name"]: scope["tags"] for scope in (await http.get("/tempo/api/v2/search/tags")).json()["scopes"]}
    assert "service.name" in tags["resource"]
    assert "gen_ai.request.model" in tags["span"]
    assert {"name", "status", "duration", "kind"} <= set(tags["intrinsic"])

    async def values(name: str, query: str = "") -> list[str]:
        answer = await http.get(f"/tempo/api/v2/search/tag/{name}/values", params={"q": query} if query else {})
        assert answer.status_code == 200, answer.text
        return [item["value"] for item in answer.json()["tagValues"]]

    assert await values("resource.service.name") == ["gateway", "web"]
    assert await values("resource.service.name", "{ status = error }") == ["web"]
    assert await values("span.gen_ai.request.model") == ["gpt-5"]
    assert await values("span.team") == ["search"]
    assert await values("span%2Eteam") == ["search"]
    assert await values("span%3Astatus") == ["error", "ok", "unset"]
    assert await values("status") == ["error", "ok", "unset"]
    assert await values("duration") == []


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("tempo-*.json")))
async def test_recorded_requests_are_answered(http: httpx.AsyncClient, name: str) -> None:
    recorded = json.loads((FIXTURES / name).read_text())
    headers = {key: value for key, value in recorded["headers"].items() if key not in ("Authorization", "X-Grafana-Id")}
    answer = await http.request(recorded["method"], recorded["path"], headers=headers)
    assert answer.status_code == 200, answer.text


async def test_billing_gets_no_content(http: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await http.get(f"/tempo/api/traces/{TRACE_ID}", headers=bearer("billing", ["alpha"]))
    assert answer.status_code == 200
    for secret in (b"which shoes", b"no answer from stock", b"search"):
        assert secret not in answer.content
    values = await http.get("/tempo/api/v2/search/tag/span.team/values", headers=bearer("billing", ["alpha"]))
    assert values.json() == {"tagValues": []}


SEMANTICS = [
    # A comparison with a missing attribute is false, whatever its sign.
    ('{ span.team != "x" }', {CALL_ID}),
    ('{ span.team !~ "x.*" }', {CALL_ID}),
    ('{ !(span.team = "x") }', {ROOT_ID, CALL_ID, TOOL_ID}),
    ("{ span.team = nil }", {ROOT_ID, TOOL_ID}),
    ("{ nil != span.team }", {CALL_ID}),
    ("{ 1s < duration }", {ROOT_ID}),
    ('{ "gateway" = resource.service.name }', {CALL_ID}),
    ("{ resource.host.name != nil && true }", {ROOT_ID, TOOL_ID}),
    ('{ event:name = "first token" }', {CALL_ID}),
    ('{ event:name != "first token" }', set()),
    ("{ event.n = 1 }", {CALL_ID}),
    ("{ event.n > 1 }", set()),
    ('{ event:name =~ "first.*" }', {CALL_ID}),
    (f'{{ link:traceID = "{"1" * 32}" }}', {CALL_ID}),
    ('{ link:spanID = "3333333333333333" }', set()),
    ('{ rootName = "invoke_agent shopper" }', {ROOT_ID, CALL_ID, TOOL_ID}),
    ('{ rootServiceName = "gateway" }', set()),
    ("{ traceDuration > 2s && status = error }", {TOOL_ID}),
    ("{ traceDuration > 3s }", set()),
    ('{ statusMessage =~ "no answer.*" }', {TOOL_ID}),
    ('{ statusMessage =~ "answer" }', set()),
    ('{ span:statusMessage !~ ".*stock" }', set()),
    ("{ nestedSetParent < 0 }", {ROOT_ID}),
    (f"{{ trace:id = {TRACE_ID.upper()} && kind = internal }}", {TOOL_ID}),
    (f'{{ trace:id = "{TRACE_ID.lstrip("0").upper()}" && status = error }}', {TOOL_ID}),
    ("{ nestedSetParent < 0 } >> { status = error }", {TOOL_ID}),
    ("{ nestedSetParent < 0 } > { }", {CALL_ID, TOOL_ID}),
    ("{ status = error } << { }", {ROOT_ID}),
    ("{ status = error } < { kind = server }", {ROOT_ID}),
    ("{ status = error } >> { }", set()),
    ("{ status = error } ~ { }", {CALL_ID}),
    ("{ nestedSetParent < 0 } !> { }", {ROOT_ID}),
    ("{ nestedSetParent < 0 } &>> { status = error }", {ROOT_ID, TOOL_ID}),
    ('{ name =~ "chat.*" } && { status = error }', {CALL_ID, TOOL_ID}),
    ("{ duration > 1h } && { status = error }", set()),
    ("{ duration > 1h } || { status = error }", {TOOL_ID}),
    ('({ name =~ "chat.*" } || { status = error }) && { kind = server }', {ROOT_ID, CALL_ID, TOOL_ID}),
    ("{ } | count() > 2", {ROOT_ID, CALL_ID, TOOL_ID}),
    ("{ } | count() > 3", set()),
    ("{ kind = internal } | avg(duration) < 1s", {TOOL_ID}),
    ("{ } | max(duration) > 2.1s", set()),
    ("{ } | sum(span.gen_ai.usage.output_tokens) = 30", {ROOT_ID, CALL_ID, TOOL_ID}),
    ("{ } | { status = error } | count() = 1", {TOOL_ID}),
]


async def test_traceql_means_what_it_means_in_tempo(http: httpx.AsyncClient) -> None:
    for query, matched in SEMANTICS:
        traces = (await search(http, query, spss=10))["traces"]
        found = {span["spanID"] for trace in traces for spans in trace["spanSets"] for span in spans["spans"]}
        assert found == matched, query


async def test_selected_attributes_stand_in_every_span(http: httpx.AsyncClient) -> None:
    (trace,) = (await search(http, "{ } | select(span.team, duration, resource.host.name)", spss=10))["traces"]
    shown = {
        span["spanID"]: {item["key"]: item["value"]["stringValue"] for item in span["attributes"]}
        for span in trace["spanSets"][0]["spans"]
    }
    assert {frozenset(keys) for keys in shown.values()} == {
        frozenset({"service.name", "gen_ai.response.model", "status", "team", "duration", "host.name"})
    }
    assert (shown[CALL_ID]["team"], shown[ROOT_ID]["team"], shown[TOOL_ID]["host.name"]) == ("search", "", "web-1")


MISTAKES = [
    ("{ duration > soon }", "at character 14: 'soon' is not a duration"),
    ("{ status = great }", "status is one of error, ok, unset"),
    ("{ bogus = 1 }", "at character 3: unknown intrinsic 'bogus'; known are"),
    ("{ trace:id = zzz }", "'zzz' is not a trace id"),
    ("{ a", "at character 4: expected '}', found 'the end'"),
    ("{ } | topk(3)", "at character 7: the stage 'topk' is not supported; supported are count"),
    ("{ } | count()", "compare it: count() > 2"),
    ("{ } | avg() > 1", "write avg(duration) > 1s"),
    ("{ } | rate()", "is a metrics query"),
    ("{ } >> ", "expected '{', found 'the end'"),
    ("{ } } ", "'}' is not understood here"),
    ("{ span.a = span.b }", "is compared with a value, not with another attribute"),
    ("{ nestedSetParent = 7 }", "nestedSetParent < 0"),
    ("{ span.a + 1 > 2 }", "at character 10: span.a + … is not supported: compare one attribute with one value"),
    ("{ duration > 2 * 1s }", "at character 16: 2 * … is not supported"),
    ('{ duration =~ "1.*" }', "at character 3: duration cannot be compared by =~; it can by =, !=, >, >=, <, <=, nil"),
    ("{ statusMessage > 1 }", "statusMessage cannot be compared by >; it can by =, !="),
    ("{ .x > nil }", "nil is compared by = or !="),
    (" && ".join(["{ }"] * 17), "at character 113: more than 16 spansets"),
    ("((" + " || ".join(["{ .x = 1 }"] * 8) + ")) >> " + " ~ ".join(["{ }"] * 9), "more than 16 spansets"),
    ("{ }" + " | { .x = 1 }" * 16, "more than 16 spansets"),
    ("{ } | compare({ })" + " | { }" * 15, "nothing may follow compare()"),
    (" | ".join(["{ " + " && ".join([".x = 1"] * 17) + " }"] * 3), "more than 50 comparisons"),
    ("{ " + " || ".join(["!(.x)"] * 51) + " }", "more than 50 comparisons"),
]


async def test_a_mistake_is_named_with_its_place(http: httpx.AsyncClient) -> None:
    for query, text in MISTAKES:
        answer = await http.get("/tempo/api/search", params={"q": query})
        assert answer.status_code == 400, (query, answer.text)
        assert text in answer.text, query


MOST = [
    " && ".join(["{ }"] * 16),
    " | ".join(["{ " + " && ".join(["span.team != 1"] * 3) + " }"] * 16),
    "{ " + " || ".join(["span.team = `x`"] * 50) + " }",
]


@pytest.mark.parametrize("query", MOST)
async def test_the_largest_queries_are_answered(http: httpx.AsyncClient, query: str) -> None:
    await search(http, query)


async def test_metrics_count_the_same_spans(http: httpx.AsyncClient) -> None:
    now = int(datetime.now(UTC).timestamp())
    window: dict[str, str | int] = {"start": now // 3600 * 3600 - 3600, "end": now + 60, "step": "1h"}

    async def series(query: str) -> dict[tuple[Any, ...], float]:
        answer = await http.get("/tempo/api/metrics/query_range", params={"q": query, **window, "exemplars": "10"})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert set(body) == {"series", "metrics"}
        for item in body["series"]:
            assert set(item) == {"labels", "samples", "exemplars"}
        return {
            tuple(next(iter(label["value"].values())) for label in item["labels"]): sum(
                sample["value"] for sample in item["samples"]
            )
            for item in body["series"]
        }

    assert await series("{ } | count_over_time()") == {("count_over_time",): 3}
    assert await series("{ nestedSetParent<0 && true } | rate() with(sample=true)") == {
        ("rate",): pytest.approx(1 / 3600)
    }
    assert await series("{ } | count_over_time() by (resource.service.name, status)") == {
        ("web", "ok"): 1,
        ("web", "error"): 1,
        ("gateway", "ok"): 1,
    }
    assert await series("{ } | count_over_time() by (span.team)") == {("search",): 1, ("nil",): 2}
    assert await series("{ kind = server } | max_over_time(duration)") == {
        ("max_over_time",): pytest.approx(2, rel=0.01)
    }
    assert await series("{ kind = server } | quantile_over_time(duration, 0.5, 0.9)") == {
        ("quantile_over_time", 0.5): pytest.approx(2, rel=0.01),
        ("quantile_over_time", 0.9): pytest.approx(2, rel=0.01),
    }
    assert await series("{ } | sum_over_time(duration)") == {("sum_over_time",): pytest.approx(2.95075)}
    assert await series("{ } | avg_over_time(span.gen_ai.usage.output_tokens)") == {("avg_over_time",): 30}
    buckets = await series("{ } | histogram_over_time(duration)")
    assert sum(buckets.values()) == 3
    compared = await series("{ } | compare({ status = error }, 5)")
    assert compared["selection", "web"] == 1
    assert compared["baseline", "gateway"] == 1
    instant = await http.get(
        "/tempo/api/metrics/query", params={"q": "{ } | count_over_time()", "start": now - 3600, "end": now + 60}
    )
    assert instant.json()["series"][0]["value"] == 3
    for query in ("{ }", "{ } | rate() | rate()", "{ } >> { } | rate()", "{ } | quantile_over_time(name, 0.5)"):
        refused = await http.get("/tempo/api/metrics/query_range", params={"q": query, **window})
        assert refused.status_code == 400, query
