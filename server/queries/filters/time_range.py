"""Windows of time that callers ask for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_RANGE = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A window: ``start`` is included, ``end`` is not, so that neighbouring windows share no row.

    None means unbounded on that side.
    """

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class BoundedRange(TimeRange):
    """A window with both ends. ``is_relative``: it was given as ``now-6h`` or the like, and moves with the clock."""

    start: datetime
    end: datetime
    is_relative: bool = False

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start).total_seconds()


def check_range(window: TimeRange, *, now: datetime, longest: timedelta = LONGEST_RANGE) -> TimeRange:
    """Return ``window`` if it is acceptable.

    Raises ValueError if it ends before it starts or is longer than ``longest`` (an open end counts as now).
    """
    if window.start is not None:
        end = window.end or max(now, window.start)
        if window.start > end:
            raise ValueError("from is later than to")
        if end - window.start > longest:
            side = "" if window.end else "; without to it ends now"
            raise ValueError(f"the range is longer than {longest.days} days{side}")
    return window
