"""The evaluator on samples held in memory, against values worked out by hand.

``python -m tests.datasource.prometheus.compliance`` puts hundreds of queries to a real Prometheus as well.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from datasource.prometheus.answers import render_result
from datasource.prometheus.promql.engine import answer, instant_question
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.values import Series, labels_of
from tests.datasource.prometheus.demo_samples import as_openmetrics, demo_series
from tests.datasource.prometheus.sample_source import SampleSource

MINUTE = 60_000
TIMES = np.arange(0, 11, dtype=np.int64) * MINUTE  # 0 to 10 minutes


def series(name: str, values: list[float], **labels: str) -> Series:
    return Series(labels_of((("__name__", name), *labels.items())), TIMES, np.array(values, dtype=float))


SOURCE = SampleSource(
    [
        series("up_by_two", [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20], job="a"),
        series("restarts", [0, 5, 10, 3, 6, 9, 12, 15, 18, 21, 24], job="a"),
        series("level", [1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10], job="a", zone="x"),
        series("level", [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], job="b", zone="x"),
        series("level", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, float("nan")], job="c", zone="y"),
        series("size_bucket", [0, *[10.0] * 10], le="1"),
        series("size_bucket", [0, *[30.0] * 10], le="2"),
        series("size_bucket", [0, *[40.0] * 10], le="+Inf"),
    ]
)

KNOWN: tuple[tuple[str, dict[str, float]], ...] = (
    # (5 m, 10 m] holds the samples of minutes 6 to 10: 8 in 4 minutes, reaching one minute further on the left.
    ("increase(up_by_two[5m])", {"a": 10}),
    ("rate(up_by_two[5m])", {"a": 10 / 300}),
    # All eleven samples: 10, then 3 after the restart, then up to 24.
    ("increase(restarts[10m])", {"a": (24 - 5 + 10) * 10 / 9}),
    ("resets(restarts[10m])", {"a": 1}),
    ("irate(up_by_two[5m])", {"a": 2 / 60}),
    ("delta(level{job='b'}[5m])", {"b/x": -5}),
    ("idelta(level{job='a'}[5m])", {"a/x": -1}),
    ("deriv(up_by_two[5m])", {"a": 2 / 60}),
    ("predict_linear(up_by_two[5m], 300)", {"a": 30}),
    ("max_over_time(level{job='a'}[3m])", {"a/x": 11}),
    ("quantile_over_time(0.5, level{job='a'}[3m])", {"a/x": 10}),
    ("stddev_over_time(level{job='a'}[3m])", {"a/x": (14 / 9) ** 0.5}),
    ("changes(level{job='c'}[10m])", {"c/y": 1}),
    ("count_over_time(level{job='c'}[1m:10s])", {"c/y": 6}),
    ("sum by (zone) (level{job!='c'})", {"x": 10}),
    ("avg(level{zone='x'})", {"": 5}),
    ("topk(1, level{zone='x'})", {"level/a/x": 10}),
    ("quantile(0.25, level{zone='x'})", {"": 2.5}),
    ("count_values('v', level{zone='x'})", {"10": 1, "0": 1}),
    ("stdvar(level{zone='x'})", {"": 25}),
    ("level > 5", {"level/a/x": 10}),
    ("level > bool 5", {"a/x": 1, "b/x": 0, "c/y": 0}),
    ("level{job='a'} / on (zone) sum by (zone) (level)", {"x": 1}),
    ("level * on (zone) group_left vector(3)", {}),
    ("level{zone='x'} and on () (level{job='b'} == 0)", {"level/a/x": 10, "level/b/x": 0}),
    ("level{zone='x'} unless level{job='a'}", {"level/b/x": 0}),
    ("level{job='a'} or level{job='b'}", {"level/a/x": 10, "level/b/x": 0}),
    ("up_by_two offset 3m", {"up_by_two/a": 14}),
    ("up_by_two @ 120", {"up_by_two/a": 4}),
    ("-up_by_two ^ 2", {"a": -400}),
    ("2 - -3 * vector(2)", {"": 8}),
    ("-7 % vector(4)", {"": -3}),
    # 20 of 40 lie below the rank 30 × … : rank 20 is half way through the second bucket.
    ("histogram_quantile(0.5, size_bucket)", {"": 1.5}),
    ("histogram_quantile(0.99, size_bucket)", {"": 2}),
    ("histogram_fraction(1, 1.5, size_bucket)", {"": 0.25}),
    ("label_replace(up_by_two, 'to', '$1-$1', 'job', '(.)')", {"up_by_two/a/a-a": 20}),
    ("label_join(level{job='a'}, 'to', '+', 'job', 'zone')", {"level/a/a+x/x": 10}),
    ("absent(nothing{a='b', c=~'d'})", {"b": 1}),
    ("absent_over_time(level[1m])", {}),
    ("day_of_week(vector(0)) + month(vector(0)) / 100 + year(vector(0))", {"": 1974.01}),
    ("days_in_month(vector(1709251200 - 86400))", {"": 29}),
    ("clamp(level{zone='x'}, 2, 5)", {"a/x": 5, "b/x": 2}),
    ("round(vector(2.5)) + round(vector(-2.5))", {"": 1}),
    ("timestamp(level{job='a'})", {"a/x": 600}),
    ("sum_over_time((level{job='a'} > 8)[10m:1m])", {"a/x": 30}),
    ("scalar(level) - scalar(level) + vector(1)", {"": float("nan")}),
    ("double_exponential_smoothing(up_by_two[5m], 0.5, 0.5)", {"a": 20}),
)


def value_of(query: str) -> dict[str, float]:
    result = asyncio.run(answer(instant_question(query, 10 * MINUTE), SOURCE))
    rows = render_result(result, is_range=False)[0]["result"]
    return {"/".join(row["metric"].values()): float(row["value"][1]) for row in rows}


@pytest.mark.parametrize(("query", "expected"), KNOWN, ids=[query for query, _ in KNOWN])
def test_a_query_has_the_value_worked_out_by_hand(query: str, expected: dict[str, float]) -> None:
    assert value_of(query) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("level * on (zone) up_by_two", ""),
        ("up_by_two * on () level{zone='x'}", "many-to-many matching not allowed"),
        ("level{zone='x'} * on () up_by_two", "many-to-one matching must be explicit"),
        ("label_replace(level, 'job', 'same', '', '')", "same labelset"),
        ("sum by (zone) (level) * on () group_right level{job='a'}", "many-to-many"),
        ("abs({__name__=~'up_by_two|restarts'})", "same labelset"),
        ("double_exponential_smoothing(level[5m], 2, 0.5)", "invalid smoothing factor"),
        ("count_values('a b', level)", "invalid label name"),
        ("topk(scalar(level), level)", "Parameter value is NaN"),
    ],
)
def test_what_has_no_value_is_refused_as_prometheus_does(query: str, text: str) -> None:
    if not text:
        assert value_of(query) == {}
        return
    with pytest.raises(ExecutionError, match=text):
        value_of(query)


def test_samples_for_the_comparison_are_text_that_promtool_reads() -> None:
    text = as_openmetrics(demo_series(0))
    assert text.endswith("# EOF\n")
    assert 'demo_num_cpus{instance="demo.promlabs.com:10000",job="demo"} 2 4.321\n' in text
