"""Conversion of OTLP's nanoseconds to the times of a row."""

from __future__ import annotations

from datetime import datetime, timedelta

from server.ingest.otlp.payload import DecodedSpan
from server.text.instants import EPOCH

_LONGEST_STATED_S = 3600
"""A longer stream is none: a length that is told wrongly must not move a span by days."""


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


def begin_as_stated(span: DecodedSpan, attribute: str) -> None:
    """Put the start of ``span`` before its end by the seconds that ``attribute`` states: its sender makes the span when
    all is over. A span that itself lasts longer stays as it is.
    """
    stated = span.attributes.get(attribute)
    if (
        span.end_ns and isinstance(stated, float | int) and stated is not True and 0 < stated <= _LONGEST_STATED_S
    ):  # NaN is neither
        span.start_ns = min(span.start_ns, span.end_ns - round(stated * 1e9))
