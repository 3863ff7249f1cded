"""Any pair of metrics can be asked for together, by anything that groups: an answer or a refusal, never a failure."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from server.errors import InvalidBody
from server.http.services import Services
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS
from server.queries.metrics.metric_reader import query_metrics
from tests.queries.test_metric_known_answers import SCOPE, ask, filled  # noqa: F401

PAIRS = list(combinations_with_replacement(METRICS, 2))


async def answers(services: Services, dimension: str, pair: tuple[str, ...]) -> bool:
    try:
        question = ask(*dict.fromkeys(pair), group_by=(dimension,))
        answer = await query_metrics(services.reads, SCOPE, question)
    except InvalidBody:
        return False
    assert all(len(group.values) == len(set(pair)) for group in answer.groups), pair
    return True


@pytest.mark.parametrize("dimension", ["user", "session"])
async def test_every_pair_of_metrics_by_users_or_sessions(filled: Services, dimension: str) -> None:  # noqa: F811
    done = [await answers(filled, dimension, pair) for pair in PAIRS]
    assert sum(done) > len(PAIRS) / 2


async def test_every_metric_by_every_dimension(filled: Services) -> None:  # noqa: F811
    done = [await answers(filled, dimension, (metric,)) for dimension in DIMENSIONS for metric in METRICS]
    assert sum(done) > len(done) / 2
