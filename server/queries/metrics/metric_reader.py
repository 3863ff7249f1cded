"""The metric engine: one question in, one answer out, the same for REST, Grafana, export and alerts.

A question runs in one REPEATABLE READ transaction: rank the groups, read the selected ones from the planned sources,
read them again for the compared range, and compute values from merged parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg

from server.errors import InsufficientScope, InvalidBody
from server.fairness.off_loop import off_loop
from server.queries.filters.operators import NUMBER_OPERATORS
from server.queries.filters.shared_words import find_shared_words
from server.queries.filters.time_range import TimeRange
from server.queries.lists.query_plan import explained
from server.queries.metrics.metric_actors import ActorGroups, fetch_distinct, rank_key
from server.queries.metrics.metric_answer import OTHER, MetricAnswer, MetricGroup, MetricMeta, Value
from server.queries.metrics.metric_catalog import Family
from server.queries.metrics.metric_compare import earlier_timeline
from server.queries.metrics.metric_coverage import SPANS_DROPPED, coverage_gap
from server.queries.metrics.metric_fetch import Fetched, fetch
from server.queries.metrics.metric_formula import Needs, needs_of
from server.queries.metrics.metric_question import Having, MetricQuestion
from server.queries.metrics.raw_sql import Piece, Selection, Target, raw_ranking_statement
from server.queries.metrics.source_plan import SourcePlan, Timeline, check_size, plan_sources, timeline_of
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement


@dataclass(slots=True)
class _Run:
    """One question in progress."""

    connection: asyncpg.Connection
    question: MetricQuestion
    target: Target
    now: datetime
    raw_since: datetime
    rollup_5m_since: datetime
    plans: list[tuple[str, SourcePlan]]
    rows_read: int = 0
    is_sketched: bool = False
    is_estimated: bool = False
    packed_sources: set[str] = field(default_factory=set)
    packed_plan: list[str] = field(default_factory=list)
    actors: ActorGroups | None = None

    def note(self, fetched: Fetched) -> None:
        """Note the source and precision of ``fetched`` for the answer's meta."""
        self.rows_read += fetched.rows_read
        self.is_sketched = self.is_sketched or fetched.is_sketched
        self.is_estimated = self.is_estimated or fetched.is_estimated

    def note_packed(self, fetched: Fetched, purpose: str) -> None:
        """Note the same about packed users and sessions."""
        self.note(fetched)
        self.packed_sources |= {"rollup", "raw"} if fetched.uses_raw else {"rollup"}
        self.packed_plan.append(f"{purpose}: actor_pack")

    def plan(self, needs: Needs, timeline: Timeline, purpose: str) -> SourcePlan:
        """Return the sources for ``needs``, noted for the answer's meta."""
        plan = plan_sources(self.target, needs, timeline, self.rollup_5m_since, self.raw_since)
        self.plans.append((purpose, plan))
        return plan


async def query_metrics(
    db: Database,
    scope: RowScope,
    question: MetricQuestion,
    *,
    now: datetime | None = None,
    plans: list[dict[str, Any]] | None = None,
) -> MetricAnswer:
    """Answer ``question`` over the rows of ``scope``.

    ``now`` (default: the present moment) decides which buckets are incomplete. The caller of this function checks the
    scopes for everything but money (``question.permissions``). The work of the database is added to ``plans``.

    Raises:
        InsufficientScope: the question groups or filters by content, or selects or filters by money, and ``scope`` may
            not read that.
        InvalidBody: too many values, or metrics that cannot be combined.
        QueryTimeout: it took longer than the pool's statement time-out.
    """
    now = now or datetime.now(UTC)
    if any(dimension.is_attribute for dimension in question.dimensions) and not scope.may_read_content:
        raise InsufficientScope("Attributes hold content, which this credential may not read.")
    if not scope.may_read_costs and "costs:read" in question.permissions:
        raise InsufficientScope(f"{question.permissions['costs:read']} needs the scope costs:read.")
    families = {measure.definition.family for measure in question.ranking_measures}
    if len(families) > 1:
        raise InvalidBody.at(
            "/having", "order_by and having must be of the same family (spans, retries or scores): ask two questions"
        )
    timeline = timeline_of(question, question.start, question.end)
    target = Target(scope, question.dimensions, question.filter)
    check_size(question, timeline, 1)  # refused early, whatever the number of groups
    if not scope.projects:
        return _answer(question, timeline, _nothing(question, timeline), _meta(question, timeline, None, now, None))
    async with db.read(scope) as connection:
        # Of any time, because a comparison reads an earlier range, too.
        found = await find_shared_words(connection, scope, question.filter, TimeRange(), distribution=db.distribution)
        target = replace(target, filter=found)
        (state,) = await connection.fetch(statement("read_rollup_state"))
        reading = explained(connection, plans)
        run = _Run(reading, question, target, now, state["raw_since"], state["rollup_5m_since"], [])
        selection, groups_total = await _select(run, timeline)
        check_size(question, timeline, _count_groups(selection, groups_total))
        parts = await _read(run, timeline, selection)
        earlier = earlier_timeline(question, timeline)
        compared, gap = None, None
        if earlier is not None:
            plans_before = len(run.plans)
            compared = (earlier, await _read(run, earlier, selection))
            first = await connection.fetchval(statement("first_data_at"), list(scope.projects))
            gap = coverage_gap(first, earlier.start, earlier.end)
            if gap is None and any(low < run.raw_since for _, plan in run.plans[plans_before:] for low, _ in plan.raw):
                gap = SPANS_DROPPED
    count = _count_groups(selection, groups_total) * len(question.measures) * timeline.buckets
    groups = await off_loop(count, lambda: _groups(question, selection, timeline, parts, compared, now))
    meta = replace(_meta(question, timeline, run, now, earlier, groups_total), no_change_reason=gap)
    return _answer(question, timeline, groups, meta)


