"""A few characters of PromQL or TraceQL cannot ask for gigabytes, or for a label that doubles at each level."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from datasource.prometheus.promql import bounds, engine
from datasource.prometheus.promql.engine import Question, answer, instant_question, range_question
from datasource.prometheus.promql.errors import ExecutionError, PromqlError, TookTooLong, TooMuch
from datasource.prometheus.promql.values import Series, Vector, labels_of
from tests.conftest import ProjectMaker
from tests.datasource.prometheus.sample_source import SampleSource

TIMES = np.arange(0, 11, dtype=np.int64) * 60_000
SOURCE = SampleSource(
    [
        Series(labels_of((("__name__", "level"), ("job", f"j{number}"))), TIMES, np.full(11, float(number)))
        for number in range(40)
    ]
)
HOUR = 3_600_000


def evaluated(question: Question) -> Vector:
    value = asyncio.run(answer(question, SOURCE)).value
    assert isinstance(value, Vector)
    return value


@pytest.mark.parametrize(
    "query",
    [
        'count_values("v", vector(time()))',
        'count_values("v", vector(rand))'.replace("rand", "time()*time()"),
        'max(count_values("v", vector(time())))',
        'level * on() group_left() count_values("v", vector(time()))',
    ],
)
def test_a_table_of_steps_by_steps_is_refused(query: str) -> None:
    with pytest.raises(PromqlError) as refused:
        evaluated(range_question(query, 0, 3 * HOUR, 1000))
    assert isinstance(refused.value, TooMuch | ExecutionError)


def test_a_subquery_of_many_steps_is_counted_too() -> None:
    with pytest.raises(TooMuch):
        evaluated(instant_question('max_over_time(count_values("v", vector(time()))[1d:1s])', 10 * HOUR))


@pytest.mark.parametrize(
    "level",
    [
        'label_replace(%s, "job", "$1$1$1$1", "job", "(.*)")',
        'label_join(%s, "job", "", "job", "job", "job", "job")',
    ],
)
def test_a_label_does_not_grow_without_bound(level: str) -> None:
    query = "level"
    for _ in range(20):
        query = level % query
    with pytest.raises(ExecutionError, match="characters"):
        evaluated(instant_question(query, HOUR // 10))


def test_an_evaluation_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "EVALUATION_SECONDS", -1.0)
    with pytest.raises(TookTooLong):
        evaluated(instant_question("sum(level)", HOUR // 10))


@pytest.mark.parametrize("digits", ["9" * 5000, "\u00b2", "\u0664"])
def test_odd_digits_are_text(digits: str) -> None:
    by_label = f'label_replace(level, "n", "{digits}", "job", ".*")'
    assert len(evaluated(instant_question(f'sort_by_label({by_label}, "n")', HOUR // 10)).labels) == 40
    named = evaluated(instant_question(f'label_replace(level, "n", "a${digits}b", "job", ".*")', HOUR // 10))
    assert len(named.labels) == 40


def test_the_bounds_leave_room_for_what_dashboards_ask() -> None:
    bounds.check_samples(300, 11_000)
    found = evaluated(range_question("sum by (job) (level)", 0, 10 * 60_000, 60_000))
    assert found.values.shape == (40, 11)


@pytest.fixture
async def http(client: httpx.AsyncClient, project: ProjectMaker, bearer: Any) -> httpx.AsyncClient:
    await project("alpha")
    client.headers.update(bearer("viewer", ["alpha"]))
    return client


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/prometheus/api/v1/query_range", {"query": "1", "start": 0, "end": 10, "step": "9" * 4500 + "y"}),
        ("/prometheus/api/v1/query", {"query": "1", "timeout": "1" + "0" * 4400 + "ms"}),
        ("/prometheus/api/v1/query_range", {"query": 'count_values("v", vector(time()))', "start": 0, "end": 10_000,
                                            "step": 1}),
        ("/tempo/api/metrics/query_range", {"q": "{} | rate()", "exemplars": "\u00b2"}),
        ("/tempo/api/metrics/query_range", {"q": "{} | rate()", "exemplars": "9" * 4500}),
        ("/tempo/api/metrics/query_range", {"q": "{} | compare({status = error}, 1e400)"}),
        ("/tempo/api/metrics/query_range", {"q": f"{{}} | quantile_over_time(duration, {'.5, ' * 500} .5)"}),
    ],
)  # fmt: skip
async def test_odd_numbers_are_refused_and_no_fault_of_ours(
    http: httpx.AsyncClient, path: str, params: dict[str, Any]
) -> None:
    response = await http.get(path, params=params)
    is_fine = "compare" in str(params) and response.status_code == 200
    assert is_fine or response.status_code in (400, 413, 422), response.text[:300]
