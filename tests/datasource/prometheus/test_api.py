"""Prometheus' HTTP API: forms of answers and errors, lists, and who may see what."""

from __future__ import annotations

from collections.abc import Callable
from time import time as now
from typing import Any

import httpx
import pytest

from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.datasource.seed import ACME, GLOBEX, Seed


async def test_each_type_of_result_has_its_form(prometheus: PrometheusClient) -> None:
    asked = {"time": "1700000000.25"}
    assert await prometheus.data("query", {"query": "1 / 0", **asked}) == {
        "resultType": "scalar", "result": [1700000000.25, "+Inf"],
    }  # fmt: skip
    assert await prometheus.data("query", {"query": '"text"', **asked}) == {
        "resultType": "string", "result": [1700000000.25, "text"],
    }  # fmt: skip
    assert await prometheus.data("query", {"query": "vector(0 / 0)", "time": "2023-11-14T22:13:20Z"}) == {
        "resultType": "vector", "result": [{"metric": {}, "value": [1700000000, "NaN"]}],
    }  # fmt: skip
    ranged = {"query": "time() * 1e16", "start": 1700000000, "end": 1700000059, "step": "30s"}
    assert await prometheus.data("query_range", ranged) == {
        "resultType": "matrix",
        "result": [
            {
                "metric": {},
                "values": [[1700000000, "1.7e+25"], [1700000030, "1.70000003e+25"]],
            }
        ],
    }


NUMBERS = {
    "1e21": "1e+21", "-1e-7": "-1e-07", "1.5e-10": "1.5e-10", "1e20": "100000000000000000000", "1e-6": "0.000001",
    "-1.25e300": "-1.25e+300", "5e-324": "5e-324", "9.999e-7": "9.999e-07", "-0": "-0", "-Inf": "-Inf",
}  # fmt: skip
"""What Prometheus writes for a number in a vector; as a scalar it has no exponent."""


@pytest.mark.parametrize(("number", "written"), NUMBERS.items())
async def test_very_large_and_very_small_samples_have_an_exponent(
    prometheus: PrometheusClient, number: str, written: str
) -> None:
    sample = await prometheus.data("query", {"query": f"vector({number})", "time": "1700000000"})
    assert sample["result"] == [{"metric": {}, "value": [1700000000, written]}]
    scalar = await prometheus.data("query", {"query": number, "time": "1700000000"})
    assert "e" not in scalar["result"][1]
    assert float(scalar["result"][1]) == float(written)


