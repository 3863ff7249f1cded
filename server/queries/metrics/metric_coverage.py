"""Whether data cover the earlier range of a comparison: without that, a change says nothing.

A new installation would show that its costs rose a billionfold.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

TOLERATED_GAP: Final = 0.02
"""Share of the earlier range that may lie before the first data."""
NOTHING_BEFORE: Final = "the period before has nothing of it."
SPANS_DROPPED: Final = "spans of the period before were dropped by retention."


def coverage_gap(first: datetime | None, start: datetime, end: datetime) -> str | None:
    """Return why the range from ``start`` to ``end`` is not covered by data that begin at ``first``; None if it is."""
    if first is None or first >= end:
        return "there are no data before this period."
    if first > start + (end - start) * TOLERATED_GAP:
        return f"data begin on {first:%-d %B}, within the period before."
    return None
