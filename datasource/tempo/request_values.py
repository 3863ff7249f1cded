"""Times and durations in the parameters of Tempo's API."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from sanic import Request

from datasource.tempo.span_filter import is_duration, milliseconds
from server.errors import InvalidParameter

LATEST_MS: Final = 253_370_764_800_000
_WHOLE: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)


def moment_ms(request: Request, name: str) -> int | None:
    """Return a time as ms: Unix seconds, milliseconds or nanoseconds, or RFC 3339. Raises InvalidParameter."""
    text = request.args.get(name, "")
    if not text:
        return None
    if _WHOLE.fullmatch(text):
        number = int(text)
        # Seconds until the year 5138, milliseconds until the same, nanoseconds above.
        found = number * 1000 if number < 10**11 else number if number < 10**14 else number // 1_000_000
    elif _SECONDS.fullmatch(text):
        found = round(float(text) * 1000)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InvalidParameter.named(name, "expected Unix seconds or RFC 3339") from None
        if moment.tzinfo is None:
            raise InvalidParameter.named(name, "has no time zone")
        found = round(moment.timestamp() * 1000)
    if not 0 <= found < LATEST_MS:
        raise InvalidParameter.named(name, "no such time")
    return found


def step_ms(request: Request, name: str) -> int | None:
    """Return a duration as ms: ``30s``, or seconds. Raises InvalidParameter."""
    text = request.args.get(name, "")
    if not text:
        return None
    found = milliseconds(text) if is_duration(text) else float(text) * 1000 if _SECONDS.fullmatch(text) else 0.0
    if found < 1:
        raise InvalidParameter.named(name, "expected a duration such as 30s, at least 1ms")
    return round(found)


def whole(request: Request, name: str, default: int) -> int:
    """Return a whole number, zero included. Raises InvalidParameter."""
    text = request.args.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidParameter.named(name, "expected a whole number")
    return int(text)
