"""Answers in the forms that Grafana understands.

Three forms of the JSON data source: :func:`series` (one line of a time series), :func:`table` and :func:`wire_frame`,
the form of Grafana's own back ends, used for everything wide or nested. Every column states its type, because without
one the browser guesses. Times are milliseconds since the epoch as numbers: text in a time column stays text and breaks
the panel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from server.text.instants import EPOCH

NO_VALUE = "–"
"""The text of a cell without a value, for example the model of a tool span. It must not claim anything, such as "no
traffic"."""

_TINY_MONEY = [
    {"type": "range", "options": {"from": 1e-15, "to": 9.999e-7, "result": {"text": "< $0.000001", "index": 0}}}
]
"""The text of a cell with less than a millionth, which Grafana would show as $1.2e-7."""

_MILLISECOND = timedelta(milliseconds=1)


class FieldType(StrEnum):
    """Grafana's field types, as far as we send them."""

    TIME = "time"
    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or one field of a frame; ``config`` is Grafana's field config
    (``unit``, ``decimals``, ``links``, ``custom`` …)."""

    name: str
    type: FieldType
    config: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """A remark in the panel's header. ``severity``: info, warning or error."""

    text: str
    severity: str = "info"


@dataclass(slots=True)
class FrameMeta:
    """Facts about a frame: notices, figures for the inspector, hints to the panel."""

    notices: list[Notice] = field(default_factory=list)
    stats: dict[str, float] = field(default_factory=dict)
    custom: dict[str, Any] = field(default_factory=dict)
    type: str | None = None
    preferred_visualisation: str | None = None
    topic: str | None = None
    unique_row_id: Sequence[int] = ()

    def render(self) -> dict[str, Any]:
        """Return the ``meta`` object of Grafana."""
        meta: dict[str, Any] = {}
        if self.type is not None:
            meta |= {"type": self.type, "typeVersion": [0, 1]}
        if self.preferred_visualisation is not None:
            meta["preferredVisualisationType"] = self.preferred_visualisation
        if self.topic is not None:
            meta["dataTopic"] = self.topic
        if self.notices:
            meta["notices"] = [{"severity": notice.severity, "text": notice.text} for notice in self.notices]
        if self.stats:
            meta["stats"] = [{"displayName": name, "value": value} for name, value in self.stats.items()]
        if self.custom:
            meta["custom"] = dict(self.custom)
        if self.unique_row_id:
            meta["uniqueRowIdFields"] = list(self.unique_row_id)
        return meta


def series(
    ref_id: str,
    name: str,
    points: Iterable[tuple[Any, int]],
    *,
    title: str,
    unit: str | None = None,
    labels: Mapping[str, str] | None = None,
    meta: FrameMeta | None = None,
) -> dict[str, Any]:
    """Return one labelled line: ``points`` are (value, milliseconds since the epoch) in ascending order; ``None`` is a
    gap.
    """
    return {
        "target": name,
        "refId": ref_id,
        "title": title,
        **({"unit": unit} if unit else {}),
        "tags": dict(labels or {}),
        "datapoints": [[json_value(value), at] for value, at in points],
        "meta": (meta or FrameMeta()).render(),
    }


def table(
    ref_id: str, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], meta: FrameMeta | None = None
) -> dict[str, Any]:
    """Return a table; without rows it still has its columns."""
    return {
        "type": "table",
        "refId": ref_id,
        "name": name,
        "columns": [
            {"text": column.name, "type": column.type.value, "noValue": NO_VALUE, **_shown(column.config)}
            for column in columns
        ],
        "rows": [[json_value(value) for value in row] for row in rows],
        "meta": (meta or FrameMeta()).render(),
    }


def _shown(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"mappings": _TINY_MONEY, **config} if config.get("unit") == "currencyUSD" else config


def wire_frame(
    ref_id: str, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], meta: FrameMeta | None = None
) -> dict[str, Any]:
    """Return a table in the form of Grafana's own back ends: the schema and, column by column, the values.

    As Grafana expects, an infinity is null among the values, and its position is listed in ``entities``.
    """
    values: list[list[Any]] = [[] for _ in columns]
    infinite: list[list[int]] = [[] for _ in columns]
    for place, row in enumerate(rows):
        for cells, places, value in zip(values, infinite, row, strict=True):
            if isinstance(value, float) and value == math.inf:
                places.append(place)
            cells.append(json_value(value))
    entities = [{"Inf": places} if places else None for places in infinite]
    return {
        "schema": {
            "refId": ref_id,
            "name": name,
            "meta": (meta or FrameMeta()).render(),
            "fields": [
                {
                    "name": column.name,
                    "type": column.type.value,
                    **({"labels": dict(column.labels)} if column.labels else {}),
                    "config": dict(column.config),
                }
                for column in columns
            ],
        },
        "data": {"values": values, **({"entities": entities} if any(entities) else {})},
    }


def frame_size(frame: Mapping[str, Any]) -> int:
    """Return the number of values in ``frame``, in any of the three forms."""
    if "datapoints" in frame:
        return len(frame["datapoints"])
    if "rows" in frame:
        return len(frame["rows"]) * len(frame["columns"])
    return sum(map(len, frame["data"]["values"]))


def notice_frame(ref_id: str, notice: Notice) -> dict[str, Any]:
    """Return a frame without data that only carries ``notice``: for a target that failed while others did not."""
    return table(ref_id, "", [], [], FrameMeta(notices=[notice]))


def epoch_ms(at: datetime) -> int:
    """Return whole milliseconds since the epoch."""
    return (at - EPOCH) // _MILLISECOND


def epoch_ms_exact(at: datetime) -> float:
    """Return milliseconds since the epoch with microseconds as the fraction, as the Traces panel requires."""
    return (at - EPOCH) / _MILLISECOND


def json_value(value: Any) -> Any:
    """Return ``value`` in a form that JSON can carry: times become ms, NaN and infinities become null.

    ``Decimal`` is passed on: :func:`server.http.envelope.dumps` writes it with all its digits.
    """
    match value:
        case datetime():
            return epoch_ms(value)
        case float() if not math.isfinite(value):
            return None
        case Decimal() if not value.is_finite():
            return None
        case _:
            return value
