"""Buckets of time: intervals, their boundaries, and the calendar.

Intervals below a day are aligned to the Unix epoch; days, weeks (from Monday), months, quarters and years
are aligned to the calendar of the caller's time zone, so that a day may have 23 or 25 hours and start
at half past an hour of UTC.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from server.text.instants import EPOCH, floor_to

MAX_POINTS: Final = 11_000
AUTO_POINTS: Final = 300
DAY_SECONDS: Final = 86_400

_MONDAY: Final = date(1970, 1, 5).toordinal()
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_MONTHS: Final = {"M": 1, "mo": 1, "Q": 3, "y": 12}
_INTERVAL: Final = re.compile(r"([0-9]{1,6})(s|m|h|d|w|M|mo|Q|y)")
_LONGEST_DAYS: Final = 3660


@dataclass(frozen=True, slots=True)
class Interval:
    """Width of a bucket: exactly one of the three is not zero."""

    seconds: int = 0
    days: int = 0
    months: int = 0

    @property
    def nominal_seconds(self) -> int:
        """Width in seconds; a day counts 24 hours and a month 30 days."""
        return self.seconds + self.days * DAY_SECONDS + self.months * 30 * DAY_SECONDS

    @property
    def is_calendar(self) -> bool:
        """Whether boundaries depend on the time zone."""
        return not self.seconds

    def __str__(self) -> str:
        if self.months:
            return f"{self.months}M"
        if self.days:
            return f"{self.days // 7}w" if self.days % 7 == 0 else f"{self.days}d"
        for unit, size in (("h", 3600), ("m", 60)):
            if self.seconds % size == 0:
                return f"{self.seconds // size}{unit}"
        return f"{self.seconds}s"


# Widths that "auto" chooses from, and to one of which a too narrow interval is widened.
LADDER: Final = (
    *(Interval(seconds=seconds) for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(Interval(seconds=3600 * hours) for hours in (1, 2, 3, 6, 12)),
    Interval(days=1),
    Interval(days=7),
    Interval(months=1),
    Interval(months=3),
    Interval(months=12),
)


def parse_interval(text: str) -> Interval:
    """Parse ``30s``, ``5m``, ``1h``, ``1d``, ``1w``, ``1M`` (or ``1mo``), ``1Q``, ``1y``, at most ten years.

    Raises ValueError.
    """
    interval = _read_interval(text)
    if interval.nominal_seconds > _LONGEST_DAYS * DAY_SECONDS:
        raise ValueError("an interval is at most ten years long")
    return interval


def _read_interval(text: str) -> Interval:
    match = _INTERVAL.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError("expected a number and a unit, such as 30s, 5m, 1h, 1d, 1w, 1M, 1Q or 1y, or auto")
    count, unit = int(match[1]), match[2]
    if unit in _MONTHS:
        return Interval(months=count * _MONTHS[unit])
    if unit in {"d", "w"}:
        return Interval(days=count * (7 if unit == "w" else 1))
    seconds = count * _UNIT_SECONDS[unit]
    if seconds % DAY_SECONDS == 0:
        return Interval(days=seconds // DAY_SECONDS)
    if seconds > DAY_SECONDS:
        raise ValueError("an interval of more than a day must be a whole number of days")
    return Interval(seconds=seconds)


def choose_interval(start: datetime, end: datetime, points: int) -> Interval:
    """Return the narrowest interval of :data:`LADDER` that makes at most ``points`` buckets."""
    length = (end - start).total_seconds()
    for interval in LADDER:
        # Two more than the quotient, because the range cuts the first and the last bucket.
        if length / interval.nominal_seconds + 2 <= max(points, 3):
            return interval
    return LADDER[-1]


def bucket_boundaries(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> list[datetime]:
    """Return the UTC boundaries of the buckets that cover ``[start, end)``: the first is at or before ``start``, the
    last at or after ``end``; there is one more boundary than buckets.
    """
    if interval.seconds:
        step = timedelta(seconds=interval.seconds)
        first = floor_to(start, step)
        return [first + step * index for index in range(-((first - end) // step) + 1)]
    local = _floor_date(start.astimezone(zone).date(), interval)
    found = [midnight(local, zone)]
    while found[-1] < end:
        local = _next_date(local, interval)
        # If a zone skipped a whole day, two calendar days begin at the same moment: keep one.
        begins = midnight(local, zone)
        if begins > found[-1]:
            found.append(begins)
    return found


def shifted_year(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the same local time one year before; 29 February becomes 28 February."""
    return months_before(moment, 12, zone)


def months_before(moment: datetime, months: int, zone: ZoneInfo) -> datetime:
    """Return the same local time ``months`` before; a day that the month does not have becomes its last."""
    local = moment.astimezone(zone)
    year, month = divmod(local.year * 12 + local.month - 1 - months, 12)
    day = min(local.day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day).astimezone(UTC)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the moment at which ``day`` begins in ``zone``."""
    # If midnight does not exist (a zone that moves its clocks then), this is the first moment after it.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _floor_date(day: date, interval: Interval) -> date:
    if interval.months:
        index = (day.year * 12 + day.month - 1) // interval.months * interval.months
        return date(index // 12, index % 12 + 1, 1)
    origin = _MONDAY if interval.days % 7 == 0 else EPOCH.toordinal()
    return date.fromordinal(origin + (day.toordinal() - origin) // interval.days * interval.days)


def _next_date(day: date, interval: Interval) -> date:
    if interval.months:
        index = day.year * 12 + day.month - 1 + interval.months
        return date(index // 12, index % 12 + 1, 1)
    return day + timedelta(days=interval.days)
