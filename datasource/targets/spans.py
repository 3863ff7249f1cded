"""Targets that list rows: spans, traces, points and log lines, each with a way to its trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, table, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from server.errors import InsufficientScope
from server.queries.lists.list_question import ListQuestion, Sort, lift_to_traces
from server.queries.lists.list_reader import ListPage, list_spans

Row = Mapping[str, Any]

TRACE_LINK: Final = {
    "title": "Open trace",
    "url": '/d/llm-trace?var-trace_id=${__data.fields["trace_id"]}&${__url_time_range}&var-ds=${ds}',
}
STATUS_MAPPINGS: Final = [
    {
        "type": "value",
        "options": {
            "OK": {"text": "ok", "color": "green", "index": 0},
            "ERROR": {"text": "error", "color": "red", "index": 1},
            "UNSET": {"text": "unset", "color": "text", "index": 2},
        },
    }
]
_STATUS_CELL: Final = {"mappings": STATUS_MAPPINGS, "custom": {"width": 90, "cellOptions": {"type": "color-text"}}}


def _text(name: str, width: int | None = None, **config: Any) -> Column:
    custom = {"custom": {"width": width}} if width else {}
    return Column(name, FieldType.STRING, {"filterable": True, **custom, **config})


def _number(name: str, unit: str, **config: Any) -> Column:
    return Column(name, FieldType.NUMBER, {"unit": unit, "custom": {"width": 110}, **config})


_TIME: Final = Column("ts", FieldType.TIME, {"displayName": "Time", "custom": {"width": 170}})
_TRACE_ID: Final = Column("trace_id", FieldType.STRING, {"displayName": "Trace", "links": [TRACE_LINK]})

SPAN_COLUMNS: Final = (
    _TIME,
    _text("span_name", displayName="Span"),
    _text("service_name", 130, displayName="Service"),
    _text("provider", 110, displayName="Provider"),
    _text("model", 170, displayName="Model"),
    _text("user_id", 120, displayName="User"),
    Column("status_code", FieldType.STRING, {"displayName": "Status", **_STATUS_CELL}),
    _number("duration_ms", "ms", displayName="Duration", decimals=0),
    _number("ttft_ms", "ms", displayName="First token", decimals=0),
    _number("total_tokens", "short", displayName="Tokens"),
    _number("total_cost_usd", "currencyUSD", displayName="Cost", decimals=4),
    _text("error_type", 140, displayName="Error"),
    _text("error_message", displayName="Message"),
    _TRACE_ID,
    _text("span_id", 150, displayName="Span id"),
)
TRACE_COLUMNS: Final = (
    _TIME,
    _text("root_span_name", displayName="Root"),
    _text("service_name", 130, displayName="Service"),
    _text("environment", 120, displayName="Environment"),
    _text("user_id", 120, displayName="User"),
    _text("session_id", 150, displayName="Session"),
    _number("duration_ms", "ms", displayName="Duration", decimals=0),
    _number("span_count", "short", displayName="Spans"),
    _number("generation_count", "short", displayName="Model calls"),
    _number("error_count", "short", displayName="Errors"),
    _number("total_tokens", "short", displayName="Tokens"),
    _number("total_cost_usd", "currencyUSD", displayName="Cost", decimals=4),
    _TRACE_ID,
)
_POINT_UNITS: Final = {"duration_ms": "ms", "ttft_ms": "ms", "total_cost_usd": "currencyUSD"}
_LOG_FIELDS: Final = (
    "ts", "trace_id", "span_id", "span_name", "service_name", "provider", "model", "user_id", "session_id",
    "status_code", "error_type", "error_message", "input_text", "output_text",
)  # fmt: skip
_LOG_LABELS: Final = (
    "service_name", "provider", "model", "user_id", "session_id", "span_name", "error_type", "trace_id"
)  # fmt: skip
_LOG_COLUMNS: Final = (
    Column("timestamp", FieldType.TIME),
    Column("body", FieldType.STRING),
    Column("severity", FieldType.STRING),
    Column("id", FieldType.STRING),
    Column("labels", FieldType.OTHER),
    Column("trace_id", FieldType.STRING, {"links": [TRACE_LINK]}),
)
# The log lines of a span, in order: label, column, severity.
_LOG_LINES: Final = (
    ("prompt", "input_text", "info"),
    ("answer", "output_text", "info"),
    ("error", "error_message", "error"),
)


async def span_table(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return spans with a link to their trace."""
    sort = Sort(question.values.get("sort_by", "ts"), question.values.get("order", "desc") == "desc")
    page = await _list(core, question, tuple(column.name for column in SPAN_COLUMNS), sort)
    return [_table(question, SPAN_COLUMNS, page)]


