"""The earlier range that a question is compared with, cut so that each bucket has a counterpart.

A calendar range cannot be moved by seconds: a week in which clocks change has an hour more or less than the week
before, and three months differ in days from the three before.
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
    """Return the buckets that those of ``timeline`` are compared with, one for each; None without a comparison.

    ``previous_period`` moves back by the length of the range or, with an interval, by the number of buckets in the
    range; ``year_ago`` keeps the local time. 29 February is compared with nothing if the year before has none.
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
    # Buckets of hours keep their length, though the clocks of both years may change on different days.
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
    """Return the same local time ``buckets`` intervals of days or months before."""
    local = moment.astimezone(zone)
    if interval.months:
        earlier = months_before(moment, interval.months * buckets, zone)
    else:
        # Python's arithmetic within one zone follows the wall clock.
        earlier = (local - timedelta(days=interval.days * buckets)).astimezone(UTC)
    # A day may begin at one o'clock because midnight was skipped; the day before it begins at midnight.
    begins = moment == midnight(local.date(), zone)
    return midnight(earlier.astimezone(zone).date(), zone) if begins else earlier
