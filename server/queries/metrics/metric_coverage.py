"""Whether data cover the earlier range of a comparison. If they do not, a change has no meaning.

A new installation would otherwise show that its costs rose a billionfold.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

TOLERATED_GAP: Final = 0.02
"""Share of the earlier range that may lie before the first data."""
NOTHING_BEFORE: Final = "the previous period has none of it."
SPANS_DROPPED: Final = "retention has dropped spans of the previous period."


def coverage_gap(first: datetime | None, start: datetime, end: datetime) -> str | None:
    """Return the reason why data that begin at ``first`` do not cover ``start`` to ``end``; None if they do."""
    if first is None or first >= end:
        return "there are no data before this period."
    if first > start + (end - start) * TOLERATED_GAP:
        return f"data begin on {first:%-d %B}, within the previous period."
    return None
