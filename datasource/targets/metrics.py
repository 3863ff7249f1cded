"""Targets answered by the metric engine: lines, single values, top-N and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, series, table
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from datasource.targets.exemplars import exemplars
from server.errors import InvalidParameter
from server.queries.metrics.metric_answer import MetricAnswer, MetricGroup, Value
from server.queries.metrics.metric_catalog import METRICS, Rate, Total
from server.queries.metrics.metric_interval import DAY_SECONDS, Interval, parse_interval
from server.queries.metrics.metric_question import Measure, MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics

MAX_GROUP_BY = 3
NO_VALUE = "(none)"


def measures_of(question: TargetQuestion) -> tuple[Measure, ...]:
    """Return every metric of the payload with every aggregation of it; ``duration_p95`` names both at once."""
    named = question.values["metric"]
    names: Sequence[str] = (named,) if isinstance(named, str) else named
    aggregations: Sequence[str] = question.values.get("aggregation") or ("",)
    found: list[Measure] = []
    for name in names:
        measure = parse_measure(name)
        if measure.aggregation:
            found.append(measure)
            continue
        known = METRICS[name].aggregations if name in METRICS else ()
        # An aggregation chosen for one metric of several need not exist for the others.
        usable = [item for item in aggregations if item in known] if len(names) > 1 else list(aggregations)
        found += [Measure(name, item) for item in usable or [""]]
    return tuple(dict.fromkeys(found))


def interval_of(question: TargetQuestion) -> Interval:
    """Return the width of a bucket: the payload's, else the panel's step. Days are days of the panel's time zone."""
    text = question.values.get("interval")
    if text and text not in ("auto", "$__auto"):
        try:
            return parse_interval(text)
        except ValueError as error:
            raise InvalidParameter.named("interval", str(error)) from None
    step = question.step_seconds
    return Interval(days=step // DAY_SECONDS) if step % DAY_SECONDS == 0 else Interval(seconds=step)


def metric_question(
    question: TargetQuestion, measures: tuple[Measure, ...] | None = None, **details: Any
) -> MetricQuestion:
    """Return the engine's question for ``question``; ``details`` are further arguments of :class:`MetricQuestion`."""
    group_by = question.values.get("group_by") or ()
    if len(group_by) > MAX_GROUP_BY:
        raise InvalidParameter.named("group_by", f"at most {MAX_GROUP_BY} dimensions")
    arguments: dict[str, Any] = {
        "measures": measures or measures_of(question),
        "start": question.time_range.start,
        "end": question.time_range.end,
        "group_by": tuple(group_by),
        "filter": question.filter,
        "time_zone": question.timezone,
    }
    return MetricQuestion(**{**arguments, **details})


def permissions(question: TargetQuestion) -> Mapping[str, str]:
    """Return ``costs:read`` for money, and the scope of spans for exemplars. Raises for unknown metrics and
    dimensions.
    """
    spans = {"traces:read": "exemplars"} if question.values.get("exemplars") else {}
    return {**metric_question(question).permissions, **spans}


async def timeseries(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one line per measure and group."""
    measures = measures_of(question)
    fill = question.values["fill"] or natural_fill(measures)
    asked = metric_question(
        question, measures, limit=question.values["limit"], interval=interval_of(question), fill=fill
    )
    answer = await query_metrics(core.database, core.scope, asked)
    meta = answer_meta(question, answer)
    if not answer.groups:
        return [
            series(question.ref_id, question.definition.name, [], title=measure_label(item), meta=meta)
            for item in measures
        ]
    lines = [
        series(
            question.ref_id,
            question.definition.name,
            zip(group.values[measure.key], answer.times, strict=True),
            title=_line_title(group, measure, measures),
            unit=answer.units[measure.key],
            labels=_line_labels(group, measure, measures),
            # Notices appear once per panel: on the first line.
            meta=meta if index == 0 else FrameMeta(custom=meta.custom),
        )
        for index, (group, measure) in enumerate((group, measure) for group in answer.groups for measure in measures)
    ]
    return lines + (await exemplars(core, question, measures) if question.values["exemplars"] else [])


async def stat(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row: each measure over the whole range, before, and the change."""
    measures = measures_of(question)
    compare = None if question.values["compare"] == "none" else question.values["compare"]
    asked = metric_question(question, measures, compare=compare, fill=natural_fill(measures))
    answer = await query_metrics(core.database, core.scope, asked)
    shown = question.values["show"] or (("value",) if compare is None else ("value", "before", "change"))
    columns: list[Column] = []
    row: list[Any] = []
    for measure in measures:
        group = answer.groups[0] if answer.groups else None
        value = group.values[measure.key][0] if group else None
        before = group.compared[measure.key][0] if group and group.compared else None
        label, unit = measure_label(measure), answer.units[measure.key]
        cells = {
            "value": (_number_column(label, unit), value),
            "before": (_number_column(f"{label} before", unit), before),
            "change": (_number_column(f"{label} change", "percentunit"), change(value, before)),
        }
        columns += [cells[name][0] for name in shown]
        row += [cells[name][1] for name in shown]
    return [table(question.ref_id, question.definition.name, columns, [row], answer_meta(question, answer))]


async def breakdown(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row per group with a column per measure, or one row with a column per group."""
    measures = measures_of(question)
    order_by = question.values["order_by"]
    asked = metric_question(
        question,
        measures,
        limit=question.values["limit"],
        order_by=parse_measure(order_by) if order_by else None,
        descending=question.values["order"] == "desc",
    )
    answer = await query_metrics(core.database, core.scope, asked)
    meta = answer_meta(question, answer)
    if question.values["layout"] == "columns":
        first = measures[0]
        columns = [
            _number_column(group_title(group) or measure_label(first), answer.units[first.key])
            for group in answer.groups
        ]
        row = [group.values[first.key][0] for group in answer.groups]
        return [table(question.ref_id, question.definition.name, columns, [row] if row else [], meta)]
    columns = [Column(name, FieldType.STRING, {"filterable": True}) for name in asked.group_by]
    columns += [_number_column(measure_label(measure), answer.units[measure.key]) for measure in measures]
    rows = [
        [*(_shown(label) for label in group.labels.values()), *(group.values[item.key][0] for item in measures)]
        for group in answer.groups
    ]
    return [table(question.ref_id, question.definition.name, columns, rows, meta)]


def natural_fill(measures: tuple[Measure, ...]) -> str:
    """Return the value of an empty bucket: zero for counts, none for an average."""
    return "zero" if all(isinstance(item.definition.formula, Total | Rate) for item in measures) else "null"


def measure_label(measure: Measure) -> str:
    """Return ``Duration p95``, ``Prompt tokens``: the metric in words, with the aggregation if there is a choice."""
    words = measure.metric.replace("_", " ").capitalize()
    default = measure.effective in ("sum", "distinct") or len(measure.definition.aggregations) == 1
    return words if default else f"{words} {measure.effective}"


def group_title(group: MetricGroup) -> str:
    """Return the labels of a group in one text; empty without a group."""
    return "other" if group.is_other else " / ".join(_shown(label) for label in group.labels.values())


def change(value: Value, before: Value) -> float | None:
    """Return the relative change, 0.1 for ten per cent more; None without a value to compare with."""
    if value is None or before is None or isinstance(value, tuple) or isinstance(before, tuple) or not before:
        return None
    return float(value) / float(before) - 1


def answer_meta(question: TargetQuestion, answer: MetricAnswer) -> FrameMeta:
    """Return the engine's facts about the answer, for the panel's header and inspector."""
    notices = [*question.notices, *(Notice(text) for text in answer.meta.notices)]
    if answer.meta.precision == "approximate":
        notices.append(Notice("Distinct counts are estimates."))
    custom: dict[str, Any] = {"source": answer.meta.source, "precision": answer.meta.precision}
    if answer.meta.interval_seconds is not None:
        custom["step_ms"] = answer.meta.interval_seconds * 1000
    return FrameMeta(notices=notices, stats={"Rows read": answer.meta.rows_read}, custom=custom)


def _line_title(group: MetricGroup, measure: Measure, measures: tuple[Measure, ...]) -> str:
    title = group_title(group)
    if len(measures) == 1:
        return title or measure_label(measure)
    one_metric = len({item.metric for item in measures}) == 1
    name = measure.effective if one_metric else measure_label(measure)
    return f"{title} {name}".strip()


def _line_labels(group: MetricGroup, measure: Measure, measures: tuple[Measure, ...]) -> dict[str, str]:
    labels = {name: _shown(label) for name, label in group.labels.items()}
    return labels if len(measures) == 1 else {**labels, "metric": measure.key}


def _number_column(name: str, unit: str) -> Column:
    return Column(name, FieldType.NUMBER, {"unit": unit})


def _shown(label: str | None) -> str:
    return NO_VALUE if label is None else label
