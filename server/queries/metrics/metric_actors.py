"""Metrics of users and sessions from packed hours, days and weeks: distinct counts and top-N.

This is the metric engine's second source, for questions without a filter that count distinct users or sessions, or that
split by user or session alone. All other questions about them are answered from raw rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.fairness.off_loop import off_loop
from server.queries.metrics.actor_reader import ActorTable, actor_plan, count_actors, read_actor_names, read_actors
from server.queries.metrics.metric_catalog import ActorKind, Rate, Ratio, Total
from server.queries.metrics.metric_fetch import Fetched, fetch
from server.queries.metrics.metric_formula import Cells, Needs
from server.queries.metrics.metric_question import Measure, MetricQuestion
from server.queries.metrics.raw_sql import Selection, Target
from server.queries.metrics.source_plan import Timeline, plan_sources
from server.rollups.actor_pack import COST_UNITS, Actors

_KINDS: Final[dict[str, ActorKind]] = {"user": "user", "session": "session"}
_COUNTERS: Final = ("spans", "calls", "errors", "successes", "total_tokens", "total_cost")
# Candidates are chosen by floats and compared exactly, so choose some more than requested in case of near ties.
_SPARE: Final = 64
_AMOUNTS_WEIGHT: Final = 4
"""Work for the amounts of one group in one bucket, as a number of values (see :func:`off_loop`)."""


async def fetch_distinct(
    connection: asyncpg.Connection, target: Target, needs: Needs, timeline: Timeline
) -> Fetched | None:
    """Return distinct users or sessions of each bucket, or None if packed values cannot answer."""
    plan = await actor_plan(timeline)
    if plan is None or target.filter is not None or target.dimensions:
        return None
    cells = Cells(needs, timeline.buckets)
    fetched = Fetched(cells, [()], uses_raw=bool(plan.raw))
    for kind in needs.distinct:
        counts, is_estimate, rows = await count_actors(connection, target.scope, kind, plan, timeline)
        cells.distinct[kind] = counts
        fetched.is_estimated = fetched.is_estimated or is_estimate
        fetched.rows_read += rows
    return fetched


@dataclass(slots=True)
class ActorGroups:
    """The groups of one question that splits by ``kind``.

    The group '' holds spans without a user or session: the difference between the total and the named groups.
    """

    connection: asyncpg.Connection
    target: Target
    kind: ActorKind
    rollup_5m_since: datetime
    _hashes: dict[str, int] = field(default_factory=dict)
    _read: dict[tuple[datetime, ...], tuple[ActorTable, Cells, bool]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, connection: asyncpg.Connection, target: Target, question: MetricQuestion, needs: Needs, since: datetime
    ) -> ActorGroups | None:
        """Return the groups, if packed values have everything that the question needs."""
        kind = _KINDS.get(target.dimensions[0].name) if len(target.dimensions) == 1 else None
        simple = kind and target.filter is None and not question.having
        if not simple or not _are_packed(needs):
            return None
        return cls(connection, target, _KINDS[target.dimensions[0].name], since)

    async def select(self, needs: Needs, question: MetricQuestion, whole: Timeline) -> tuple[Selection, int] | None:
        """Return the best groups over the whole range, and the number of groups. None if the range has no whole
        hour."""
        if not await self._load(whole):
            return None
        table, totals, _ = self._read[whole.boundaries]
        actors = table.buckets[0]
        measure = question.ranking_measures[0]
        places = np.flatnonzero(actors.column(needs.presence) > 0)
        values = _estimates(actors, measure)[places] * (1 if question.descending else -1)
        best = places[np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[: question.limit + _SPARE]]
        ids = actors.ids[best].tolist()
        names = table.names | await read_actor_names(self.connection, self.target.scope, self.kind, ids)
        self._hashes = {names[number]: number for number in ids}
        candidates = [*((name,) for name in self._hashes), ("",)]
        cells = self._cells(replace(needs, counters=_COUNTERS), table, totals, Selection(candidates, False))
        seconds = (whole.end - whole.start).total_seconds()
        ranked = [
            (cells.value(measure, index, seconds), key)
            for index, key in enumerate(candidates)
            if cells.is_present(index)
        ]
        has_nameless = cells.is_present(len(candidates) - 1)
        ranked.sort(key=lambda item: item[1])
        ranked.sort(key=lambda item: rank_key(item[0], question.descending))
        total = len(places) + has_nameless
        keys = [key for _, key in ranked[: question.limit]]
        return Selection(keys, question.other and total > len(keys)), total

    async def fetch(self, needs: Needs, timeline: Timeline, selection: Selection) -> Fetched | None:
        """Return the cells of the selected groups.

        None if packed values do not have them: the buckets are not made of whole hours, or ``needs`` belongs to another
        of several families of metrics in the question.
        """
        if not _are_packed(needs) or not await self._load(timeline):
            return None
        table, totals, uses_raw = self._read[timeline.boundaries]
        size = len(table.buckets) * (len(selection.groups) + 2) * _AMOUNTS_WEIGHT
        cells = await off_loop(size, lambda: self._cells(needs, table, totals, selection))
        return Fetched(cells, list(selection.groups), table.rows_read, uses_raw=uses_raw)

    async def _load(self, timeline: Timeline) -> bool:
        if timeline.boundaries in self._read:
            return True
        plan = await actor_plan(timeline)
        if plan is None:
            return False
        table = await read_actors(self.connection, self.target.scope, self.kind, plan, timeline)
        everything = Needs("spans", "spans", _COUNTERS, {}, frozenset(), ())
        target = replace(self.target, dimensions=())
        sources = plan_sources(target, everything, timeline, self.rollup_5m_since)
        totals = await fetch(self.connection, target, everything, sources, timeline, None)
        self._read[timeline.boundaries] = (table, totals.cells, bool(plan.raw or sources.raw))
        return True

    def _cells(self, needs: Needs, table: ActorTable, totals: Cells, selection: Selection) -> Cells:
        buckets = len(table.buckets)
        count = len(selection.groups) + selection.with_other
        cells = Cells(needs, count * buckets)
        for bucket, actors in enumerate(table.buckets):
            rest = {name: totals.counters[name][bucket] for name in needs.counters}
            nameless = _less(rest, _total(actors))
            for group, (name,) in enumerate(selection.groups):
                amounts = nameless if name == "" else _amounts(actors, self._hashes[name])
                for counter in needs.counters:
                    cells.counters[counter][group * buckets + bucket] = amounts[counter]
                rest = _less(rest, amounts)
            if selection.with_other:
                for counter in needs.counters:
                    cells.counters[counter][(count - 1) * buckets + bucket] = rest[counter]
        return cells


def _are_packed(needs: Needs) -> bool:
    return needs.family == "spans" and not needs.sketches and set(_COUNTERS).issuperset(needs.counters)


def rank_key(value: Any, descending: bool) -> tuple[bool, Any]:
    """Return a key that sorts groups without a value last in both directions."""
    return (value is None, 0 if value is None else -value if descending else value)


def _less(amounts: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    return {name: value - taken[name] for name, value in amounts.items()}


def _named(row: list[int]) -> dict[str, Any]:
    spans, calls, errors, total_tokens, whole, rest = row
    return {
        "spans": spans,
        "calls": calls,
        "errors": errors,
        "successes": calls - errors,
        "total_tokens": total_tokens,
        "total_cost": Decimal(whole) + Decimal(rest).scaleb(-10),
    }


def _amounts(actors: Actors, number: int) -> dict[str, Any]:
    place = int(np.searchsorted(actors.ids, number))
    found = place < len(actors.ids) and actors.ids[place] == number
    return _named(actors.amounts[place].tolist() if found else [0] * 6)


def _total(actors: Actors) -> dict[str, Any]:
    return _named(actors.amounts.sum(axis=0).tolist())


def _estimates(actors: Actors, measure: Measure) -> NDArray[np.float64]:
    """Return the value of ``measure`` of every actor as a float: accurate enough to choose candidates."""
    columns = {name: actors.column(name).astype(np.float64) for name in ("spans", "calls", "errors", "total_tokens")}
    columns["successes"] = columns["calls"] - columns["errors"]
    columns["total_cost"] = actors.column("cost_whole") + actors.column("cost_rest") / COST_UNITS
    with np.errstate(divide="ignore", invalid="ignore"):
        match measure.definition.formula:
            case Ratio(numerator, denominator):
                return columns[numerator] / np.where(columns[denominator] == 0, np.nan, columns[denominator])
            case Total(counter, per) if measure.effective == "avg":
                return columns[counter] / np.where(columns[per] == 0, np.nan, columns[per])
            case Total(counter) | Rate(counter):
                return columns[counter]
            case _:
                raise AssertionError("only sums and their ratios are ranked here")