def _count_groups(selection: Selection | None, groups_total: int) -> int:
    """Return the number of groups in the answer; all groups that were not chosen are one, "other"."""
    if selection is None:
        return 1
    chosen = len(selection.groups)
    return chosen + (selection.with_other and groups_total > chosen)


async def _select(run: _Run, timeline: Timeline) -> tuple[Selection | None, int]:
    """Rank the groups over the whole range and choose the best; None without group_by."""
    question = run.question
    if not question.dimensions:
        return None, 1
    whole = Timeline(timeline.start, timeline.end, (timeline.start, timeline.end))
    ranking = question.ranking_measures
    family = ranking[0].definition.family
    # A group with spans but without calls exists if anything in the question counts spans.
    presence = needs_of(question.all_measures, family).presence
    needs = needs_of(ranking, family)
    needs = replace(needs, presence=presence, counters=tuple(dict.fromkeys((presence, *needs.counters))))
    overall = needs_of(question.all_measures, family)
    run.actors = ActorGroups.of(run.connection, run.target, question, overall, run.rollup_5m_since)
    if run.actors is not None:
        chosen = await run.actors.select(needs, question, whole)
        if chosen is not None:
            return chosen
        run.actors = None
    plan = run.plan(needs, whole, "ranking")
    with_other = question.other and not question.having
    if not plan.rollups:
        having = [(item.measure, item.operator, item.value) for item in question.having]
        order = (ranking[0], question.descending)
        sql, values = raw_ranking_statement(run.target, needs, plan.raw, order, having, question.limit)
        rows = await run.connection.fetch(sql, *values)
        total = rows[0]["groups_total"] if rows else 0
        keys = [tuple(row)[:-1] for row in rows]
        return Selection(keys, with_other and total > len(keys)), total
    found = await fetch(run.connection, run.target, needs, plan, whole, None)
    run.note(found)
    seconds = whole.seconds(run.now)[0]
    ranked = []
    for index, key in enumerate(found.groups):
        if not found.cells.is_present(index):
            continue
        if all(_keeps(item, found.cells.value(item.measure, index, seconds)) for item in question.having):
            ranked.append((found.cells.value(ranking[0], index, seconds), key))
    ranked.sort(key=lambda item: item[1])
    ranked.sort(key=lambda item: rank_key(item[0], question.descending))
    keys = [key for _, key in ranked[: question.limit]]
    return Selection(keys, with_other and len(ranked) > len(keys)), len(ranked)


def _keeps(having: Having, value: Value) -> bool:
    if value is None or isinstance(value, tuple):
        return False
    return NUMBER_OPERATORS[having.operator](value, having.value)


async def _read(run: _Run, timeline: Timeline, selection: Selection | None) -> dict[Family, Fetched]:
    """Return the cells of the selected groups, with one fetch per family of metrics."""
    parts: dict[Family, Fetched] = {}
    for family in dict.fromkeys(measure.definition.family for measure in run.question.measures):
        needs = needs_of(run.question.measures, family)
        packed = None
        if family == "actors":
            packed = await fetch_distinct(run.connection, run.target, needs, timeline)
        elif run.actors is not None and selection is not None:
            packed = await run.actors.fetch(needs, timeline, selection)
        if packed is not None:
            run.note_packed(packed, family)
            parts[family] = packed
            continue
        plan = run.plan(needs, timeline, family)
        parts[family] = await fetch(run.connection, run.target, needs, plan, timeline, selection)
        run.note(parts[family])
    return parts


