"""Annotations: moments that explain a change in a chart."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from datasource.panels.frames import Column, FieldType, FrameMeta, wire_frame
from datasource.panels.panel_request import choose_step
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from datasource.targets.metrics import interval_of, metric_question
from server.queries.metrics.metric_question import Measure
from server.queries.metrics.metric_reader import query_metrics
from server.queries.records.annotations import SIGHTING_KINDS, list_annotations, list_price_changes, list_sightings

_COLUMNS: Final = (
    Column("time", FieldType.TIME),
    Column("timeEnd", FieldType.TIME),
    Column("title", FieldType.STRING),
    Column("text", FieldType.STRING),
    Column("tags", FieldType.STRING),
    Column("id", FieldType.STRING),
)

_KIND_WORDS: Final = {"service_version": "Deployment", "model": "New model", "prompt_version": "Prompt version"}

MOST_LINES: Final = 48
"""Number of lines of first sightings that fit into a chart; closer lines are joined."""
LISTED: Final = 8

# A burst: at least this many failed calls in a bucket (a 72nd of the range), and a share of failed calls that is both
# this high and several times the usual share in the range. A share of one half is always high enough.
BURST_BUCKETS: Final = 72
BURST_ERRORS: Final = 5
BURST_SHARE: Final = 0.1
BURST_FACTOR: Final = 3.0
ALWAYS_A_BURST: Final = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """One annotation; ``end`` is set for a range of time."""

    time: datetime
    title: str
    text: str
    tags: tuple[str, ...]
    id: str
    end: datetime | None = None


async def annotation_frame(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one frame whose fields Grafana finds by name. Texts are escaped: Grafana shows them as HTML."""
    found = await _SOURCES[question.values["source"]](core, question)
    rows = (
        [event.time, event.end, _inert(event.title), _inert(event.text), _inert(",".join(event.tags)), event.id]
        for event in sorted(found, key=lambda event: event.time)
    )
    meta = FrameMeta(notices=list(question.notices), topic="annotations")
    return [wire_frame(question.ref_id, question.definition.name, _COLUMNS, rows, meta)]


async def _releases(core: Core, question: TargetQuestion) -> Sequence[Event]:
    span = question.time_range
    kinds = question.values["kinds"] or SIGHTING_KINDS
    longest = question.values["longest_days"]
    if longest is not None and span.end - span.start > timedelta(days=longest):
        return []
    found = [
        Event(
            time=seen.first_ts,
            title=f"{_KIND_WORDS[seen.kind]}: {seen.owner_name} {seen.value}".replace("  ", " "),
            text=f"First seen in project {seen.project_id}.",
            tags=(seen.kind, seen.owner_name, seen.value),
            id=f"{seen.project_id}:{seen.kind}:{seen.owner_name}:{seen.value}",
        )
        for seen in await list_sightings(core.database, core.scope, span.start, span.end, kinds)
    ]
    return found if longest is None else grouped(found, (span.end - span.start) / MOST_LINES)


def grouped(events: Sequence[Event], width: timedelta) -> list[Event]:
    """Return the events; those closer than ``width`` to the first of a group are joined to one, so that lines stay
    apart."""
    groups: list[list[Event]] = []
    for event in sorted(events, key=lambda item: item.time):
        if groups and event.time - groups[-1][0].time < width:
            groups[-1].append(event)
        else:
            groups.append([event])
    return [group[0] if len(group) == 1 else _together(group) for group in groups]


def _together(group: Sequence[Event]) -> Event:
    first = group[0]
    tags = tuple(dict.fromkeys(tag for event in group for tag in event.tags))
    text = "; ".join(event.title for event in group[:LISTED])
    more = f" and {len(group) - LISTED} more" if len(group) > LISTED else ""
    return replace(first, title=f"{len(group)} first sightings", text=f"{text}{more}.", tags=tags[:LISTED])


async def _prices(core: Core, question: TargetQuestion) -> Sequence[Event]:
    span = question.time_range
    return [
        Event(
            time=price.valid_from,
            title=f"Price: {price.provider} {price.model}",
            text="USD per million tokens: "
            f"input {_from_to(price.former_input_usd_per_mtok, price.input_usd_per_mtok)}, "
            f"output {_from_to(price.former_output_usd_per_mtok, price.output_usd_per_mtok)}.",
            tags=("price", price.provider, price.model),
            id=f"{price.project_id}:price:{price.provider}:{price.model}:{price.valid_from.isoformat()}",
        )
        for price in await list_price_changes(core.database, core.scope, span.start, span.end)
    ]


async def _custom(core: Core, question: TargetQuestion) -> Sequence[Event]:
    span = question.time_range
    found = await list_annotations(core.database, core.scope, span.start, span.end, tags=question.values["tag"])
    return [
        Event(
            time=item.ts,
            end=item.end_ts,
            title=item.title,
            text=item.text or item.title,
            tags=item.tags,
            id=f"{item.project_id}:{item.annotation_id}",
        )
        for item in found
    ]


async def _error_bursts(core: Core, question: TargetQuestion) -> Sequence[Event]:
    calls, errors = Measure("calls"), Measure("errors")
    step = choose_step(question.time_range.seconds, question.step_seconds * 1000, BURST_BUCKETS)
    interval = interval_of(replace(question, step_seconds=step))
    asked = metric_question(question, (calls, errors), interval=interval, fill="zero")
    answer = await query_metrics(core.database, core.scope, asked)
    if not answer.groups:
        return []
    counts = list(zip(answer.groups[0].values[calls.key], answer.groups[0].values[errors.key], strict=True))
    figures = [(_whole(total), _whole(failed)) for total, failed in counts]
    return list(bursts(answer.times, figures, question.time_range.end))


def bursts(times: Sequence[datetime], figures: Sequence[tuple[int, int]], end: datetime) -> Iterator[Event]:
    """Yield runs of buckets with a burst. ``figures``: (calls, failed calls) of each bucket. ``end``: the end of the
    last bucket.
    """
    shares = [failed / total for total, failed in figures if total]
    threshold = max(BURST_SHARE, min(BURST_FACTOR * median(shares), ALWAYS_A_BURST)) if shares else 1.0
    borders = [*times, end]
    start: int | None = None
    for index, (total, failed) in enumerate([*figures, (0, 0)]):
        is_burst = failed >= BURST_ERRORS and failed / total >= threshold
        if is_burst and start is None:
            start = index
        if not is_burst and start is not None:
            run = figures[start:index]
            all_calls, all_failed = sum(item[0] for item in run), sum(item[1] for item in run)
            yield Event(
                time=times[start],
                end=max(borders[index], times[start]),
                title=f"Error burst: {all_failed / all_calls:.0%} of calls failed",
                text=f"{all_failed} of {all_calls} calls.",
                tags=("errors",),
                id=f"errors:{times[start].isoformat()}",
            )
            start = None


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _from_to(former: object, present: object) -> str:
    return f"{present}" if former is None else f"{former} → {present}"


def _inert(text: str) -> str:
    return html.escape(text, quote=False)


_SOURCES: Final[dict[str, Callable[[Core, TargetQuestion], Awaitable[Sequence[Event]]]]] = {
    "releases": _releases,
    "prices": _prices,
    "errors": _error_bursts,
    "custom": _custom,
}
