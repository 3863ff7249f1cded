"""Conversion of OTLP's nanoseconds to the times of a row."""

from __future__ import annotations

from datetime import datetime, timedelta

from server.text.instants import EPOCH


def to_datetime(ns: int) -> datetime:
    """Return UTC with microseconds; a timestamptz has no place for the last three digits of the nanoseconds."""
    # With keyword arguments timedelta takes three times as long.
    return EPOCH + timedelta(0, ns // 1_000_000_000, ns // 1000 % 1_000_000)


def to_ms(ns: int) -> float:
    """Return nanoseconds as milliseconds in whole microseconds, so that sums of rows equal those of rollups, which
    count microseconds.
    """
    return round(ns / 1000) / 1000


def to_rfc3339(ns: int) -> str | None:
    """Return RFC 3339 in UTC with microseconds; None for a time that no calendar has (after the year 9999)."""
    try:
        return to_datetime(ns).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def to_ns(moment: datetime) -> int:
    """Return nanoseconds since the epoch of an aware datetime."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