def _groups(
    question: MetricQuestion,
    selection: Selection | None,
    timeline: Timeline,
    parts: dict[Family, Fetched],
    compared: tuple[Timeline, dict[Family, Fetched]] | None,
    now: datetime,
) -> list[MetricGroup]:
    keys: list[tuple[str, ...]] = [()] if selection is None else list(selection.groups)
    count = len(keys) + (selection is not None and selection.with_other)
    # Once for all groups: of many groups it would be a large part of the work.
    seconds = timeline.seconds(now)
    seconds_before = [] if compared is None else compared[0].seconds(now)
    groups = []
    for index in range(count):
        is_other = index == len(keys)
        labels: dict[str, str | None] = {
            dimension.name: OTHER if is_other else keys[index][place] or None
            for place, dimension in enumerate(question.dimensions)
        }
        values = _values(question, index, seconds, parts)
        before = None
        if compared is not None:
            before = _values(question, index, seconds_before, compared[1])
        groups.append(MetricGroup(labels, values, before, is_other))
    return groups


def _values(
    question: MetricQuestion, index: int, seconds: Sequence[float], parts: dict[Family, Fetched]
) -> dict[str, tuple[Value, ...]]:
    """Return the values of a group by measure; ``seconds``: the length of each bucket."""
    columns: dict[str, tuple[Value, ...]] = {}
    for measure in question.measures:
        cells = parts[measure.definition.family].cells
        first = index * len(seconds)
        read = cells.reader(measure)
        column = [read(first + bucket, length) for bucket, length in enumerate(seconds)]
        columns[measure.key] = tuple(_filled(column, question))
    return columns


def _filled(column: list[Value], question: MetricQuestion) -> list[Value]:
    if question.fill == "zero":
        return [0 if value is None else value for value in column]
    if question.fill == "previous":
        last: Value = None
        filled: list[Value] = []
        for value in column:
            last = last if value is None else value
            filled.append(last)
        return filled
    return column


def _nothing(question: MetricQuestion, timeline: Timeline) -> list[MetricGroup]:
    """Return the answer for a caller without any project: no groups, or one group without values."""
    if question.dimensions:
        return []
    values: dict[str, tuple[Value, ...]] = {
        measure.key: tuple(_filled([None] * timeline.buckets, question)) for measure in question.measures
    }
    return [MetricGroup({}, values, values if question.compare else None)]


def _meta(
    question: MetricQuestion,
    timeline: Timeline,
    run: _Run | None,
    now: datetime,
    earlier: Timeline | None,
    groups_total: int = 0,
) -> MetricMeta:
    plans = run.plans if run else []
    sources = {"raw" for _, plan in plans if plan.raw or plan.less} | {"rollup" for _, plan in plans if plan.rollups}
    sources |= run.packed_sources if run else set()
    source: Literal["rollup", "raw", "both"] = "both" if len(sources) > 1 else "raw" if "raw" in sources else "rollup"
    notices = list(timeline.notices)
    if run and any(low < run.raw_since for _, plan in plans for low, _ in plan.raw):
        since = run.raw_since.isoformat().replace("+00:00", "Z")
        notices.append(f"spans before {since} were dropped by retention: values that need them are missing")
    return MetricMeta(
        source=source,
        precision="approximate" if run and run.is_estimated else "sketch" if run and run.is_sketched else "exact",
        start=timeline.start,
        end=timeline.end,
        time_zone=question.time_zone,
        interval=str(timeline.interval) if timeline.interval else None,
        interval_seconds=timeline.interval.nominal_seconds if timeline.interval else None,
        incomplete=timeline.incomplete(now) if timeline.interval else (),
        notices=tuple(notices),
        rows_read=run.rows_read if run else 0,
        groups_total=groups_total,
        plan=(*(run.packed_plan if run else ()), *(line for name, plan in plans for line in _explained(name, plan))),
        compared_start=earlier.start if earlier else None,
        compared_end=earlier.end if earlier else None,
    )


def _explained(purpose: str, plan: SourcePlan) -> list[str]:
    pieces: dict[str, list[Piece]] = dict(plan.rollups.items())
    if plan.raw:
        pieces["llm_traces"] = plan.raw
    if plan.less:
        pieces["less llm_traces"] = plan.less
    return [
        f"{purpose}: {table} from {low.isoformat()} to {high.isoformat()}"
        for table, ranges in pieces.items()
        for low, high in ranges[:20]
    ]


def _answer(question: MetricQuestion, timeline: Timeline, groups: list[MetricGroup], meta: MetricMeta) -> MetricAnswer:
    return MetricAnswer(
        times=timeline.boundaries[:-1],
        keys=tuple(measure.key for measure in question.measures),
        groups=tuple(groups),
        units={measure.key: measure.definition.unit for measure in question.measures},
        meta=meta,
        skips_empty=question.fill == "none",
    )