async def trace_table(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return traces with the sums of their model calls."""
    page = await list_spans(
        core.database,
        core.scope,
        ListQuestion(
            view="traces",
            window=question.time_range,
            filter=lift_to_traces(question.filter),
            fields=tuple(column.name for column in TRACE_COLUMNS),
            limit=question.values["limit"],
        ),
    )
    return [_table(question, TRACE_COLUMNS, page)]


async def points(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return two measures of the newest spans, with the columns that tell the points apart."""
    x, y = question.values["x"], question.values["y"]
    page = await _list(core, question, tuple(dict.fromkeys((x, y, "model", "trace_id", "ts"))), Sort("ts"))
    columns = [
        Column(x, FieldType.NUMBER, {"unit": _POINT_UNITS.get(x, "short")}),
        Column(y if y != x else f"{y} (y)", FieldType.NUMBER, {"unit": _POINT_UNITS.get(y, "short")}),
        Column("model", FieldType.STRING),
        _TRACE_ID,
        Column("ts", FieldType.TIME),
    ]
    rows = (
        [row[x], row[y], row["model"], row["trace_id"], row["ts"]]
        for row in page.rows
        if row[x] is not None and row[y] is not None
    )
    return [wire_frame(question.ref_id, "calls", columns, rows, _meta(question, page))]


async def log_lines(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return prompts, answers and errors as lines, newest first. Needs the right to read content."""
    if not core.scope.may_read_content:
        raise InsufficientScope("Prompts and answers are hidden from this credential or viewer.")
    page = await _list(core, question, _LOG_FIELDS, Sort("ts"))
    meta = _meta(question, page)
    meta.type = "log-lines"
    meta.preferred_visualisation = "logs"
    rows = (line for row in page.rows for line in _lines(row))
    return [wire_frame(question.ref_id, "logs", _LOG_COLUMNS, rows, meta)]


async def _list(core: Core, question: TargetQuestion, fields: tuple[str, ...], sort: Sort) -> ListPage:
    asked = ListQuestion(
        window=question.time_range, filter=question.filter, sort=(sort,), fields=fields, limit=question.values["limit"]
    )
    return await list_spans(core.database, core.scope, asked)


def _table(question: TargetQuestion, columns: tuple[Column, ...], page: ListPage) -> Frame:
    rows = ([row[column.name] for column in columns] for row in page.rows)
    return table(question.ref_id, question.definition.name, columns, rows, _meta(question, page))


def _meta(question: TargetQuestion, page: ListPage) -> FrameMeta:
    meta = FrameMeta(notices=list(question.notices))
    if page.next_position is not None:
        meta.notices.append(Notice(f"The first {len(page.rows)} rows; there are more."))
    if page.hidden_fields:
        meta.notices.append(Notice(f"Hidden from you: {', '.join(page.hidden_fields)}."))
    return meta


def _lines(row: Row) -> Iterator[list[Any]]:
    labels = {name: str(row[name]) for name in _LOG_LABELS if row[name] is not None}
    for label, column, severity in _LOG_LINES:
        if row[column]:
            yield [
                row["ts"],
                row[column],
                severity,
                f"{row['trace_id']}:{row['span_id']}:{label}",
                {**labels, "part": label},
                row["trace_id"],
            ]
