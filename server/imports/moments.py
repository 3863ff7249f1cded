"""Times in exports as nanoseconds: ISO 8601 (UTC if no zone is given), and epoch times in every usual unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from server.text.instants import EPOCH

_MICROSECOND: Final = timedelta(microseconds=1)
# Numbers of at least this size are in that unit: read in the next larger unit they lie after the year 5138.
_UNITS: Final = ((10**17, 1), (10**14, 1_000), (10**11, 1_000_000), (0, 1_000_000_000))


def nanoseconds(value: Any) -> int:
    """Return ``value`` in nanoseconds since the epoch. Raises ValueError, with a sentence."""
    if isinstance(value, str):
        text = value.strip()
        if text.replace(".", "", 1).isdigit():
            value = Decimal(text)
        else:
            try:
                value = datetime.fromisoformat(text)
            except ValueError as error:
                raise ValueError(f"{text[:40]!r} is not a time") from error
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - EPOCH) // _MICROSECOND * 1_000
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is not a time")
    factor = next(factor for least, factor in _UNITS if value >= least)
    return int(value * factor)
