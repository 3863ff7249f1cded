"""Buckets follow the caller's calendar: clock changes, zones of half an hour, weeks, months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from server.queries.metrics.metric_interval import (
    Interval,
    bucket_boundaries,
    choose_interval,
    parse_interval,
    shifted_year,
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def boundaries(start: str, end: str, interval: str, zone: str = "UTC") -> list[str]:
    found = bucket_boundaries(utc(start), utc(end), parse_interval(interval), ZoneInfo(zone))
    return [moment.strftime("%m-%d %H:%M") for moment in found]


def test_intervals_below_a_day_are_aligned_to_the_epoch() -> None:
    assert boundaries("2026-03-01 10:07", "2026-03-01 10:31", "15m") == [
        "03-01 10:00",
        "03-01 10:15",
        "03-01 10:30",
        "03-01 10:45",
    ]
    assert boundaries("2026-03-01 10:00", "2026-03-01 11:00", "1h", "Asia/Kolkata") == ["03-01 10:00", "03-01 11:00"]


def test_a_day_has_23_or_25_hours_when_clocks_change() -> None:
    assert boundaries("2026-03-28 12:00", "2026-03-30 12:00", "1d", "Europe/Berlin") == [
        "03-27 23:00", "03-28 23:00", "03-29 22:00", "03-30 22:00",
    ]  # fmt: skip
    assert boundaries("2026-10-24 22:00", "2026-10-26 23:00", "1d", "Europe/Berlin") == [
        "10-24 22:00", "10-25 23:00", "10-26 23:00",
    ]  # fmt: skip


def test_a_day_may_begin_at_half_past_or_a_quarter_to() -> None:
    assert boundaries("2026-03-01 00:00", "2026-03-02 00:00", "1d", "Asia/Kolkata") == [
        "02-28 18:30",
        "03-01 18:30",
        "03-02 18:30",
    ]
    assert boundaries("2026-03-01 00:00", "2026-03-01 18:15", "1d", "Asia/Kathmandu") == ["02-28 18:15", "03-01 18:15"]


def test_a_midnight_that_does_not_exist_is_the_first_moment_after_it() -> None:
    # Beirut moved its clocks from 00:00 to 01:00 on 29 March 2026.
    found = bucket_boundaries(
        utc("2026-03-28 12:00"), utc("2026-03-29 12:00"), Interval(days=1), ZoneInfo("Asia/Beirut")
    )
    assert [b - a for a, b in pairwise(found)] == [timedelta(hours=24), timedelta(hours=23)]


def test_weeks_begin_on_monday_and_months_quarters_years_on_the_first() -> None:
    assert boundaries("2026-11-19 00:00", "2026-11-24 00:00", "1w") == ["11-16 00:00", "11-23 00:00", "11-30 00:00"]
    assert boundaries("2026-01-31 00:00", "2026-03-01 00:00", "1M") == ["01-01 00:00", "02-01 00:00", "03-01 00:00"]
    assert boundaries("2026-05-05 00:00", "2026-07-02 00:00", "1Q") == ["04-01 00:00", "07-01 00:00", "10-01 00:00"]
    assert boundaries("2025-05-05 00:00", "2025-07-02 00:00", "1y") == ["01-01 00:00", "01-01 00:00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", Interval(seconds=90)), ("24h", Interval(days=1)), ("2w", Interval(days=14)), ("1mo", Interval(months=1))],
)
def test_intervals_are_read(text: str, expected: Interval) -> None:
    assert parse_interval(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "0m", "1.5h", "5 m", "-1h", "36h", "1month", "1D", "１d", "999999y", "999999w", "123mo"]
)
def test_what_is_not_an_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|whole number of days|ten years"):
        parse_interval(text)


@pytest.mark.parametrize("interval", ["1s", "1m", "1h", "1d", "1w", "1M", "1Q", "1y"])
def test_an_interval_is_written_as_it_is_read(interval: str) -> None:
    assert parse_interval(str(parse_interval(interval))) == parse_interval(interval)


def test_auto_gives_no_more_points_than_asked_for() -> None:
    start = utc("2026-03-01 00:07")
    for hours in (0.1, 1, 7, 24, 24 * 30, 24 * 365):
        for points in (3, 50, 300, 11_000):
            end = start + timedelta(hours=hours)
            interval = choose_interval(start, end, points)
            assert len(bucket_boundaries(start, end, interval, ZoneInfo("UTC"))) - 1 <= points


def test_a_year_before_29_february_is_the_28th() -> None:
    assert shifted_year(utc("2028-02-29 10:00"), ZoneInfo("UTC")) == utc("2027-02-28 10:00")
    # The local time is kept when the offset differs.
    assert shifted_year(utc("2026-03-29 10:00"), ZoneInfo("Europe/Berlin")) == utc("2025-03-29 11:00")
