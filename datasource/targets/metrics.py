"""Targets answered by the metric engine: lines, single values, top-N and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, epoch_ms, series, table, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.comparison import Comparison, coverage, period_before
from datasource.targets.core import Core, Frame
from datasource.targets.exemplars import exemplars
from datasource.targets.group_colors import color_config, colors_of
from server.errors import InvalidParameter
from server.queries.metrics.metric_answer import MetricAnswer, MetricGroup, Value
from server.queries.metrics.metric_catalog import METRICS, Rate, Total
from server.queries.metrics.metric_interval import DAY_SECONDS, Interval, parse_interval
from server.queries.metrics.metric_question import Measure, MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics

MAX_GROUP_BY = 3
NO_VALUE = "not reported"


def measures_of(question: TargetQuestion) -> tuple[Measure, ...]:
    """Return every metric of the payload with each of the payload's aggregations; ``duration_p95`` names both at
    once."""
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
    asked = metric_question(question, measures, limit=_limit(question), interval=interval_of(question), fill=fill)
    answer = await query_metrics(core.database, core.scope, asked)
    meta = answer_meta(question, answer)
    groups = shown_groups(question, answer, measures, meta)
    hidden = _incomplete_places(question, answer, meta)
    is_colored = question.values["colors"]
    if not groups and not is_colored:
        return [
            series(question.ref_id, question.definition.name, [], title=measure_label(item), meta=meta)
            for item in measures
        ]
    if not groups:
        nothing = Column("value", FieldType.NUMBER, {"unit": answer.units[measures[0].key]})
        return [_line_frame(question, nothing, (), meta)]
    colors = await colors_of(core, asked.group_by, groups) if is_colored else {}
    lines: list[Frame] = []
    times = [epoch_ms(at) for at in answer.times]
    for place, group in enumerate(groups):
        for measure in measures:
            values = [None if at in hidden else value for at, value in enumerate(group.values[measure.key])]
            title, unit = _line_title(group, measure, measures), answer.units[measure.key]
            labels = _line_labels(group, measure, measures)
            # Notices appear once per panel, so they are on the first line.
            told = meta if not lines else FrameMeta(custom=meta.custom)
            points = zip(values, times, strict=True)
            if is_colored:
                config = {"unit": unit, "displayNameFromDS": title, **color_config(colors.get(place))}
                lines.append(_line_frame(question, Column("value", FieldType.NUMBER, config, labels), points, told))
            else:
                lines.append(
                    series(
                        question.ref_id, question.definition.name, points,
                        title=title, unit=unit, labels=labels, meta=told,
                    )
                )  # fmt: skip
    return lines + (await exemplars(core, question, measures) if question.values["exemplars"] else [])


def shown_groups(
    question: TargetQuestion, answer: MetricAnswer, measures: tuple[Measure, ...], meta: FrameMeta
) -> list[MetricGroup]:
    """Return the groups to show. With ``missing`` "hide", groups without a value become a notice."""
    if question.values.get("missing") != "hide" or not question.values.get("group_by"):
        return list(answer.groups)
    named = [
        item for item in answer.groups if item.is_other or any(label is not None for label in item.labels.values())
    ]
    for item in answer.groups:
        if item in named:
            continue
        dimensions = " or ".join(name.replace("_", " ") for name in item.labels)
        first = measures[0]
        if isinstance(first.definition.formula, Total):
            total = sum(
                float(value) for value in item.values[first.key] if value is not None and not isinstance(value, tuple)
            )
            amount = f"{total:,.2f} USD" if answer.units[first.key] == "currencyUSD" else f"{total:,.0f}"
            meta.notices.append(Notice(f"Left out: {amount} ({measure_label(first).lower()}) without {dimensions}."))
        else:
            meta.notices.append(Notice(f"Left out: values without {dimensions}."))
    return named[: question.values["limit"] + 1]


def _limit(question: TargetQuestion) -> int:
    """Return the most groups to request: one more if the group without a value is left out, since it takes a place."""
    limit: int = question.values["limit"]
    return limit + 1 if question.values.get("missing") == "hide" and question.values.get("group_by") else limit


def _incomplete_places(question: TargetQuestion, answer: MetricAnswer, meta: FrameMeta) -> frozenset[int]:
    """Return the indexes of the first and last interval if the range cuts them and cut intervals are to be hidden."""
    if question.values.get("incomplete") != "hide":
        return frozenset()
    partial = frozenset(answer.meta.incomplete)
    places = frozenset(place for place, time in enumerate(answer.times) if time in partial)
    if len(places) >= len(answer.times) - 1:
        return frozenset()
    if places:
        meta.custom["left_out_intervals"] = len(places)
    return places


def _line_frame(question: TargetQuestion, column: Column, points: Iterable[tuple[Any, int]], meta: FrameMeta) -> Frame:
    rows = ([at, value] for value, at in points)
    return wire_frame(question.ref_id, "", [Column("time", FieldType.TIME), column], rows, meta)


async def stat(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return each measure over the whole range, before, and the change: one row, or two points in time."""
    measures = measures_of(question)
    compare = None if question.values["compare"] == "none" else question.values["compare"]
    by_calendar = question.values["period"] is not None
    asked = metric_question(question, measures, compare=None if by_calendar else compare, fill=natural_fill(measures))
    answer = await query_metrics(core.database, core.scope, asked)
    group = answer.groups[0] if answer.groups else None
    compared = None if compare is None else await _compared(core, question, measures, answer)
    meta = answer_meta(question, answer)
    if question.values["layout"] == "change":
        return [_change_frame(question, answer, group, compared, meta)]
    shown = question.values["show"] or (("value",) if compare is None else ("value", "before", "change"))
    columns: list[Column] = []
    row: list[Any] = []
    for measure in measures:
        value = group.values[measure.key][0] if group else None
        before = compared.before(measure.key) if compared else None
        label, unit = measure_label(measure), answer.units[measure.key]
        if "change" in shown:
            _tell_no_change(meta, compared, measure, value)
        cells = {
            "value": (_number_column(label, unit), value),
            "before": (_number_column(f"{label} before", unit), before),
            "change": (
                _number_column(f"{label} change", "percentunit"),
                compared.change(measure.key, value) if compared else None,
            ),
        }
        columns += [cells[name][0] for name in shown]
        row += [cells[name][1] for name in shown]
    return [table(question.ref_id, question.definition.name, columns, [row], meta)]


