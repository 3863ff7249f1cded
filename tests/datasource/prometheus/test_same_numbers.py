"""One question, one number: PromQL, REST and a panel agree, and so do an instant and a step of a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import time as now

import asyncpg
import pytest

from datasource.prometheus import shared_counts
from server.queries.metrics import counter_reader
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.window_sums import WindowCounts
from server.storage.database import Database
from server.storage.row_scope import RowScope
from tests.datasource.grafana_client import query_body
from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.datasource.seed import Seed, iso

HOUR = 3600
SAME = (
    ("calls", "sum by (model) (increase(llm_calls_total[1h]))", 1),
    ("errors", "sum by (model) (increase(llm_errors_total[1h]))", 1),
    ("cost", "sum by (model) (increase(llm_cost_usd_total[1h]))", 1),
    ("total_tokens", "sum by (model) (increase(llm_tokens_total[1h]))", 1),
    ("prompt_tokens", 'sum by (model) (increase(llm_tokens_total{token_type="input"}[1h]))', 1),
    ("completion_tokens", 'sum by (model) (increase(llm_tokens_total{token_type="output"}[1h]))', 1),
    ("throughput", "sum by (model) (rate(llm_calls_total[1h]))", 1),
    ("error_rate", "sum by (model) (rate(llm_errors_total[1h])) / sum by (model) (rate(llm_calls_total[1h]))", 1),
    ("duration_p95", "histogram_quantile(0.95, sum by (le, model) (rate(llm_duration_seconds_bucket[1h])))", 1000),
    ("duration_p50", "histogram_quantile(0.5, sum by (model) (rate(llm_duration_seconds[1h])))", 1000),
    (
        "duration_avg",
        "sum by (model) (rate(llm_duration_seconds_sum[1h])) / sum by (model) (rate(llm_duration_seconds_count[1h]))",
        1000,
    ),
    (
        "time_to_first_token_p50",
        "histogram_quantile(0.5, sum by (le, model) (rate(llm_time_to_first_token_seconds_bucket[1h])))",
        1000,
    ),
)


@pytest.mark.parametrize(("metric", "query", "unit"), SAME, ids=[metric for metric, _, _ in SAME])
async def test_promql_rest_and_panels_give_the_same_figures(
    prometheus: PrometheusClient, seeded_history: Seed, metric: str, query: str, unit: float
) -> None:
    start, end = seeded_history.start.timestamp(), seeded_history.end.timestamp()
    ours = await prometheus.over(query, start + HOUR, end, HOUR)
    rest = await prometheus.http.get(
        "/api/v1/metrics",
        params={
            "metric": metric, "from": iso(seeded_history.start), "to": iso(seeded_history.end), "group_by": "model",
            "interval": "1h", "limit": 50,
        },
        headers=prometheus.headers,
    )  # fmt: skip
    assert rest.status_code == 200, rest.text
    # REST names a bucket by its start, PromQL a window by its end. The agent and its tool have no model.
    expected = {
        (row["model"], row["time_ms"] / 1000 + HOUR): row["value"]
        for row in rest.json()["data"]
        if row["model"] and row["value"] is not None
    }
    found = {(model, time): value * unit for model, values in ours.items() for time, value in values.items() if model}
    assert len(expected) == 18
    assert found == pytest.approx(expected, rel=1e-9)

    target = {"target": "breakdown", "payload": {"metric": [metric], "group_by": "model"}}
    panel = await prometheus.http.post(
        "/grafana/query", json=query_body(seeded_history, target), headers=prometheus.headers
    )
    assert panel.status_code == 200, panel.text
    shown = {row[0]: row[1] for row in panel.json()[0]["rows"]}
    whole = await prometheus.instant(query.replace("[1h]", "[6h]"), end)
    for model, value in whole.items():
        if model:
            assert value * unit == pytest.approx(float(shown[model]), rel=1e-9)


@pytest.mark.parametrize(
    ("query", "reads"),
    [
        ("sum by (model) (rate(llm_errors_total[1h])) / sum by (model) (rate(llm_calls_total[1h]))", 1),
        ("sum(rate(llm_duration_seconds_sum[1h])) / sum(rate(llm_duration_seconds_count[1h]))", 1),
        ("sum(rate(llm_calls_total[1h])) / sum(rate(llm_calls_total[2h]))", 2),
        ('sum(rate(llm_errors_total[1h])) / sum(rate(llm_calls_total{model="gpt-5"}[1h]))', 2),
        ("sum by (model) (rate(llm_errors_total[1h])) / on () group_left () sum(rate(llm_calls_total[1h]))", 2),
    ],
)
async def test_counters_over_the_same_spans_are_read_once(
    prometheus: PrometheusClient, seeded_history: Seed, monkeypatch: pytest.MonkeyPatch, query: str, reads: int
) -> None:
    asked: list[CounterQuestion] = []

    async def counting(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
        asked.append(question)
        return await read_windows(database, scope, question)

    monkeypatch.setattr(shared_counts, "read_windows", counting)
    assert await prometheus.instant(query, seeded_history.end.timestamp())
    assert len(asked) == reads


_LATE = "sum by (model) (increase(llm_calls_total[1m]))"
_EARLY = "sum by (model) (increase(llm_errors_total[1m]))"
_ZERO = "sum by (model) (increase(llm_calls_total[1m])) * 0"


@pytest.mark.parametrize(
    ("query", "lingers"),
    [
        (_LATE, [True]),
        (f"{_LATE} >= 0", [True]),
        (f"{_LATE} < 1", [True]),
        (f"{_LATE} >= bool 1", [True]),
        (f"{_LATE} >= 1", [False]),
        (f"{_LATE} > 0", [False]),
        (f"{_EARLY} / ({_LATE} > 0)", [False]),
        (f"{_EARLY} / ({_LATE} >= 0)", [True]),
        (f"{_LATE} and {_LATE} > 0", [False]),
        (f"{_LATE} unless {_LATE} > 0", [True]),
        (f"{_LATE} or {_LATE} > 0", [True]),
        (f"{_LATE} + on (model) ({_LATE} > 0)", [True]),
        (f"{_LATE} > 0 or {_EARLY} > 0 or {_ZERO}", [True]),
        (f"({_LATE} > 0) / {_LATE}", [True]),
    ],
)
async def test_silent_series_are_read_only_where_their_zeros_can_be_seen(
    prometheus: PrometheusClient, seeded_history: Seed, monkeypatch: pytest.MonkeyPatch, query: str, lingers: list[bool]
) -> None:
    """No call lies in the window, so that every series is silent in it."""
    asked: list[bool] = []

    async def noting(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
        asked.append(question.lingers)
        return await read_windows(database, scope, question)

    async def lingering(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
        return await read_windows(database, scope, replace(question, lingers=True))

    end = seeded_history.end.timestamp() - 2
    monkeypatch.setattr(shared_counts, "read_windows", noting)
    found = await prometheus.instant(query, end)
    assert asked == lingers
    monkeypatch.setattr(shared_counts, "read_windows", lingering)
    assert await prometheus.instant(query, end + 0.001) == pytest.approx(found, nan_ok=True)


async def test_patterns_that_take_everything_are_no_condition(
    prometheus: PrometheusClient, seeded_history: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rollups of single labels answer then, as without a pattern."""
    asked: list[CounterQuestion] = []

    async def noting(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
        asked.append(question)
        return await read_windows(database, scope, question)

    monkeypatch.setattr(shared_counts, "read_windows", noting)
    end = seeded_history.end.timestamp()
    plain = await prometheus.instant("sum by (model) (increase(llm_calls_total[3h]))", end)
    for pattern, is_filter in ((".*", False), ("(.|\\n)*", False), (".*5.*|", True), (".+", True)):
        query = f'sum by (model) (increase(llm_calls_total{{model=~"{pattern}",tool=~".*"}}[3h]))'
        found = await prometheus.instant(query, end)
        assert (asked[-1].filter is not None) is is_filter, pattern
        assert found == plain or is_filter, pattern
    assert len(asked) == 5


async def test_an_instant_is_the_step_of_a_range(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    end = seeded_history.end.timestamp()
    for query in (
        "sum by (model) (rate(llm_calls_total[7m]))",
        "sum by (service, error_type) (increase(llm_errors_total[1h]))",
        "histogram_quantile(0.9, sum by (le) (rate(llm_duration_seconds_bucket[40m])))",
    ):
        ranged = await prometheus.over(query, end - 3 * HOUR + 1.5, end, 977)
        for time in (end - 3 * HOUR + 1.5, end - 3 * HOUR + 1.5 + 5 * 977):
            at_step = {labels: values[time] for labels, values in ranged.items() if time in values}
            assert at_step == pytest.approx(await prometheus.instant(query, time), rel=1e-12)


async def test_windows_are_counted_and_not_extrapolated(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    """One call every 7.5 minutes: two within 15, wherever the window begins; two windows make the one of both."""
    end = seeded_history.end.timestamp() - 7
    counts = await prometheus.over("sum(increase(llm_calls_total[15m]))", end - 4 * HOUR, end, 61)
    assert set(counts[""].values()) == {2}
    query = "sum(increase(llm_calls_total[37m] offset 20m)) + sum(increase(llm_calls_total[20m]))"
    assert await prometheus.instant(query, end) == await prometheus.instant("sum(increase(llm_calls_total[57m]))", end)
    difference = "sum(llm_calls_total) - sum(llm_calls_total offset 2h)"
    assert await prometheus.instant(difference, end) == {"": 16}


@pytest.mark.parametrize(
    ("most_spans", "moved"), [(200_000, []), (400, []), (40, ["windows are moved to whole hours"])]
)
async def test_windows_that_fit_no_rollup_are_counted_from_single_spans_if_those_are_few(
    prometheus: PrometheusClient,
    seeded_history: Seed,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    most_spans: int,
    moved: list[str],
) -> None:
    """Nine hours in steps of a minute, with some 200 spans, without five-minute rollups."""
    monkeypatch.setattr(counter_reader, "MOST_RAW_SPANS", most_spans)
    await owner.execute("UPDATE rollup_state SET rollup_5m_since = now() + interval '1 day'")
    end = seeded_history.end.timestamp() - 7
    asked = {
        "query": 'sum(increase(llm_calls_total{model="gpt-5"}[15m]))',
        "start": end - 9 * HOUR,
        "end": end,
        "step": 61,
    }
    answer = (await prometheus.get("query_range", asked)).json()
    assert answer.get("infos", []) == moved
    values = {float(value) for _, value in answer["data"]["result"][0]["values"]}
    assert (values == {0, 1}) is (not moved), values


async def test_a_series_that_falls_silent_is_zero_for_a_day(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    end = seeded_history.end.timestamp()
    silent = 'sum(rate(llm_calls_total{model="gpt-5"}[1m]))'
    assert await prometheus.instant(silent, end - 2) == {"": 0}
    assert await prometheus.instant(silent, end + 240) in ({"": 0}, {})
    errors = 'sum(increase(llm_errors_total{model="gpt-5",error_type=""}[1h]))'
    assert await prometheus.instant(errors, end) == {"": 0}


async def test_buckets_add_up_to_the_count(prometheus: PrometheusClient, seeded_history: Seed) -> None:
    end = seeded_history.end.timestamp()
    buckets = await prometheus.instant("sum by (le) (increase(llm_duration_seconds_bucket[6h]))", end)
    assert buckets["+Inf"] == 48
    assert buckets["1.0"] == pytest.approx(25, abs=1)  # 400 + 25 n ms, and a value may count 2 % beyond its place
    values = [value for _, value in sorted(buckets.items(), key=lambda item: float(item[0]))]
    assert values == sorted(values)
    share = await prometheus.instant("histogram_fraction(0, 1, sum(increase(llm_duration_seconds[6h])))", end)
    assert share[""] == pytest.approx(25 / 48, abs=0.02)


async def test_gauges_are_those_of_their_pages(
    prometheus: PrometheusClient, seeded_history: Seed, bearer: Callable[..., dict[str, str]]
) -> None:
    end = seeded_history.end.timestamp()
    users = await prometheus.over("llm_users_active", end - 2 * HOUR, end, 600)
    rest = await prometheus.http.get(
        "/api/v1/metrics",
        params={
            "metric": "users,sessions",
            "from": iso(seeded_history.end - timedelta(hours=1)),
            "to": iso(seeded_history.end),
        },
        headers=prometheus.headers,
    )
    counts = {row["metric"]: row["value"] for row in rest.json()["data"]}
    assert users["llm_users_active/acme"][end] == counts["users"]
    assert (await prometheus.instant("sum(llm_sessions_active)", end))[""] == counts["sessions"]
    admin = bearer("admin", ["acme"])
    score = {"trace_id": seeded_history.trace_id, "name": "helpful", "value": 0.25}
    for value in (0.25, 0.75):
        answer = await prometheus.http.post("/api/v1/scores", json={**score, "value": value}, headers=admin)
        assert answer.status_code in (200, 201), answer.text
    assert await prometheus.instant("avg by (score_name) (llm_score)", now()) == {"helpful": 0.5}
    budget = {"name": "All", "amount_usd": "0.1", "period": "year"}
    made = await prometheus.http.put("/api/v1/budgets/acme/all", json=budget, headers=admin)
    assert made.status_code == 201, made.text
    (state,) = (await prometheus.http.get("/api/v1/budgets", headers=admin)).json()["data"]
    used = await prometheus.instant("llm_budget_used_ratio * 100", now())
    assert list(used.values()) == pytest.approx([state["used_pct"]])
    projected = await prometheus.instant("sum by (budget) (llm_budget_projected_ratio) * 100", now())
    assert projected == {"All": pytest.approx(state["projected_pct"], rel=1e-3)}
    listed = await prometheus.data("series", {"match[]": '{__name__=~"llm_budget.*"}'})
    assert {(series["__name__"], series["budget"]) for series in listed} == {
        ("llm_budget_used_ratio", "All"),
        ("llm_budget_projected_ratio", "All"),
        ("llm_budget_warning_ratio", "All"),
        ("llm_budget_critical_ratio", "All"),
    }
    assert await prometheus.instant("sum by (budget) (llm_budget_warning_ratio)", now()) == {"All": 0.8}
