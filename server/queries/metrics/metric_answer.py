"""The answer of the metric engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

OTHER = "other"

HistogramBin = tuple[float | None, int]
"""Upper bound (None: no upper bound), and the count of values up to it and above the previous bound."""

Value = int | float | Decimal | tuple[HistogramBin, ...] | None
"""int for counts, Decimal for money, float for the rest; None means no data."""


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """One combination of dimension values; ``values[key][i]`` belongs to ``MetricAnswer.times[i]``.

    Labels are None for spans without a value. ``is_other``: the sum of the groups beyond the limit; every label is
    ``"other"``. ``compared`` has the values of the earlier range, with the same keys and lengths.
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
    """The table that answered each part, as sentences for ``explain``."""
    compared_start: datetime | None = None
    compared_end: datetime | None = None
    no_change_reason: str | None = None
    """Reason why a change against the earlier range has no meaning: data do not cover it. None if they do."""


@dataclass(frozen=True, slots=True)
class MetricAnswer:
    """Groups in rank order, "other" last. Without an interval, ``times`` holds only the start of the range.

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
        """Number of values."""
        return len(self.groups) * len(self.keys) * len(self.times)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield flat rows ``{time, metric, value, <labels>}``, one per measure, group and time, in order of time.

        With a comparison rows also have ``compared``. Readers that make series of such rows, as Grafana's Infinity data
        source does, fail if times go back.
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