async def test_a_form_is_taken_like_a_query_string(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    form = {"query": "sum(increase(llm_calls_total[6h]))", "time": str(seeded_history.end.timestamp())}
    answer = await prometheus.http.post("/prometheus/api/v1/query", data=form, headers=prometheus.headers)
    assert answer.json()["data"]["result"][0]["value"][1] == "48"


RELABELLED = 'label_replace(vector(1), "a", "b", "", "")'
REFUSED: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("query", {"query": ""}, 400, "no expression found in input"),
    ("query", {"query": "sum(rate(llm_calls_total[5m])"}, 400, "1:30: parse error: unclosed left parenthesis"),
    ("query", {"query": "1 +\n nope(x)"}, 400, '2:2: parse error: unknown function with name "nope"'),
    ("query", {"query": "rate(llm_calls_total)"}, 400, "expected type range vector in call to function"),
    ("query", {"query": "sum(limitk(1, x))"}, 400, "1:5: parse error: aggregation limitk() is not supported"),
    ("query", {"query": "info(x)"}, 400, "1:1: parse error: function info() is not supported"),
    ("query", {"query": '{a="b" or c="d"}'}, 400, "1:8: parse error: alternatives between matchers"),
    ("query", {"query": "x + 1e400"}, 400, "1:5: parse error: number out of range"),
    ("query", {"query": "x[300y]"}, 400, "duration out of range"),
    ("query", {"query": "x @ 1e18"}, 400, "out of range"),
    ("query", {"query": "x @ 1e300"}, 400, "out of range"),
    ("query", {"query": "x @ -1"}, 400, "1:3: parse error: a negative timestamp"),
    ("query", {"query": "(" * 65 + "1" + ")" * 65}, 400, "nested deeper than 64 levels"),
    ("query", {"query": "1" + "+1" * 251}, 400, "more than 250 operators"),
    ("query", {"query": "x" + " " * 8192}, 400, "longer than 8192 characters"),
    ("query", {"query": 'x{a=~"("}'}, 400, "regex"),
    ("query", {"query": "1", "time": "yesterday"}, 400, 'cannot parse "yesterday" to a valid timestamp'),
    ("query", {"query": "1", "limit": "-1"}, 400, "limit must be non-negative"),
    ("query", {"query": "1", "lookback_delta": "long"}, 400, 'cannot parse "long" to a valid duration'),
    ("query", {"query": "x{a='b'"}, 400, "1:8: parse error: unexpected end of input"),
    ("query", {"query": f"vector(1) + on () (vector(1) or {RELABELLED})"}, 422, "many-to-many matching not allowed"),
    ("query", {"query": 'label_replace(vector(1), "a~", "", "", "")'}, 422, "invalid destination label name"),
    ("query", {"query": 'label_replace(vector(1), "a", "b", "", "(")'}, 422, "expression in label_replace(): ("),
    ("query_range", {"query": "1", "start": 1, "end": 0, "step": 1}, 400, "end timestamp must not be before"),
    ("query_range", {"query": "1", "start": 0, "end": 1, "step": 0}, 400, "zero or negative query resolution"),
    ("query_range", {"query": "1", "start": 0, "end": 11001, "step": 1}, 400, "11,000 points per timeseries"),
    ("query_range", {"query": "1", "start": 0, "step": 1}, 400, 'invalid parameter "end"'),
    (
        "query_range", {"query": "x[5m]", "start": 0, "end": 1, "step": 1}, 400,
        'invalid parameter "query": invalid expression type "range vector"',
    ),
    ("rules", {"type": "x"}, 400, 'invalid parameter "type": not supported value "x"'),
    ("metadata", {"limit_per_metric": "x"}, 400, 'invalid parameter "limit_per_metric"'),
    ("series", {}, 400, "no match[] parameter provided"),
    ("series", {"match[]": "sum(x)"}, 400, "expected a series selector"),
    ("query", {"query": "max_over_time(vector(1)[50y:1s])"}, 422, "more than 200000 steps"),
)  # fmt: skip


async def test_what_cannot_be_answered_says_why(prometheus: PrometheusClient) -> None:
    for path, params, status, text in REFUSED:
        found_status, kind, found = await prometheus.error(path, params)
        assert (found_status, kind) == (status, {400: "bad_data", 422: "execution"}[status]), (params, found)
        assert text in found, params


async def test_eleven_thousand_points_and_one_are_answered(prometheus: PrometheusClient) -> None:
    found = await prometheus.data("query_range", {"query": "1", "start": 0, "end": 11000, "step": 1})
    assert len(found["result"][0]["values"]) == 11001


