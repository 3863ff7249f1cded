"""The earlier range that a question is compared with, cut so that each bucket stands beside its like.

A range of a calendar is not moved by seconds: a week in which clocks change has an hour more or less than the one
before, and three months are not the three before in days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from server.queries.metrics.metric_interval import Interval, midnight, months_before, shifted_year
from server.queries.metrics.metric_question import MetricQuestion
from server.queries.metrics.source_plan import Timeline

Shift = Callable[[datetime], datetime]


def earlier_timeline(question: MetricQuestion, timeline: Timeline) -> Timeline | None:
    """The buckets that those of ``timeline`` are compared with, one for each; None without a comparison.

    ``previous_period`` moves by the length of the range, and with an interval by as many whole buckets as the range
    takes; ``year_ago`` keeps the local time. 29 February is compared with nothing when the year before has none.
    """
    if question.compare is None:
        return None
    if question.compare == "year_ago":
        shift = _year_shift(timeline, question.zone)
    else:
        shift = _period_shift(timeline, question.zone)
    return replace(
        timeline,
        start=shift(timeline.start),
        end=shift(timeline.end),
        boundaries=tuple(shift(moment) for moment in timeline.boundaries),
    )


def _year_shift(timeline: Timeline, zone: ZoneInfo) -> Shift:
    if timeline.interval is None or timeline.interval.is_calendar:
        return lambda moment: shifted_year(moment, zone)
    # Buckets of hours stay as long as they are, though the clocks of both years may change on different days.
    distance = timeline.start - shifted_year(timeline.start, zone)
    return lambda moment: moment - distance


def _period_shift(timeline: Timeline, zone: ZoneInfo) -> Shift:
    interval = timeline.interval
    length = timeline.end - timeline.start
    if interval is None:
        return lambda moment: moment - length
    if not interval.is_calendar:
        step = timedelta(seconds=interval.seconds)
        return lambda moment: moment - -(-length // step) * step
    buckets = max(int(length.total_seconds() / interval.nominal_seconds) - 2, 1)
    while _moved(timeline.end, interval, buckets, zone) > timeline.start:
        buckets += 1
    return lambda moment: _moved(moment, interval, buckets, zone)


def _moved(moment: datetime, interval: Interval, buckets: int, zone: ZoneInfo) -> datetime:
    """The same local time ``buckets`` intervals of days or months before."""
    local = moment.astimezone(zone)
    if interval.months:
        earlier = months_before(moment, interval.months * buckets, zone)
    else:
        # Python's arithmetic within one zone is that of the wall clock.
        earlier = (local - timedelta(days=interval.days * buckets)).astimezone(UTC)
    # A day may begin at one o'clock, since midnight was skipped: the day before it begins at midnight.
    begins = moment == midnight(local.date(), zone)
    return midnight(earlier.astimezone(zone).date(), zone) if begins else earlier
