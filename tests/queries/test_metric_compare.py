"""Each bucket is compared with its like: a day with a day, a month with a month, whatever clocks do in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from server.queries.metrics.metric_compare import earlier_timeline
from server.queries.metrics.metric_interval import bucket_boundaries, parse_interval
from server.queries.metrics.metric_question import Compare, Measure, MetricQuestion
from server.queries.metrics.source_plan import Timeline, timeline_of


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def earlier(
    start: str, end: str, interval: str | None, zone: str = "UTC", how: Compare = "previous_period"
) -> Timeline:
    question = MetricQuestion(
        measures=(Measure("calls"),),
        start=utc(start),
        end=utc(end),
        interval=interval and parse_interval(interval),  # type: ignore[arg-type]
        time_zone=zone,
        compare=how,
    )
    timeline = timeline_of(question, question.start, question.end)
    found = earlier_timeline(question, timeline)
    assert found is not None
    assert len(found.boundaries) == len(timeline.boundaries)
    assert list(found.boundaries) == sorted(found.boundaries)
    return found


def test_a_range_without_buckets_moves_by_its_length() -> None:
    found = earlier("2026-10-18 22:00", "2026-10-25 23:00", None, "Europe/Berlin")
    assert (found.start, found.end) == (utc("2026-10-11 21:00"), utc("2026-10-18 22:00"))


@pytest.mark.parametrize(
    ("start", "end", "zone"),
    [
        ("2026-10-18 22:00", "2026-10-25 23:00", "Europe/Berlin"),  # the last day has 25 hours
        ("2026-03-22 23:00", "2026-03-29 22:00", "Europe/Berlin"),  # 23 hours
        ("2026-04-18 22:00", "2026-04-25 21:00", "Africa/Cairo"),  # clocks moved at midnight of the 24th
        ("2026-11-01 04:00", "2026-11-08 05:00", "America/New_York"),
    ],
)
def test_days_of_a_week_with_a_clock_change_meet_whole_days(start: str, end: str, zone: str) -> None:
    found = earlier(start, end, "1d", zone)
    days = bucket_boundaries(found.start, found.end, parse_interval("1d"), ZoneInfo(zone))
    assert list(found.boundaries) == days
    assert len(days) == 8
    assert found.end == utc(start)


def test_a_part_of_a_month_meets_the_same_part_of_the_month_before() -> None:
    found = earlier("2026-11-01 00:00", "2026-11-23 14:00", "1M")
    assert (found.start, found.end) == (utc("2026-10-01 00:00"), utc("2026-10-23 14:00"))
    quarter = earlier("2026-04-01 00:00", "2026-07-01 00:00", "1M")
    assert list(quarter.boundaries) == [utc(f"2026-0{month}-01 00:00") for month in (1, 2, 3, 4)]
    assert earlier("2026-03-31 00:00", "2026-03-31 12:00", "1M").start == utc("2026-02-28 00:00")


def test_a_range_that_is_no_multiple_of_its_buckets_moves_by_whole_ones() -> None:
    found = earlier("2026-11-20 10:20", "2026-11-20 15:50", "1h")
    assert (found.start, found.end) == (utc("2026-11-20 04:20"), utc("2026-11-20 09:50"))
    assert found.boundaries[0] == utc("2026-11-20 04:00")


def test_weeks_and_hours_of_a_year_ago_keep_their_length() -> None:
    weeks = earlier("2026-11-02 00:00", "2026-11-23 00:00", "1w", how="year_ago")
    assert weeks.boundaries[0] == utc("2025-11-02 00:00")
    hours = earlier("2026-10-24 22:00", "2026-10-25 23:00", "1h", "Europe/Berlin", "year_ago")
    assert {high - low for low, high in zip(hours.boundaries, hours.boundaries[1:], strict=False)} == {
        timedelta(hours=1)
    }
    assert hours.start == utc("2025-10-24 22:00")


def test_29_february_of_a_year_without_one_is_empty() -> None:
    found = earlier("2028-02-28 00:00", "2028-03-02 00:00", "1d", how="year_ago")
    assert [moment.strftime("%m-%d") for moment in found.boundaries] == ["02-28", "02-28", "03-01", "03-02"]
