"""Rows as data frames. pandas and polars are optional: install the extra of that name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import polars

TIMES = ("ts", "end_ts", "ingested_at", "time")


def to_pandas(rows: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    """Return rows as a pandas frame; times are timestamps in UTC."""
    import pandas

    frame = pandas.DataFrame(list(rows))
    for name in TIMES:
        if name in frame.columns:
            frame[name] = pandas.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame


def to_polars(rows: Iterable[dict[str, Any]]) -> polars.DataFrame:
    """Return rows as a polars frame; times are datetimes in UTC."""
    import polars

    frame = polars.DataFrame(list(rows), infer_schema_length=None)
    times = [name for name in TIMES if frame.schema.get(name) == polars.String]
    return frame.with_columns(polars.col(name).str.to_datetime(time_zone="UTC", time_unit="us") for name in times)