async def test_times_that_no_calendar_has_are_answered(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    """Prometheus takes times from the year -6059 on; a calendar begins with the year 1."""
    for edge in (-62135596801, -99999999999, -253370764800, 253370764800):
        found = await prometheus.data("query", {"query": "llm_calls_total", "time": edge})
        assert found["resultType"] == "vector"
        for other in (-253370764800, 253370764800):
            asked = {"query": "llm_calls_total", "start": min(edge, other), "end": max(edge, other), "step": 1e11}
            assert (await prometheus.data("query_range", asked))["resultType"] == "matrix"
            asked["query"] = "llm_duration_seconds_bucket"
            assert isinstance(await prometheus.data("query_exemplars", asked), list)


async def test_lists_of_series_and_labels(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    window = {"start": seeded_history.start.timestamp(), "end": seeded_history.end.timestamp()}
    assert await prometheus.data("label/model/values", window) == ["claude-opus-4", "gpt-4.1", "gpt-5"]
    narrowed = {**window, "match[]": 'llm_calls_total{provider=~"open.*"}'}
    assert await prometheus.data("label/model/values", narrowed) == ["gpt-4.1", "gpt-5"]
    assert await prometheus.data("label/token_type/values") == [
        "cache_read", "cache_write", "input", "output", "reasoning",
    ]  # fmt: skip
    assert await prometheus.data("label/project/values", window) == [ACME]
    labels = await prometheus.data("labels", {**window, "match[]": "llm_duration_seconds_bucket"})
    assert {"__name__", "le", "model", "service", "environment"} <= set(labels)
    assert "token_type" not in labels
    found = await prometheus.data("series", {**window, "match[]": 'llm_tokens_total{model="gpt-5"}'})
    assert {series["token_type"] for series in found} == {"input", "output"}
    assert all(list(series) == sorted(series) and series["__name__"] == "llm_tokens_total" for series in found)
    early = {"start": window["start"] - 7200, "end": window["start"] - 3600, "match[]": "llm_calls_total"}
    assert await prometheus.data("series", early) == []
    cut = await prometheus.get("series", {**window, "match[]": "llm_calls_total", "limit": 2})
    assert len(cut.json()["data"]) == 2
    assert cut.json()["warnings"] == ["results truncated due to limit"]


async def test_a_range_that_ends_before_its_start_holds_nothing(prometheus: PrometheusClient) -> None:
    backwards = {"start": 10, "end": 5}
    assert await prometheus.data("series", {"match[]": "llm_calls_total", **backwards}) == []
    assert await prometheus.data("labels", backwards) == []
    assert await prometheus.data("label/model/values", backwards) == []


async def test_odd_expressions_are_answered_with_a_notice(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    end = seeded_history.end.timestamp()
    gauge = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
    quantile = "PromQL warning: quantile value should be between 0 and 1, got"
    for query, warnings, infos in (
        ("histogram_quantile(1.5, sum by (le) (rate(llm_duration_seconds_bucket[6h])))", [f"{quantile} 1.5"], []),
        ("quantile(-1, llm_calls_total)", [f"{quantile} -1"], []),
        ("quantile(0.5, llm_calls_total)", [], []),
        (
            "rate(llm_users_active[30m])",
            [],
            [f'{gauge} "llm_users_active"'],
        ),
        ("histogram_quantile(2, nothing_bucket)", [], []),
    ):
        answer = (await prometheus.get("query", {"query": query, "time": end})).json()
        assert (answer.get("warnings", []), answer.get("infos", [])) == (warnings, infos), query


async def test_statistics_count_what_was_read(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    end = seeded_history.end.timestamp()
    query = "sum by (model) (increase(llm_calls_total[1h])) / 2"
    asked = {"query": query, "start": end - 7200, "end": end, "step": 3600, "stats": "all"}
    for _ in range(2):  # computed, and from the cache
        found = await prometheus.data("query_range", asked)
        values = sum(len(series["values"]) for series in found["result"])
        assert found["stats"]["samples"] == {"totalQueryableSamples": values, "peakSamples": values}
        assert found["stats"]["timings"]["evalTotalTime"] > 0
    assert "stats" not in await prometheus.data("query_range", {**asked, "stats": ""})


async def test_the_look_back_says_how_long_the_present_value_stands(
    prometheus: PrometheusClient, seeded_history: Seed
) -> None:
    """A series that fell silent is zero for a day; what comes after now is known for as long as is asked."""
    query, later = "count(increase(llm_calls_total[6h]))", now() + 600
    assert (await prometheus.data("query", {"query": query, "time": later}))["result"] == []
    found = await prometheus.data("query", {"query": query, "time": later, "lookback_delta": "20m"})
    assert len(found["result"]) == 1


async def test_no_expression_opens_another_project(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], prometheus: PrometheusClient, seeded_history: Seed
) -> None:
    time = seeded_history.end.timestamp()
    everything = 'sum by (project) (increase({__name__=~"llm_calls_total", project=~".*"}[6h]))'
    assert await prometheus.instant(everything, time) == {ACME: 48}
    for matcher in (
        'project="globex"',
        'project=~"globex|acme", model="secret-model"',
        'service=~".*", project!="acme"',
    ):
        assert await prometheus.instant(f"sum(increase(llm_calls_total{{{matcher}}}[6h]))", time) == {}
    assert "secret-model" not in str(await prometheus.data("label/model/values", {"start": time - 21600, "end": time}))
    other = PrometheusClient(client, bearer("viewer", [GLOBEX]))
    assert await other.instant("sum by (model) (increase(llm_calls_total[6h]))", time) == {"secret-model": 1}


async def test_money_needs_its_scope(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], seeded_history: Seed
) -> None:
    poor = PrometheusClient(client, bearer("viewer", [ACME], scopes=["metrics:read"]))
    time = seeded_history.end.timestamp()
    status, kind, text = await poor.error("query", {"query": "sum(llm_cost_usd_total)", "time": time})
    assert (status, kind) == (403, "forbidden")
    assert "costs:read" in text
    assert "llm_cost_usd_total" not in await poor.data("metadata")
    assert "llm_cost_usd_total" not in await poor.data("label/__name__/values")
    by_pattern = await poor.instant('count by (__name__) ({__name__=~"llm_.*usd.*|llm_calls_total"})', time)
    assert set(by_pattern) == {"llm_calls_total"}


async def test_exemplars_are_the_longest_calls_of_their_series(
    prometheus: PrometheusClient, seeded_history: Seed, bearer: Callable[..., dict[str, str]]
) -> None:
    quantile = 'histogram_quantile(0.9, sum by (le) (rate(llm_duration_seconds_bucket{model="gpt-5"}[5m])))'
    asked = {"query": quantile, "start": seeded_history.start.timestamp(), "end": seeded_history.end.timestamp()}
    found = await prometheus.data("query_exemplars", asked)
    assert {series["seriesLabels"]["model"] for series in found} == {"gpt-5"}
    assert {series["seriesLabels"]["__name__"] for series in found} == {"llm_duration_seconds_bucket"}
    exemplars = [item for series in found for item in series["exemplars"]]
    assert len(exemplars) == 16
    longest = max(exemplars, key=lambda item: float(item["value"]))
    assert float(longest["value"]) == pytest.approx(0.4 + 0.025 * 45)
    assert int(longest["labels"]["trace_id"], 16) == 45
    assert await prometheus.data("query_exemplars", {**asked, "query": "llm_calls_total"}) == []
    foreign = PrometheusClient(prometheus.http, bearer("viewer", [GLOBEX]))
    assert await foreign.data("query_exemplars", asked) == []
    blind = PrometheusClient(prometheus.http, bearer("viewer", [ACME], scopes=["metrics:read"]))
    assert (await blind.get("query_exemplars", asked)).status_code == 403


async def test_the_tree_of_an_expression_has_the_form_of_prometheus(prometheus: PrometheusClient) -> None:
    query = 'sum by (model) (rate(llm_calls_total{service!="x"}[5m] offset 1h)) > bool on (model) -vector(2)'
    tree = await prometheus.data("parse_query", {"query": query})
    assert (tree["type"], tree["op"], tree["bool"]) == ("binaryExpr", ">", True)
    assert tree["matching"] == {"card": "one-to-one", "labels": ["model"], "on": True, "include": []}
    assert (tree["lhs"]["type"], tree["lhs"]["op"], tree["lhs"]["grouping"]) == ("aggregation", "sum", ["model"])
    call = tree["lhs"]["expr"]
    assert (call["func"]["name"], call["func"]["argTypes"]) == ("rate", ["matrix"])
    assert call["args"][0] == {
        "type": "matrixSelector", "name": "llm_calls_total", "range": 300_000, "offset": 3_600_000,
        "timestamp": None, "startOrEnd": None,
        "matchers": [{"type": "=", "name": "__name__", "value": "llm_calls_total"},
                     {"type": "!=", "name": "service", "value": "x"}],
    }  # fmt: skip
    assert tree["rhs"]["type"] == "unaryExpr"
    assert await prometheus.error("parse_query", {"query": "sum("})
