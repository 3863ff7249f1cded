"""The query parameters that all reports share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from sanic import Request

from server.errors import InvalidParameter
from server.http.guard import row_scope
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.filters.filter_params import filter_from_params
from server.queries.metrics.metric_interval import Interval, parse_interval
from server.reports.report_window import ReportSource, ReportWindow

REPORT_PARAMETERS: Final[dict[str, str]] = {
    "from": "Start of the range, included: RFC 3339 with a zone, epoch seconds or ms, or relative (now-7d).",
    "to": "End of the range, not included; default now.",
    "project_id": "Projects to look at; default: all that the credential grants.",
    "time_zone": "IANA name of the zone whose days count; default UTC.",
}
"""In addition to these, every filter of GET /api/v1/traces is accepted."""

ANALYTICS_RANGE: Final = timedelta(days=7)
COSTS_RANGE: Final = timedelta(days=30)
WORDS: Final = {"1min": "1m", "5min": "5m", "1hour": "1h", "1day": "1d"}
"""Other spellings of widths."""


class ReportRequest:
    """A report's parameters; read the special ones first, then :meth:`window`, which refuses the rest."""

    def __init__(self, request: Request, *, default_range: timedelta) -> None:
        self._request = request
        self._default_range = default_range
        self.params = RequestParams.of(request)
        self.now = datetime.now(UTC)
        self._projects = self.params.texts("project_id")

    def interval(self) -> Interval | Literal["auto"]:
        """Return the width of buckets in ``interval``; default: one that fits the range."""
        text = self.params.text("interval")
        if text is None or text == "auto":
            return "auto"
        try:
            return parse_interval(WORDS.get(text, text))
        except ValueError as error:
            raise InvalidParameter.named("interval", str(error)) from error

    def number(self, name: str, *, low: float, high: float) -> float | None:
        """Return a number from ``low`` to ``high``; None without the parameter."""

        def reader(text: str) -> float:
            try:
                value = float(text) if text.isascii() and "_" not in text else float("nan")
            except ValueError:
                value = float("nan")
            if not low <= value <= high:
                raise ValueError(f"expected a number from {low:g} to {high:g}")
            return value

        return self.params.read(name, reader, None)

    def window(self) -> ReportWindow:
        """Return range, filter and zone. Raises for anything unknown or unusable."""
        zone = self.params.read("time_zone", _zone, "UTC")
        given = self.params.window(now=self.now)
        tree = filter_from_params(self.params.filters(), now=self.now)
        self.params.finish()
        end = given.end or self.now
        start = given.start or end - self._default_range
        if end <= start:
            raise InvalidParameter.named("to", "must be later than from")
        return ReportWindow(start=start, end=end, filter=tree, time_zone=zone)

    async def source(self) -> ReportSource:
        """Return the source to read, limited to the requested projects. Raises ProjectForbidden."""
        return ReportSource(services_of(self._request).reads, await row_scope(self._request, self._projects))


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("expected an IANA name such as Europe/Berlin") from error
    return text
