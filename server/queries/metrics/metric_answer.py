"""The answer of the metric engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

OTHER = "other"

HistogramBin = tuple[float | None, int]
"""Upper bound (None: above the last) and count of the values up to it and above the previous bound."""

Value = int | float | Decimal | tuple[HistogramBin, ...] | None
"""int for counts, Decimal for money, float for the rest; None means no data."""


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """One combination of dimension values; ``values[key][i]`` belongs to ``MetricAnswer.times[i]``.

    Labels are None where spans have no value. ``is_other``: the sum of the groups beyond the limit,
    every label being ``"other"``. ``compared`` has the same keys and lengths, for the earlier range.
    """

    labels: Mapping[str, str | None]
    values: Mapping[str, tuple[Value, ...]]
    compared: Mapping[str, tuple[Value, ...]] | None = None
    is_other: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricMeta:
    """Facts about the making of the answer.

    ``source``: rollup, raw or both. ``precision``: ``exact``; ``sketch`` when a percentile, minimum, maximum or
    histogram comes from log-histograms (within 1 %); ``approximate`` when a distinct count was estimated.
    ``incomplete`` lists the starts of buckets that the range or the present moment cuts. ``interval`` and
    ``interval_seconds`` are None for one value over the whole range.
    """

    source: Literal["rollup", "raw", "both"]
    precision: Literal["exact", "sketch", "approximate"]
    start: datetime
    end: datetime
    time_zone: str
    interval: str | None = None
    interval_seconds: int | None = None
    incomplete: tuple[datetime, ...] = ()
    notices: tuple[str, ...] = ()
    rows_read: int = 0
    groups_total: int = 0
    """Number of groups before the limit."""
    plan: tuple[str, ...] = ()
    """The table that answered each part, in words; for ``explain``."""
    compared_start: datetime | None = None
    compared_end: datetime | None = None
    no_change_reason: str | None = None
    """Why no change against the earlier range may be told: data do not cover it. None where one may."""


@dataclass(frozen=True, slots=True)
class MetricAnswer:
    """Groups in rank order, "other" last. Without an interval ``times`` holds the start of the range alone.

    ``skips_empty``: the question asked for no rows where there is no data (fill "none").
    """

    times: tuple[datetime, ...]
    keys: tuple[str, ...]
    groups: tuple[MetricGroup, ...]
    units: Mapping[str, str]
    meta: MetricMeta
    skips_empty: bool = False

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.groups) * len(self.keys) * len(self.times)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield flat rows ``{time, metric, value, <labels>}``, one per measure, group and time, in order of time.

        With a comparison rows also have ``compared``. Readers that make series of such rows (Grafana's Infinity data
        source does) give up on times that go back.
        """
        for index, time in enumerate(self.times):
            for group in self.groups:
                for key in self.keys:
                    value = group.values[key][index]
                    if value is None and self.skips_empty:
                        continue
                    row: dict[str, Any] = {"time": time, "metric": key, "value": value}
                    if group.compared is not None:
                        row["compared"] = group.compared[key][index]
                    yield row | dict(group.labels)
