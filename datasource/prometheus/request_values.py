"""Parameters of Prometheus' API: times, durations and whole numbers, from the query string or a form body.

As in Prometheus, parameters that are not known are ignored: proxies and Grafana add their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qs

from sanic import Request

from server.errors import BadRequest, PayloadTooLarge
from server.text.instants import EPOCH

LONGEST_FORM: Final = 256 * 1024
MOST_FIELDS: Final = 500
EARLIEST_MS: Final = 0
LATEST_MS: Final = 253_370_764_800_000

_DURATION: Final = re.compile(
    "".join(rf"(?:(\d{{1,18}}){unit})?" for unit in ("y", "w", "d", "h", "m(?!s)", "s", "ms")), re.ASCII
)
_UNITS_MS: Final = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1000, 1)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class PrometheusParams:
    """The parameters of one request."""

    given: Mapping[str, list[str]]

    @classmethod
    def of(cls, request: Request) -> PrometheusParams:
        """Return those of ``request``; a form body comes before the query string. Raises BadRequest."""
        if len(request.body) > LONGEST_FORM:
            raise PayloadTooLarge(f"A form has at most {LONGEST_FORM} bytes.")
        try:
            found = parse_qs(request.query_string, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
            if request.method == "POST" and request.body:
                text = request.body.decode("utf-8")
                form = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
                for name, values in form.items():
                    found[name] = values + found.get(name, [])
        except ValueError as error:
            raise BadRequest("the parameters are not a form in UTF-8") from error
        return cls(found)

    def text(self, name: str) -> str:
        """Return the first value; the empty text without one."""
        return self.given.get(name, [""])[0]

    def texts(self, name: str) -> list[str]:
        """Return all values."""
        return self.given.get(name, [])

    def time(self, name: str, default: int | None = None) -> int:
        """Unix seconds or RFC 3339 as ms. Raises BadRequest, also for a missing value without ``default``."""
        text = self.text(name)
        if not text and default is not None:
            return default
        found = _time(text)
        if found is None:
            raise invalid(name, f"invalid time value for '{name}': cannot parse \"{text[:60]}\" to a valid timestamp")
        return found

    def duration(self, name: str, default: int | None = None) -> int:
        """Return the seconds or a duration such as ``5m`` as ms. Raises BadRequest."""
        text = self.text(name)
        if not text and default is not None:
            return default
        found = parse_duration(text)
        if found is None:
            raise invalid(name, f'cannot parse "{text[:60]}" to a valid duration')
        return found

    def limit(self, name: str = "limit") -> int:
        """Return a whole number; 0 for none. Raises BadRequest."""
        text = self.text(name)
        if not text:
            return 0
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 16):
            raise invalid(name, f'cannot parse "{text[:60]}" to a number')
        if int(text) < 0:
            raise invalid(name, "limit must be non-negative")
        return int(text)


def invalid(name: str, detail: str) -> BadRequest:
    """Return the error for one parameter, in Prometheus' words."""
    return BadRequest(f'invalid parameter "{name}": {detail}')


def moment_at(milliseconds: int) -> datetime:
    """Return the moment ``milliseconds`` after 1970, or the nearest that a span can have.

    Prometheus takes times before the year 1, which no ``datetime`` can be.
    """
    return EPOCH + timedelta(milliseconds=min(max(milliseconds, EARLIEST_MS), LATEST_MS))


def parse_duration(text: str) -> int | None:
    """Return milliseconds; None if ``text`` is not a duration."""
    seconds = _number(text)
    if seconds is not None:
        return round(seconds * 1000) if abs(seconds) < LATEST_MS / 1000 else None
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    found = sum(int(count) * unit for count, unit in zip(match.groups(), _UNITS_MS, strict=True) if count)
    return found if found < LATEST_MS else None


def _time(text: str) -> int | None:
    seconds = _number(text)
    if seconds is None:
        if _RFC3339.fullmatch(text) is None:
            return None
        try:
            moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
        except ValueError:
            return None
        milliseconds = (moment - EPOCH).total_seconds() * 1000
    else:
        milliseconds = seconds * 1000
    if not EARLIEST_MS - LATEST_MS <= milliseconds <= LATEST_MS:
        return None
    return round(milliseconds)


def _number(text: str) -> float | None:
    if not text.isascii() or "_" in text or text != text.strip():
        return None
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
