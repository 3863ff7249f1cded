"""Questions over projects of several nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from server.http.services import Services
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.rollups.fold import fold_pending
from server.storage.row_scope import RowScope
from tests.span_factory import make_span, store


@pytest.mark.parametrize("groups", [(), ("model",), ("project",), ("model", "provider")], ids=" and ".join)
async def test_rollups_with_two_ragged_ends_count_the_projects_of_all_nodes(
    services: Services, pair: tuple[str, str], groups: tuple[str, ...]
) -> None:
    now = datetime.now(UTC)
    start, end = now - timedelta(hours=5, minutes=3), now - timedelta(minutes=2)
    moments = [now - timedelta(minutes=7 * number) for number in range(60)]
    for name in pair:
        await store(services, name, [make_span(ts=ts, model=f"m{n % 3}") for n, ts in enumerate(moments)])
    await fold_pending(services.worker)
    await store(services, pair[0], [make_span(ts=now - timedelta(hours=1), model="m0")])
    expected = Counter({name: len([ts for ts in moments if start <= ts < end]) for name in pair})
    expected[pair[0]] += 1

    async def spans(*projects: str) -> object:
        measures = (parse_measure("spans"), parse_measure("duration_p95"))
        question = MetricQuestion(measures=measures, start=start, end=end, group_by=groups)
        answer = await query_metrics(services.reads, RowScope(projects), question)
        assert answer.meta.source == "both"
        return sum(value for group in answer.groups if isinstance(value := group.values["spans"][0], int))

    assert [await spans(name) for name in pair] == [expected[name] for name in pair]
    assert await spans(*pair) == expected.total()


async def test_an_estimated_total_over_all_nodes_looks_at_other_spans_of_a_trace(
    client: httpx.AsyncClient,
    services: Services,
    pair: tuple[str, str],
    bearer: Callable[..., dict[str, str]],
) -> None:
    for name in pair:
        await store(services, name, [make_span(user_id="kim") for _ in range(3)])
    for projects in ((pair[0],), pair):
        params = {"project_id": ",".join(projects), "view": "traces", "user_id": "kim", "total": "estimate"}
        answer = await client.get("/api/v1/traces", params=params, headers=bearer("viewer", list(projects)))
        assert answer.status_code == 200, answer.text
        assert answer.json()["pagination"]["total"] == 3 * len(projects)
