"""Choice of the source for each part of a range.

Rollups answer whole buckets of their grain, and raw rows the ragged ends. A range from 10:03 on is read from raw rows
to 10:05, from 5-minute rows to 11:00, from hours to midnight, and then from days. Pending deltas are added wherever
rollups are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from server.errors import InvalidBody
from server.queries.metrics.metric_formula import Needs
from server.queries.metrics.metric_interval import AUTO_POINTS, Interval, bucket_boundaries, choose_interval
from server.queries.metrics.metric_question import MetricQuestion
from server.queries.metrics.raw_sql import Piece, Target
from server.queries.metrics.rollup_sql import PRECOMPUTED, RollupTable, Slice, rolled_up_columns
from server.text.instants import EPOCH, ceil_to, floor_to, is_multiple_of

MOST_VALUES: Final = 100_000
_MOST_CALENDAR_BUCKETS: Final = 400


@dataclass(frozen=True, slots=True)
class Grain:
    """One rollup table and the width of its buckets."""

    table: RollupTable
    width: timedelta


GRAINS: Final = (
    Grain("rollup_1d", timedelta(days=1)),
    Grain("rollup_1h", timedelta(hours=1)),
    Grain("rollup_5m", timedelta(minutes=5)),
)
HOURS: Final = 1
"""Index of the hour in GRAINS."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The buckets of one range: ``boundaries`` has one more entry than there are buckets.

    Without an ``interval`` there is one bucket, or the boundaries follow no rule.
    """

    start: datetime
    end: datetime
    boundaries: tuple[datetime, ...]
    interval: Interval | None = None
    notices: tuple[str, ...] = ()

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return len(self.boundaries) - 1

    def seconds(self, now: datetime) -> list[float]:
        """Return the seconds of each bucket that are in the range and in the past."""
        end = min(self.end, max(now, self.start))
        return [
            max((min(high, end) - max(low, self.start)).total_seconds(), 0.0)
            for low, high in zip(self.boundaries, self.boundaries[1:], strict=False)
        ]

    def incomplete(self, now: datetime) -> tuple[datetime, ...]:
        """Return the starts of buckets that the range or the present moment cuts."""
        return tuple(
            low
            for low, high in zip(self.boundaries, self.boundaries[1:], strict=False)
            if low < self.start or high > self.end or high > now
        )


def timeline_of(question: MetricQuestion, start: datetime, end: datetime) -> Timeline:
    """Return the buckets of ``question`` over ``[start, end)``; a too narrow interval is widened, with a notice."""
    if question.interval is None:
        return Timeline(start, end, (start, end))
    if question.interval == "auto":
        interval = choose_interval(start, end, min(AUTO_POINTS, question.max_points))
    else:
        interval = question.interval
    notices: tuple[str, ...] = ()
    if (end - start).total_seconds() / interval.nominal_seconds + 2 > max(question.max_points, 3):
        wider = choose_interval(start, end, question.max_points)
        notices = (f"interval widened from {interval} to {wider}: at most {question.max_points} points",)
        interval = wider
    boundaries = bucket_boundaries(start, end, interval, question.zone)
    return Timeline(start, end, tuple(boundaries), interval, notices)


def check_size(question: MetricQuestion, timeline: Timeline, groups: int) -> None:
    """Raise :class:`InvalidBody` if the answer would have more than :data:`MOST_VALUES` values."""
    if groups * len(question.measures) * timeline.buckets > MOST_VALUES:
        raise InvalidBody.at(
            "/limit",
            f"too many groups: {groups} of them at {timeline.buckets} points; ask for fewer or a wider interval",
        )


@dataclass(slots=True)
class SourcePlan:
    """Pieces of time by source. ``slice`` is set when hours come from slice_1h instead of rollup_1h.

    ``less``: pieces that the rollups count in excess; their raw rows are subtracted.
    """

    raw: list[Piece] = field(default_factory=list)
    less: list[Piece] = field(default_factory=list)
    rollups: dict[RollupTable, list[Piece]] = field(default_factory=dict)
    slice: Slice | None = None

    @property
    def rolled_up(self) -> list[Piece]:
        """All pieces that rollups answer, to which pending deltas are added."""
        return joined(sorted(piece for pieces in self.rollups.values() for piece in pieces))


def plan_sources(
    target: Target,
    needs: Needs,
    timeline: Timeline,
    rollup_5m_since: datetime,
    raw_since: datetime = EPOCH,
    now: datetime | None = None,
) -> SourcePlan:
    """Choose the sources for the parts that ``needs`` names. ``now``: almost no span is later."""
    columns = rolled_up_columns(target.dimensions, target.filter)
    whole = (timeline.start, timeline.end)
    if columns is None or needs.family != "spans":
        return SourcePlan(raw=[whole])
    plan = SourcePlan()
    inner = timeline.boundaries[1:-1]
    widest = _widest_grain(inner)
    calendar = timeline.interval is not None and timeline.interval.is_calendar
    irregular = timeline.interval is None and timeline.buckets > 1
    if widest is not None and (widest < 2 or not calendar):
        _split(whole, widest, rollup_5m_since, plan)
        if widest <= HOURS:
            _take_from_hours(plan, raw_since)
        if plan.rollups and timeline.buckets == 1:
            _take_from_five_minutes(plan, max(rollup_5m_since, raw_since), now or datetime.now(UTC))
    elif (calendar or irregular) and timeline.buckets <= _MOST_CALENDAR_BUCKETS:
        # Days that begin at half past an hour of UTC, or windows of an alert without an interval: whole hours inside,
        # finer parts at both ends.
        for low, high in zip((timeline.start, *inner), (*inner, timeline.end), strict=True):
            _split((low, high), 0, rollup_5m_since, plan)
    else:
        plan.raw.append(whole)
    plan.raw, plan.less = joined(plan.raw), joined(plan.less)
    plan.rollups = {table: joined(pieces) for table, pieces in plan.rollups.items()}
    if len(columns) <= 1 and "rollup_1h" in plan.rollups:
        plan.rollups["slice_1h"] = plan.rollups.pop("rollup_1h")
        plan.slice = Slice(next(iter(columns), None), _is_precomputed(target, needs, timeline, columns))
    return plan


def _widest_grain(inner: Sequence[datetime]) -> int | None:
    """Return the first of GRAINS whose buckets lie within the requested buckets."""
    for index, grain in enumerate(GRAINS):
        if all(is_multiple_of(moment, grain.width) for moment in inner):
            return index
    return None


def _is_precomputed(target: Target, needs: Needs, timeline: Timeline, columns: frozenset[str]) -> bool:
    """Return whether each cell is one slice row: an hour of one project and one value. A filter may choose several
    values.
    """
    single_project = len(target.scope.projects) == 1 or any(item.name == "project" for item in target.dimensions)
    return (
        timeline.interval == Interval(seconds=3600)
        and single_project
        and columns <= {dimension.column for dimension in target.dimensions}
        and not needs.histograms
        and all(sketch in PRECOMPUTED and min(of) > 0.0 and max(of) < 1.0 for sketch, of in needs.fractions.items())
    )


def _take_from_hours(plan: SourcePlan, raw_since: datetime) -> None:
    """If a ragged end covers more than half an hour, read the whole hour and subtract the part outside the range."""
    width = GRAINS[HOURS].width
    kept = []
    for low, high in plan.raw:
        first = floor_to(low, width)
        if high > first + width or high - low <= width / 2 or first < raw_since:
            kept.append((low, high))
            continue
        plan.rollups.setdefault("rollup_1h", []).append((first, first + width))
        plan.less += [piece for piece in ((first, low), (high, first + width)) if piece[0] < piece[1]]
    plan.raw = kept


def _take_from_five_minutes(plan: SourcePlan, since: datetime, now: datetime) -> None:
    """If the range needs most of the latest five minutes, read all of them and subtract the rest.

    A question that ends now needs everything in the latest five minutes: in a busy project thousands of spans, again
    for each question of an alert rule.
    """
    width = GRAINS[-1].width
    kept = []
    for low, high in plan.raw:
        first = floor_to(low, width)
        before, after = low - first, max(min(first + width, now) - high, timedelta(0))
        if high > first + width or first < since or before + after > (high - low) / 2:
            kept.append((low, high))
            continue
        plan.rollups.setdefault("rollup_5m", []).append((first, first + width))
        plan.less += [piece for piece in ((first, low), (high, first + width)) if piece[0] < piece[1]]
    plan.raw = kept


def _split(piece: Piece, first: int, rollup_5m_since: datetime, plan: SourcePlan) -> None:
    def take(table: RollupTable | Literal["raw"], part: Piece) -> None:
        if table == "raw":
            plan.raw.append(part)
        else:
            plan.rollups.setdefault(table, []).append(part)

    split_piece(piece, GRAINS[first:], take, rollup_5m_since)


def split_piece(
    piece: Piece,
    grains: Sequence[Grain],
    take: Callable[[RollupTable | Literal["raw"], Piece], None],
    rollup_5m_since: datetime = EPOCH,
) -> None:
    """Cut ``piece`` into whole buckets of the widest grain and, at both ends, of narrower ones; the rest is raw."""
    low, high = piece
    if low >= high:
        return
    if not grains:
        take("raw", piece)
        return
    grain = grains[0]
    first = ceil_to(low, grain.width)
    last = floor_to(high, grain.width)
    if grain.table == "rollup_5m":
        first = max(first, rollup_5m_since)
    if first >= last:
        split_piece(piece, grains[1:], take, rollup_5m_since)
        return
    split_piece((low, first), grains[1:], take, rollup_5m_since)
    take(grain.table, (first, last))
    split_piece((last, high), grains[1:], take, rollup_5m_since)


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Merge adjacent pieces, so that there are as few as possible."""
    found: list[Piece] = []
    for low, high in sorted(pieces):
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found
