"""Moments in the notation of callers and of answers.

Accepted are RFC 3339 with a zone (``2026-11-23T10:00:00Z``), epoch seconds or milliseconds (told apart by size), and
times relative to now in Grafana's notation (``now``, ``now-6h``, ``now-1d/d``). A time without a zone is refused,
because guessing one silently shifts answers by hours.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 100_000_000_000
"""Larger whole numbers are milliseconds: as seconds they lie after the year 5138."""

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_RELATIVE = re.compile(r"now(?:(?:[+-][0-9]{1,6}[smhdwMy])|(?:/[smhdwMy]))*", re.ASCII)
_STEP = re.compile(r"([+-])([0-9]{1,6})([smhdwMy])|/([smhdwMy])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = (
    "expected RFC 3339 with a zone, such as 2026-11-01T00:00:00Z, epoch seconds or milliseconds, or a relative time "
    "such as now-6h"
)

_TIME = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d*)?)?"
_NEARLY = tuple(
    (re.compile(form, re.ASCII), hint)
    for form, hint in (
        (r"\d{4}-\d\d-\d\d", "is a day: write a moment of it with a zone, such as 2026-11-01T00:00:00Z"),
        (_TIME, "has no zone: add Z or an offset such as +02:00"),
        (_TIME + r" \d\d:\d\d", "contains a space: write + as %2B in an address"),
        (r"[\d-]+ [\d:.]+ ?(?:[Zz]|[+-]\d\d:\d\d)", "contains a space: write T between day and time"),
        (r"[\d-]+[Tt]\d\d:\d\d(?:[Zz]|[+-]\d\d:\d\d)", "has no seconds: write them, such as 2026-11-01T00:00:00Z"),
    )
)
"""Words that are often written in place of a moment, each with the remedy. A ``+`` in an address arrives as a space."""


def floor_to(moment: datetime, width: timedelta) -> datetime:
    """Return the last multiple of ``width`` since the epoch that is not after ``moment``."""
    return EPOCH + (moment - EPOCH) // width * width


def ceil_to(moment: datetime, width: timedelta) -> datetime:
    """Return the first multiple of ``width`` since the epoch that is not before ``moment``."""
    return EPOCH - (EPOCH - moment) // width * width


def is_multiple_of(moment: datetime, width: timedelta) -> bool:
    """Return whether a bucket of ``width`` starts at ``moment``."""
    return not (moment - EPOCH) % width


def parse_instant(raw: object, *, now: datetime, round_up: bool = False, earliest: datetime = EARLIEST) -> datetime:
    """Parse one moment into an aware UTC datetime with microseconds (finer digits are cut off).

    ``round_up``: a rounding step (``/d``) means the end of the unit, as Grafana has it for ``to``. Raises ValueError,
    with a sentence for the caller, for anything else, before ``earliest`` or after 2099.
    """
    outside = f"must be in the years {earliest.year} to {LATEST.year - 1}"
    try:
        if isinstance(raw, int) and not isinstance(raw, bool):
            moment = _from_epoch(raw)
        elif not isinstance(raw, str):
            raise ValueError(_FORMS)
        elif raw.isascii() and raw.isdigit() and len(raw) <= 15 and (raw == "0" or raw[0] != "0"):
            moment = _from_epoch(int(raw))
        elif _RELATIVE.fullmatch(raw):
            moment = _relative(raw, now, round_up)
        else:
            moment = _from_rfc3339(raw)
    except OverflowError as error:
        raise ValueError(outside) from error
    if not earliest <= moment < LATEST:
        raise ValueError(outside)
    return moment


def format_instant(moment: datetime) -> str:
    """Return RFC 3339 in UTC with ``Z`` and microseconds: the one form of times in answers."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"  # without +00:00


def _from_epoch(number: int) -> datetime:
    if number >= _MILLISECONDS_FROM:
        return EPOCH + timedelta(milliseconds=number)
    return EPOCH + timedelta(seconds=number)


def _from_rfc3339(raw: str) -> datetime:
    match = _RFC3339.fullmatch(raw)
    if match is None:
        raise ValueError(next((hint for form, hint in _NEARLY if form.fullmatch(raw)), _FORMS))
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, zulu, sign, offset_hours, offset_minutes = match.groups()[6:]
    zone = UTC
    if not zulu:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise ValueError("has an impossible offset")
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
        zone = timezone(-offset if sign == "-" else offset)
    try:
        moment = datetime(year, month, day, hour, minute, second, int((fraction or "0")[:6].ljust(6, "0")), zone)
    except ValueError as error:
        raise ValueError("is not a date and time that exists") from error
    return moment.astimezone(UTC)


def _relative(raw: str, now: datetime, round_up: bool) -> datetime:
    moment = now.astimezone(UTC)
    for sign, count, unit, rounding in _STEP.findall(raw):
        if rounding:
            moment = _floor(moment, rounding)
            moment = _shift(moment, 1, rounding) if round_up else moment
        else:
            moment = _shift(moment, int(count) if sign == "+" else -int(count), unit)
    return moment


def _shift(moment: datetime, count: int, unit: str) -> datetime:
    if unit in _UNITS:
        return moment + timedelta(**{_UNITS[unit]: count})
    months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    # 31 March minus a month is the last day of February.
    for day in range(moment.day, 27, -1):
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return moment.replace(year=year, month=month + 1)


def _floor(moment: datetime, unit: str) -> datetime:
    kept = {"s": 6, "m": 5, "h": 4, "d": 3, "w": 3, "M": 2, "y": 1}[unit]
    parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    year, month, day, hour, minute, second = (*parts[:kept], *(1, 1, 1, 0, 0, 0)[kept:])
    floored = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return floored - timedelta(days=floored.weekday()) if unit == "w" else floored
