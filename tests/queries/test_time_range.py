"""Moments as callers write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.queries.filters.time_range import TimeRange, check_range
from server.text.instants import format_instant, parse_instant

NOW = datetime(2026, 11, 23, 12, 34, 56, 789012, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000000Z"),
        ("2026-11-23t10:00:00z", "2026-11-23T10:00:00.000000Z"),
        ("2026-11-23T10:00:00.123456789+02:30", "2026-11-23T07:30:00.123456Z"),
        ("2026-11-23T10:00:00-05:00", "2026-11-23T15:00:00.000000Z"),
        ("1763892000", "2025-11-23T10:00:00.000000Z"),
        ("1763892000123", "2025-11-23T10:00:00.123000Z"),
        (1763892000, "2025-11-23T10:00:00.000000Z"),
        ("now", "2026-11-23T12:34:56.789012Z"),
        ("now-6h", "2026-11-23T06:34:56.789012Z"),
        ("now-90s", "2026-11-23T12:33:26.789012Z"),
        ("now-1d/d", "2026-11-22T00:00:00.000000Z"),
        ("now/w", "2026-11-23T00:00:00.000000Z"),
        ("now-1M/M", "2026-10-01T00:00:00.000000Z"),
        ("now-1y", "2025-11-23T12:34:56.789012Z"),
        ("now-1d+2h/h", "2026-11-22T14:00:00.000000Z"),
    ],
)
def test_moments_are_read(raw: Any, expected: str) -> None:
    assert format_instant(parse_instant(raw, now=NOW)) == expected


def test_rounding_of_an_end_gives_the_end_of_the_unit() -> None:
    assert parse_instant("now-1d/d", now=NOW, round_up=True) == datetime(2026, 11, 23, tzinfo=UTC)


def test_a_month_before_the_31st_is_the_last_day_there_is() -> None:
    assert parse_instant("now-1M", now=datetime(2026, 3, 31, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    "raw",
    [
        "", " ", "2026-11-23", "2026-11-23T10:00:00", "2026-11-23 10:00:00Z", "2026-11-23T10:00:00 02:00",
        "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-12-31T23:59:60Z", "2026-01-01T00:00:00+99:99",
        "2026-01-01T00:00:00+24:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "-1", "+5",
        "0", "01763892000", "1e9", "1763892000.5", "9" * 15, "9" * 40, "\u0661\u0662", "NaN", "yesterday", "Now",
        "now-", "now-6", "now-6x", "now - 6h", "now-999999y", "now+999999w", "now/q", "now-1.5h",
        "2026-W01-1T00:00:00Z",
        True, 1.5, None, -1, 10**30,
    ],
)  # fmt: skip
def test_everything_else_is_refused_and_never_guessed(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_instant(raw, now=NOW)


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        ("2026-11-23", "is a day: write a moment of it"),
        ("2026-13-40", "is a day: write a moment of it"),
        ("2026-11-23T10:00:00", "add Z or an offset"),
        ("2026-11-23T10:00", "add Z or an offset"),
        ("2026-11-23T10:00:00 02:00", "write + as %2B"),
        ("2026-11-23 10:00:00Z", "write T between day and time"),
        ("2026-11-23 10:00:00+02:00", "write T between day and time"),
        ("2026-11-23T10:00Z", "has no seconds"),
        ("2026-13-40T00:00:00Z", "is not a date and time that exists"),
        ("yesterday", "such as 2026-11-01T00:00:00Z"),
    ],
)
def test_what_is_nearly_a_moment_is_told_what_it_lacks(raw: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse_instant(raw, now=NOW)


def test_windows_have_bounds() -> None:
    check_range(TimeRange(NOW - timedelta(days=90), NOW), now=NOW)
    check_range(TimeRange(None, NOW), now=NOW)
    check_range(TimeRange(NOW, None), now=NOW - timedelta(hours=1))
    for window in (
        TimeRange(NOW, NOW - timedelta(microseconds=1)),
        TimeRange(NOW - timedelta(days=90, microseconds=1), NOW),
        TimeRange(NOW - timedelta(days=91), None),
    ):
        with pytest.raises(ValueError, match=r"range|later"):
            check_range(window, now=NOW)
