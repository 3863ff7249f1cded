"""A data set small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from server.http.services import Services
from server.queries.filters.filter_tree import parse_filter
from server.queries.metrics.metric_answer import MetricAnswer
from server.queries.metrics.metric_interval import parse_interval
from server.queries.metrics.metric_question import Having, Measure, MetricQuestion
from server.queries.metrics.metric_reader import query_metrics
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

DAY = (datetime.now(UTC) - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
SCOPE = RowScope(("alpha",))


def at(hour: int, minute: int = 0) -> datetime:
    return DAY + timedelta(hours=hour, minutes=minute)


@pytest.fixture
async def filled(services: Services, project: ProjectMaker) -> Services:
    """Four calls, one of which failed, and the agent span round two of them."""
    await project("alpha")
    common = {"user_id": "ann", "session_id": "s1"}
    spans = [
        make_span(
            ts=at(10), trace_id="t1", span_id="a", span_name="agent", is_generation=False,
            operation_type="invoke_agent",
            provider=None, model=None, agent_name="planner", duration_ms=5000.0, total_tokens=9999, **common,
        ),
        make_span(
            ts=at(10, 1), trace_id="t1", span_id="b", parent_span_id="a", model="gpt-4o", duration_ms=100.0,
            ttft_ms=20.0, prompt_tokens=100, completion_tokens=50, total_tokens=150, total_cost_usd=Decimal("0.0030"),
            prompt_cost_usd=Decimal("0.0010"), completion_cost_usd=Decimal("0.0020"), tags=["beta", "eu"], **common,
        ),
        make_span(
            ts=at(10, 2), trace_id="t1", span_id="c", parent_span_id="a", model="gpt-4o", duration_ms=300.0,
            status_code="ERROR", error_type="timeout", prompt_tokens=10, completion_tokens=0, total_tokens=10,
            total_cost_usd=Decimal("0.0001"), **common,
        ),
        make_span(
            ts=at(11), trace_id="t2", span_id="d", model="claude", provider="anthropic", duration_ms=200.0,
            completion_tokens=20, total_tokens=20, total_cost_usd=Decimal("0.05"), user_id="bob", session_id="s2",
            tags=["eu"], attributes={"tier": "gold"},
        ),
        make_span(
            ts=at(13, 7), trace_id="t1", span_id="e", parent_span_id="a", span_name="chat gpt-4o", model="gpt-4o",
            duration_ms=400.0, total_tokens=40, total_cost_usd=Decimal("0.0009"), **common,
        ),
    ]  # fmt: skip
    await store(services, "alpha", spans)
    return services


def ask(*measures: str, **more: object) -> MetricQuestion:
    parsed = tuple(Measure(*name.split(".")) for name in measures)
    values = {"measures": parsed, "start": at(0), "end": at(24), **more}
    return MetricQuestion(**values)  # type: ignore[arg-type]


async def single(services: Services, *measures: str, **more: object) -> dict[str, object]:
    answer = await query_metrics(services.reads, SCOPE, ask(*measures, **more))
    (group,) = answer.groups
    return {key: values[0] for key, values in group.values.items()}


def by_label(answer: MetricAnswer, key: str) -> dict[object, object]:
    return {tuple(group.labels.values()): group.values[key] for group in answer.groups}


async def test_sums_count_model_calls_only(filled: Services) -> None:
    values = await single(
        filled, "calls", "spans", "traces", "errors", "error_rate", "success_rate", "total_tokens.sum", "cost",
        "cost_per_call", "cost_per_1k_tokens", "error_cost", "total_tokens.avg",
    )  # fmt: skip
    assert values == {
        "calls": 4,
        "spans": 5,
        "traces": 2,
        "errors": 1,
        "error_rate": 0.25,
        "success_rate": 0.75,
        "total_tokens_sum": 220,
        "cost": Decimal("0.054"),
        "cost_per_call": Decimal("0.0135"),
        "cost_per_1k_tokens": Decimal("0.24545454545454545455"),
        "error_cost": Decimal("0.0001"),
        "total_tokens_avg": 55.0,
    }


async def test_spread_of_durations_from_raw_rows_is_exact(filled: Services) -> None:
    tree = parse_filter({"field": "session_id", "operator": "exists", "value": True})
    values = await single(
        filled, "duration.avg", "duration.min", "duration.max", "duration.sum", "duration.p50", "duration.p99",
        "time_to_first_token.p50", "output_tokens_per_second.avg", "span_duration.max", filter=tree,
    )  # fmt: skip
    assert values == {
        "duration_avg": 250.0,
        "duration_min": 100.0,
        "duration_max": 400.0,
        "duration_sum": 1000.0,
        "duration_p50": 200.0,
        "duration_p99": 400.0,
        "time_to_first_token_p50": 20.0,
        # 50 tokens in 0.1 s and 20 in 0.2 s: 70 tokens in 0.3 s, not the average of 500 and 100.
        "output_tokens_per_second_avg": pytest.approx(70 / 0.3),
        "span_duration_max": 5000.0,
    }


async def test_percentiles_from_rollups_are_within_one_percent_and_say_so(filled: Services) -> None:
    answer = await query_metrics(filled.reads, SCOPE, ask("duration.p50", "duration.max"))
    assert (answer.meta.source, answer.meta.precision) == ("rollup", "sketch")
    assert answer.groups[0].values["duration_p50"][0] == pytest.approx(200, rel=0.01)
    assert answer.groups[0].values["duration_max"][0] == pytest.approx(400, rel=0.01)


async def test_groups_beyond_the_limit_are_summed_as_other(filled: Services) -> None:
    answer = await query_metrics(filled.reads, SCOPE, ask("cost", "calls", group_by=("model",), limit=1))
    assert by_label(answer, "cost") == {("claude",): (Decimal("0.05"),), ("other",): (Decimal("0.004"),)}
    assert by_label(answer, "calls") == {("claude",): (1,), ("other",): (3,)}
    assert answer.groups[1].is_other
    assert answer.meta.groups_total == 2


@pytest.mark.parametrize("dimension", ["user", "session", "tag", "attribute.tier", "project", "status", "agent"])
async def test_groups_of_every_kind_of_dimension(filled: Services, dimension: str) -> None:
    answer = await query_metrics(filled.reads, SCOPE, ask("calls", group_by=(dimension,)))
    expected: dict[str, dict[object, object]] = {
        "user": {("ann",): (3,), ("bob",): (1,)},
        "session": {("s1",): (3,), ("s2",): (1,)},
        "tag": {("eu",): (2,), ("beta",): (1,), (None,): (2,)},
        "attribute.tier": {("gold",): (1,), (None,): (3,)},
        "project": {("alpha",): (4,)},
        "status": {("OK",): (3,), ("ERROR",): (1,)},
        "agent": {(None,): (4,)},
    }
    assert by_label(answer, "calls") == expected[dimension]


async def test_series_mark_empty_buckets_as_the_fill_says(filled: Services) -> None:
    question = ask("calls", "cost", start=at(9), end=at(14), interval=parse_interval("1h"))
    answer = await query_metrics(filled.reads, SCOPE, question)
    assert answer.times == tuple(at(hour) for hour in range(9, 14))
    assert answer.groups[0].values["calls"] == (None, 2, 1, None, 1)
    zero = await query_metrics(filled.reads, SCOPE, replace(question, fill="zero"))
    assert zero.groups[0].values["calls"] == (0, 2, 1, 0, 1)
    previous = await query_metrics(filled.reads, SCOPE, replace(question, fill="previous"))
    assert previous.groups[0].values["calls"] == (None, 2, 1, 1, 1)
    without = await query_metrics(filled.reads, SCOPE, replace(question, fill="none"))
    assert [row["value"] for row in without.rows() if row["metric"] == "calls"] == [2, 1, 1]


async def test_narrow_intervals_come_from_raw_rows(filled: Services) -> None:
    question = ask("calls", start=at(10), end=at(10, 4), interval=parse_interval("1m"))
    answer = await query_metrics(filled.reads, SCOPE, question)
    assert answer.groups[0].values["calls"] == (None, 1, 1, None)
    assert answer.meta.source == "raw"


async def test_having_keeps_groups_by_their_value_over_the_range(filled: Services) -> None:
    having = (Having(Measure("cost"), "gt", 0.01),)
    answer = await query_metrics(filled.reads, SCOPE, ask("calls", group_by=("model",), having=having))
    assert by_label(answer, "calls") == {("claude",): (1,)}
    of_users = await query_metrics(filled.reads, SCOPE, ask("calls", group_by=("user",), having=having))
    assert by_label(of_users, "calls") == {("bob",): (1,)}


async def test_comparison_with_the_previous_period(filled: Services) -> None:
    answer = await query_metrics(filled.reads, SCOPE, ask("calls", start=at(11), end=at(12), compare="previous_period"))
    (group,) = answer.groups
    assert group.values["calls"] == (1,)
    assert group.compared == {"calls": (2,)}
    assert (answer.meta.compared_start, answer.meta.compared_end) == (at(10), at(11))


async def test_distinct_users_and_sessions(filled: Services) -> None:
    assert await single(filled, "users", "sessions") == {"users": 2, "sessions": 2}
    question = ask("users", start=at(10), end=at(12), interval=parse_interval("1h"))
    answer = await query_metrics(filled.reads, SCOPE, question)
    assert answer.groups[0].values["users"] == (1, 1)


async def test_a_retry_is_a_call_after_a_failed_one_of_the_same_name_and_parent(filled: Services) -> None:
    assert await single(filled, "retries") == {"retries": 1}


async def test_histogram_counts_by_upper_bound(filled: Services) -> None:
    values = await single(filled, "duration.histogram")
    histogram = values["duration_histogram"]
    assert isinstance(histogram, tuple)
    assert {bound: count for bound, count in histogram if count} == {100.0: 1, 200.0: 1, 500.0: 2}


async def test_throughput_divides_by_the_seconds_of_the_range(filled: Services) -> None:
    values = await single(filled, "throughput", start=at(10), end=at(11))
    assert values["throughput"] == pytest.approx(2 / 3600)


async def test_other_projects_are_never_counted(filled: Services, project: ProjectMaker) -> None:
    await project("beta")
    await store(filled, "beta", [make_span(ts=at(10))])
    assert await single(filled, "calls") == {"calls": 4}
    nobody = await query_metrics(filled.reads, RowScope(()), ask("calls"))
    assert [group.values for group in nobody.groups] == [{"calls": (None,)}]
