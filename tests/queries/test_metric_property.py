"""For random data and random questions the engine equals a plain-Python oracle, folded or not.

Data come late, twice, in newer versions, are priced again and deleted, each through the statements of the server; folds
and a rebuild happen in between. Sums must be equal to the last digit, percentiles within 1 % (or equal when the answer
says "exact").
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.queries.filters.filter_tree import parse_filter
from server.queries.metrics.metric_interval import Interval, bucket_boundaries
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.rollups.fold import fold_pending
from server.rollups.rebuild import rebuild_rollups
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.queries.metric_oracle import APPROXIMATE, CALLS_ONLY, LABELS, Traffic, expected

START = (datetime.now(UTC) - timedelta(days=9)).replace(hour=5, minute=17, second=3, microsecond=0)
LENGTH = timedelta(days=4, hours=3)
KEYS = sorted(expected([]))
PACKED_KEYS = ["calls", "spans", "errors", "error_rate", "total_tokens_sum", "cost", "cost_per_1k_tokens"]
DISTINCT = {"users", "sessions"}
INTERVALS = [
    None, Interval(seconds=3600), Interval(seconds=3600), Interval(seconds=900), Interval(seconds=7200),
    Interval(seconds=86400 // 5), Interval(days=1), Interval(days=7), Interval(months=1),
]  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"]
FILTERS: list[tuple[Any, Any]] = [
    (None, lambda span: True),
    (None, lambda span: True),
    ({"field": "model", "operator": "in", "value": ["small", "large"]}, lambda span: span.model in {"small", "large"}),
    ({"field": "model", "operator": "ne", "value": "small"}, lambda span: span.model != "small"),
    ({"not": {"field": "status", "operator": "eq", "value": "ERROR"}}, lambda span: span.status_code != "ERROR"),
    (
        {"and": [{"field": "environment", "operator": "eq", "value": "staging"},
                 {"field": "provider", "operator": "eq", "value": "openai"}]},
        lambda span: span.environment == "staging" and span.provider == "openai",
    ),
    ({"field": "user_id", "operator": "eq", "value": "user-3"}, lambda span: span.user_id == "user-3"),
    ({"field": "tags", "operator": "any", "value": ["eu"]}, lambda span: "eu" in span.tags),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_random_questions_equal_the_oracle(services: Services, project: ProjectMaker, seed: int) -> None:
    await project("alpha")
    chance = random.Random(seed)
    traffic = Traffic(services, "alpha", chance, START, LENGTH)
    if seed % 2:
        # Without 5-minute rows raw rows take away from hours, else from five minutes, what is outside of a range.
        async with services.worker.unscoped() as connection:
            since = (START + LENGTH / 2).replace(hour=0, minute=0, second=0)
            await connection.execute("UPDATE rollup_state SET rollup_5m_since = $1", since)
    taken_away = 0
    for _ in range(4):
        for _ in range(chance.randrange(2, 6)):
            await traffic.step()
            if chance.random() < 0.4:
                await fold_pending(services.worker, actors=chance.random() < 0.7)
        if chance.random() < 0.2:
            await rebuild_rollups(services.worker, ["alpha"], START, START + LENGTH)
        plans = [await _ask_and_compare(services, chance, list(traffic.spans.values())) for _ in range(12)]
        taken_away += sum("less llm_traces" in line for plan in plans for line in plan)
    assert taken_away


async def _ask_and_compare(services: Services, chance: random.Random, spans: list[SpanRecord]) -> tuple[str, ...]:
    """Ask one question; return how it was read."""
    tree, holds = chance.choice(FILTERS)
    start, end = _range(chance)
    keys = chance.sample(KEYS, chance.randrange(1, 6))
    group_by = tuple(chance.sample(sorted(LABELS), chance.choice([0, 1, 1, 2, 3])))
    if chance.random() < 0.3:
        # Questions that packed users and sessions answer.
        tree, holds = FILTERS[0]
        group_by = chance.choice([(), ("user",), ("session",)])
        keys = chance.sample(PACKED_KEYS if group_by else ["users", "sessions"], chance.randrange(1, 3))
    question = MetricQuestion(
        measures=tuple(map(parse_measure, keys)),
        start=start,
        end=end,
        group_by=group_by,
        filter=parse_filter(tree) if tree else None,
        interval=chance.choice(INTERVALS),
        time_zone=chance.choice(ZONES),
        limit=chance.choice([2, 5, 1000]),
    )
    answer = await query_metrics(services.reads, RowScope(("alpha",)), question)
    boundaries = [start, end]
    if question.interval is not None and answer.meta.interval == str(question.interval):
        boundaries = bucket_boundaries(start, end, question.interval, question.zone)  # type: ignore[arg-type]
    chosen = [span for span in spans if start <= span.ts < end and holds(span)]
    if set(keys) <= CALLS_ONLY:
        chosen = [span for span in chosen if span.is_generation]
    cells: dict[tuple[tuple[str | None, ...], int], list[SpanRecord]] = defaultdict(list)
    named = {tuple(group.labels.values()) for group in answer.groups if not group.is_other}
    for span in chosen:
        bucket = sum(boundary <= span.ts for boundary in boundaries[1:-1])
        for labels in _labels(span, question.group_by):
            named_by = tuple(label or None for label in labels)
            cells[named_by if named_by in named else ("other",) * len(labels), bucket].append(span)
    if answer.meta.groups_total <= question.limit:
        assert {key for key, _ in cells} <= named | {()}, question
    for group in answer.groups:
        label = tuple(group.labels.values())
        for key in keys:
            for bucket, value in enumerate(group.values[key]):
                _compare(key, value, cells.get((label, bucket), []), answer.meta.precision, question)
    return answer.meta.plan


def _range(chance: random.Random) -> tuple[datetime, datetime]:
    moments = sorted(START + LENGTH * chance.random() for _ in range(2))
    kind = chance.choice(["ragged", "hours", "days", "all"])
    if kind == "all":
        return START, START + LENGTH
    if kind == "ragged":
        return moments[0], moments[1] + timedelta(seconds=1)
    zero = {"minute": 0, "second": 0, "microsecond": 0} | ({"hour": 0} if kind == "days" else {})
    low = moments[0].replace(**zero)  # type: ignore[arg-type]
    return low, moments[1].replace(**zero) + timedelta(days=1)  # type: ignore[arg-type]


def _labels(span: SpanRecord, dimensions: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for dimension in dimensions:
        found = [(*labels, value) for labels in found for value in LABELS[dimension](span)]
    return found


def _compare(key: str, value: Any, spans: list[SpanRecord], precision: str, question: MetricQuestion) -> None:
    wanted = expected(spans)[key] if spans or key in DISTINCT else None
    if wanted is None or value is None:
        assert value == wanted, (key, question)
    elif key in APPROXIMATE:
        assert value == (pytest.approx(wanted, rel=0.01, abs=0.001) if precision != "exact" else wanted), (
            key,
            question,
        )
    elif key.endswith(("_avg", "_rate", "_tokens", "duration_sum")):
        assert float(value) == pytest.approx(float(wanted), rel=1e-12), (key, question)
    else:
        assert value == wanted, (key, question)