async def _compared(
    core: Core, question: TargetQuestion, measures: tuple[Measure, ...], answer: MetricAnswer
) -> Comparison:
    if question.values["compare"] == "year_ago" and question.values["period"] is None:
        start, end = answer.meta.compared_start, answer.meta.compared_end
        start, end = start or question.time_range.start, end or question.time_range.end
    else:
        start, end = period_before(question)
    reason = await coverage(core, start, end)
    if question.values["period"] is None:
        before = answer.groups[0].compared if answer.groups else None
        group = None if before is None else MetricGroup({}, before, None)
    else:
        earlier = await query_metrics(
            core.database,
            core.scope,
            metric_question(question, measures, start=start, end=end, fill=natural_fill(measures)),
        )
        group = earlier.groups[0] if earlier.groups else None
    return Comparison(start, end, group, reason)


def _change_frame(
    question: TargetQuestion,
    answer: MetricAnswer,
    group: MetricGroup | None,
    compared: Comparison | None,
    meta: FrameMeta,
) -> Frame:
    """Return two points in time per measure, the value before and the value; the Stat panel shows the change.

    If no change may be shown, the first value is infinite: Grafana hides a percentage that it cannot compute, but shows
    "0 %" for a single value.
    """
    measures = measures_of(question)
    before: list[Any] = [compared.end if compared else question.time_range.start]
    now: list[Any] = [question.time_range.end]
    for measure in measures:
        value = group.values[measure.key][0] if group else None
        _tell_no_change(meta, compared, measure, value)
        change = compared.change(measure.key, value) if compared else None
        before.append(math.inf if change is None or compared is None else compared.before(measure.key))
        now.append(value)
    columns = [
        Column("time", FieldType.TIME),
        *(_number_column(measure_label(item), answer.units[item.key]) for item in measures),
    ]
    return wire_frame(question.ref_id, "", columns, [before, now], meta)


def _tell_no_change(meta: FrameMeta, compared: Comparison | None, measure: Measure, value: Value) -> None:
    """Add the reason why there is no change to ``value`` as a notice, once."""
    notice = compared.notice(measure.key, value) if compared else None
    if notice is not None and notice not in meta.notices:
        meta.notices.append(notice)


async def breakdown(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row per group with a column per measure, or one row with a column per group."""
    measures = measures_of(question)
    order_by = question.values["order_by"]
    asked = metric_question(
        question,
        measures,
        limit=_limit(question),
        order_by=parse_measure(order_by) if order_by else None,
        descending=question.values["order"] == "desc",
    )
    answer = await query_metrics(core.database, core.scope, asked)
    meta = answer_meta(question, answer)
    groups = shown_groups(question, answer, measures, meta)
    colors = await colors_of(core, asked.group_by, groups) if question.values["colors"] else {}
    if question.values["layout"] == "columns":
        first = measures[0]
        columns = [
            Column(
                group_title(group) or measure_label(first),
                FieldType.NUMBER,
                {"unit": answer.units[first.key], **color_config(colors.get(place))},
            )
            for place, group in enumerate(groups)
        ]
        row = [group.values[first.key][0] for group in groups]
        return [table(question.ref_id, question.definition.name, columns, [row] if row else [], meta)]
    columns = [
        Column(name, FieldType.STRING, {"filterable": True, "displayName": name.replace("_", " ").capitalize()})
        for name in asked.group_by
    ]
    columns += [_number_column(measure_label(measure), answer.units[measure.key]) for measure in measures]
    rows = [
        [*(_shown(label) for label in group.labels.values()), *(group.values[item.key][0] for item in measures)]
        for group in groups
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
