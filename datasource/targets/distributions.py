"""Targets that show distributions: heatmap, histogram, and states over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, epoch_ms, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from datasource.targets.metrics import (
    answer_meta,
    group_title,
    interval_of,
    measure_label,
    metric_question,
)
from server.queries.metrics.metric_answer import MetricGroup, Value
from server.queries.metrics.metric_catalog import HISTOGRAM_BOUNDS
from server.queries.metrics.metric_question import Measure, parse_measure
from server.queries.metrics.metric_reader import query_metrics

_CALLS: Final = Measure("calls")
_ERROR_RATE: Final = Measure("error_rate")

# States of a group with their colours.
_STATES: Final = (("ok", "green"), ("degraded", "orange"), ("failing", "red"))
_STATE_MAPPINGS: Final = [
    {
        "type": "value",
        "options": {
            name: {"text": name, "color": color, "index": index} for index, (name, color) in enumerate(_STATES)
        },
    }
]

Bound = float | None
"""Upper bound of a bucket; None: the bucket above the last bound."""


def histogram_measure(question: TargetQuestion) -> Measure:
    """Return the distribution of the payload's metric."""
    return Measure(parse_measure(question.values["metric"]).metric, "histogram")


def permissions(question: TargetQuestion) -> Mapping[str, str]:
    """Return ``costs:read`` for money. Raises for a metric without a distribution."""
    return metric_question(question, (histogram_measure(question),)).permissions


async def heatmap(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return ``heatmap-rows``: a time column and one count column per bucket, named by its upper bound, ascending."""
    measure = histogram_measure(question)
    asked = metric_question(question, (measure,), interval=interval_of(question))
    answer = await query_metrics(core.database, core.scope, asked)
    counts = [_bins(value) for value in (answer.groups[0].values[measure.key] if answer.groups else ())]
    bounds = covered_bounds(counts)
    columns = [Column("time", FieldType.TIME)]
    # The cells are numbers of calls. The bounds, whose unit the axis shows, are only names of columns.
    columns += [Column(bound_name(bound), FieldType.NUMBER, {"unit": "short"}) for bound in bounds]
    rows = [[time, *(found[bound] for bound in bounds)] for time, found in zip(answer.times, counts, strict=False)]
    meta = answer_meta(question, answer)
    meta.type = "heatmap-rows"
    return [wire_frame(question.ref_id, measure_label(measure), columns, rows, meta)]


async def histogram(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return rows of ``xMin``, ``xMax`` and the count between them."""
    measure = histogram_measure(question)
    answer = await query_metrics(core.database, core.scope, metric_question(question, (measure,)))
    counts = _bins(answer.groups[0].values[measure.key][0]) if answer.groups else Counter()
    unit = {"unit": answer.units[measure.key]}
    columns = [
        Column("xMin", FieldType.NUMBER, unit),
        Column("xMax", FieldType.NUMBER, unit),
        Column("count", FieldType.NUMBER, {"unit": "short"}),
    ]
    rows = [[*edges(bound), counts[bound]] for bound in covered_bounds([counts])]
    return [wire_frame(question.ref_id, measure_label(measure), columns, rows, answer_meta(question, answer))]


async def availability(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one frame per group: the time of each change of state; no state if nothing was called."""
    asked = metric_question(
        question,
        (_CALLS, _ERROR_RATE),
        group_by=tuple(question.values["group_by"] or ("provider",)),
        limit=question.values["limit"],
        other=False,
        interval=interval_of(question),
    )
    answer = await query_metrics(core.database, core.scope, asked)
    meta = answer_meta(question, answer)
    frames = []
    for group in answer.groups:
        columns = [
            Column("time", FieldType.TIME),
            # With several frames Grafana shows the frame's name before the field's, unless the field has a display
            # name.
            Column(
                group_title(group),
                FieldType.STRING,
                {"mappings": _STATE_MAPPINGS, "displayNameFromDS": group_title(group)},
            ),
        ]
        states = _state_changes(group, answer.times, question.values["degraded"], question.values["failing"])
        frames.append(wire_frame(question.ref_id, group_title(group), columns, states, meta))
    return frames or [
        wire_frame(question.ref_id, "", [Column("time", FieldType.TIME), Column("state", FieldType.STRING)], [], meta)
    ]


def covered_bounds(counts: Iterable[Counter[Bound]]) -> list[Bound]:
    """Return the buckets from the lowest to the highest that holds anything, without a gap between them."""
    used = {bound for found in counts for bound, count in found.items() if count}
    ladder: list[Bound] = [*HISTOGRAM_BOUNDS, None]
    places = [index for index, bound in enumerate(ladder) if bound in used]
    return ladder[places[0] : places[-1] + 1] if places else []


def edges(bound: Bound) -> tuple[float, float]:
    """Return the lower and upper edge of the bucket; the open bucket at the end is drawn up to twice its lower edge."""
    if bound is None:
        return HISTOGRAM_BOUNDS[-1], HISTOGRAM_BOUNDS[-1] * 2
    place = HISTOGRAM_BOUNDS.index(bound)
    return (HISTOGRAM_BOUNDS[place - 1] if place else 0.0), bound


def bound_name(bound: Bound) -> str:
    """Return the upper bound as Grafana reads it from a field's name."""
    return "+Inf" if bound is None else format(bound, "g") if bound < 1e6 else str(int(bound))


def _bins(value: Value) -> Counter[Bound]:
    return Counter(dict(value)) if isinstance(value, tuple) else Counter()


def _state_changes(group: MetricGroup, times: tuple[datetime, ...], degraded: float, failing: float) -> list[list[Any]]:
    rows: list[list[Any]] = []
    calls, rates = group.values[_CALLS.key], group.values[_ERROR_RATE.key]
    for time, count, rate in zip(times, calls, rates, strict=True):
        state = _state(count, rate, degraded, failing)
        if not rows or rows[-1][1] != state:
            rows.append([epoch_ms(time), state])
    return rows


def _state(calls: Value, rate: Value, degraded: float, failing: float) -> str | None:
    if not calls or rate is None or isinstance(rate, tuple):
        return None
    return "failing" if rate >= failing else "degraded" if rate >= degraded else "ok"
