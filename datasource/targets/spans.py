"""Targets that list rows: spans, traces, points and log lines, each with a link to its trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, table, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.payload_fields import NUMERIC_COLUMNS
from datasource.targets.core import Core, Frame
from server.errors import InsufficientScope, InvalidBody, MeaningUnavailable
from server.queries.filters.filter_tree import Leaf
from server.queries.filters.filter_values import read_operand
from server.queries.filters.span_fields import FIELDS
from server.queries.lists.list_question import RANK, ListQuestion, Sort, lift_to_traces
from server.queries.lists.list_reader import ListPage, list_spans
from server.queries.lists.ranking import joined
from server.text.instants import EPOCH

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


def _text(name: str, title: str, width: int | None = None, **config: Any) -> Column:
    custom = {"custom": {"width": width}} if width else {}
    return Column(name, FieldType.STRING, {"displayName": title, "filterable": True, **custom, **config})


def _number(name: str, title: str, unit: str, width: int = 80) -> Column:
    return Column(name, FieldType.NUMBER, {"displayName": title, "unit": unit, "custom": {"width": width}})


_STATUS: Final = Column(
    "status_code",
    FieldType.STRING,
    {
        "displayName": "Status",
        "mappings": STATUS_MAPPINGS,
        "custom": {"width": 80, "cellOptions": {"type": "color-text"}},
    },
)
_TIME: Final = Column("ts", FieldType.TIME, {"displayName": "Time", "custom": {"width": 155}})
# The link is the first column, so that a table that is cut at the right never loses it.
_TRACE_ID: Final = Column(
    "trace_id", FieldType.STRING, {"displayName": "Trace", "links": [TRACE_LINK], "custom": {"width": 90}}
)
_MESSAGE: Final = _text("error_message", "Message", custom={"minWidth": 180, "inspect": True})

# Widths sum to less than a full-width panel at 1440 pixels; columns without a width share the rest.
SPAN_COLUMNS: Final = (
    _TRACE_ID,
    _TIME,
    _text("span_name", "Span", 155),
    _text("model", "Model", 150),
    _text("service_name", "Service", 125),
    _text("user_id", "User", 80),
    _STATUS,
    _number("duration_ms", "Duration", "ms", 100),
    _number("ttft_ms", "TTFT", "ms"),
    _number("total_tokens", "Tokens", "short", 90),
    _number("total_cost_usd", "Cost", "currencyUSD", 95),
    _MESSAGE,
)
ERROR_COLUMNS: Final = (
    _TRACE_ID,
    _TIME,
    _text("error_type", "Error", 150),
    _MESSAGE,
    _text("span_name", "Span", 165),
    _text("model", "Model", 150),
    _text("service_name", "Service", 125),
    _text("user_id", "User", 85),
    _number("duration_ms", "Duration", "ms", 100),
    _number("total_cost_usd", "Cost", "currencyUSD", 95),
)
TRACE_COLUMNS: Final = (
    _TRACE_ID,
    _TIME,
    _text("root_span_name", "Root"),
    _text("service_name", "Service", 135),
    _text("user_id", "User", 100),
    _text("session_id", "Session", 120),
    _number("duration_ms", "Duration", "ms", 100),
    _number("span_count", "Spans", "short", 80),
    _number("generation_count", "Calls", "short", 75),
    Column(
        "error_count",
        FieldType.NUMBER,
        {
            "displayName": "Errors",
            "unit": "short",
            "color": {"mode": "thresholds"},
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": None, "color": "text"}, {"value": 1, "color": "red"}],
            },
            "custom": {"width": 80, "cellOptions": {"type": "color-text"}},
        },
    ),
    _number("total_tokens", "Tokens", "short", 90),
    _number("total_cost_usd", "Cost", "currencyUSD", 95),
)
_POINT_UNITS: Final = {"duration_ms": "ms", "ttft_ms": "ms", "total_cost_usd": "currencyUSD"}
_POINT_NAMES: Final = {name: label.partition(" (")[0].capitalize() for name, label in NUMERIC_COLUMNS}
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
    ("error", "error_message", "error"),
    ("answer", "output_text", "info"),
    ("prompt", "input_text", "info"),
)
_SPEAKERS: Final = {"prompt": "user", "answer": "assistant", "error": "error"}


RANKINGS: Final = ("meaning", "like")
"""Keys of a payload that request an order by meaning."""
_NEARNESS: Final = (
    Column("similarity", FieldType.NUMBER, {"displayName": "Nearness", "decimals": 2, "custom": {"width": 90}}),
)


async def span_table(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return spans with a link to their trace."""
    sort = Sort(question.values.get("sort_by", "ts"), question.values.get("order", "desc") == "desc")
    columns = ERROR_COLUMNS if question.definition.name == "errors" else SPAN_COLUMNS
    page = await _list(core, question, tuple(column.name for column in columns), sort)
    return [_table(question, columns, page)]


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


async def near_table(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return the spans closest in meaning to a text or another span, with their similarity; without either, the
    newest."""
    names = tuple(column.name for column in SPAN_COLUMNS)
    asked_by = [name for name in RANKINGS if question.values.get(name) is not None]
    if not asked_by:
        page = await _list(core, question, names, Sort("ts"))
        return [_table(question, SPAN_COLUMNS, page)]
    if len(asked_by) > 1:
        raise InvalidBody.at("/like", "cannot be combined with meaning: leave one of the two empty")
    if core.meaning is None:
        raise MeaningUnavailable("no embedder is configured")
    (operator,) = asked_by
    try:
        operand = read_operand(None, operator, question.values[operator], now=EPOCH)
    except ValueError as error:
        raise InvalidBody.at(f"/{operator}", str(error)) from error
    asked = ListQuestion(
        window=question.time_range,
        filter=joined(Leaf(FIELDS["text"], operator, operand), question.filter),
        sort=(Sort(RANK),),
        fields=names,
        limit=question.values["limit"],
    )
    page = await core.meaning.page(core.scope, asked)
    frame = _table(question, (*_NEARNESS, *SPAN_COLUMNS), page)
    return [frame]


async def points(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return two measures of the newest spans, with the columns that identify the points."""
    x, y = question.values["x"], question.values["y"]
    page = await _list(core, question, tuple(dict.fromkeys((x, y, "model", "trace_id", "ts"))), Sort("ts"))
    columns = [
        Column(x, FieldType.NUMBER, {"unit": _POINT_UNITS.get(x, "short"), "displayName": _POINT_NAMES[x]}),
        Column(
            y if y != x else f"{y} (y)",
            FieldType.NUMBER,
            {"unit": _POINT_UNITS.get(y, "short"), "displayName": _POINT_NAMES[y]},
        ),
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
    if page.meaning is not None:
        meta.notices += [Notice(note) for note in page.meaning["notes"]]
    if page.hidden_fields:
        meta.notices.append(Notice(f"Hidden from you: {', '.join(page.hidden_fields)}."))
    return meta


def _lines(row: Row) -> Iterator[list[Any]]:
    labels = {name: str(row[name]) for name in _LOG_LABELS if row[name] is not None}
    for label, column, severity in _LOG_LINES:
        if row[column]:
            yield [
                row["ts"],
                f"{_SPEAKERS[label]} › {row[column]}",
                "error" if row["status_code"] == "ERROR" else severity,
                f"{row['trace_id']}:{row['span_id']}:{label}",
                {**labels, "part": label},
                row["trace_id"],
            ]
