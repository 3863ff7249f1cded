"""Targets about one trace: the waterfall, its messages, its totals and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, epoch_ms_exact, table, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from datasource.traces.conversation import Conversations, Message
from datasource.traces.references import drawable
from datasource.traces.span_attributes import event_time, plain, resource_attributes, service_name, span_attributes
from server.errors import TraceNotFound
from server.ingest.messages.message_rendering import render_parts
from server.queries.filters.span_fields import groups
from server.queries.lists.trace_tree import TraceQuestion, read_trace

MAX_SPANS: Final = 2000
"""Most rows of the waterfall, which draws them all: more would slow the browser down."""

Row = Mapping[str, Any]

# Status codes of OpenTelemetry as the Traces panel counts them; null would crash it.
_STATUS_CODES: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
_FIELDS: Final = groups()
_MESSAGE_FIELDS: Final = (
    "ts", "span_id", "span_name", "model", "operation_type",
    "input_messages", "input_text", "output_messages", "output_text",
)  # fmt: skip

# The contract of Grafana's Traces panel, field by field.
WATERFALL_COLUMNS: Final = (
    Column("traceID", FieldType.STRING),
    Column("spanID", FieldType.STRING),
    Column("parentSpanID", FieldType.STRING),
    Column("operationName", FieldType.STRING),
    Column("serviceName", FieldType.STRING),
    Column("serviceTags", FieldType.OTHER),
    Column("startTime", FieldType.NUMBER),
    Column("duration", FieldType.NUMBER, {"unit": "ms"}),
    Column("tags", FieldType.OTHER),
    Column("logs", FieldType.OTHER),
    Column("references", FieldType.OTHER),
    Column("kind", FieldType.STRING),
    Column("statusCode", FieldType.NUMBER),
    Column("statusMessage", FieldType.STRING),
)
_ROLE_COLORS: Final = {"system": "purple", "user": "blue", "assistant": "green", "tool": "orange"}
_ROLE_MAPPINGS: Final = [
    {
        "type": "value",
        "options": {
            role: {"text": role, "color": color, "index": index}
            for index, (role, color) in enumerate(_ROLE_COLORS.items())
        },
    }
]
_MESSAGE_COLUMNS: Final = (
    Column("time", FieldType.TIME, {"displayName": "Time", "custom": {"width": 180}}),
    Column(
        "role",
        FieldType.STRING,
        {
            "displayName": "Role",
            "mappings": _ROLE_MAPPINGS,
            "custom": {"width": 100, "cellOptions": {"type": "color-text"}},
        },
    ),
    Column(
        "content",
        FieldType.STRING,
        {
            "displayName": "Content",
            "custom": {"minWidth": 400, "wrapText": True, "inspect": True},
        },
    ),
    Column("span", FieldType.STRING, {"displayName": "Span", "custom": {"width": 205}}),
    Column("model", FieldType.STRING, {"displayName": "Model", "custom": {"width": 170}}),
)
_SCORE_COLUMNS: Final = (
    Column("name", FieldType.STRING, {"displayName": "Score", "custom": {"width": 180}}),
    Column("value", FieldType.STRING, {"displayName": "Value", "custom": {"width": 120}}),
    Column("comment", FieldType.STRING, {"displayName": "Comment", "custom": {"minWidth": 250, "wrapText": True}}),
    Column("source", FieldType.STRING, {"displayName": "From", "custom": {"width": 120}}),
    Column("span", FieldType.STRING, {"displayName": "Judges", "custom": {"width": 220}}),
    Column("time", FieldType.TIME, {"displayName": "Time", "custom": {"width": 180}}),
)
_TOTALS: Final = (
    ("Duration", "duration_ms", "ms"),
    ("Spans", "span_count", "short"),
    ("Model calls", "generation_count", "short"),
    ("Errors", "error_count", "short"),
    ("Prompt tokens", "prompt_tokens", "short"),
    ("Completion tokens", "completion_tokens", "short"),
    ("Cost", "total_cost_usd", "currencyUSD"),
)


async def waterfall(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return the frame that the Traces panel and Explore draw (spans in tree order)."""
    trace, meta = await _read(core, question, _FIELDS["all"])
    meta.preferred_visualisation = "trace"
    meta.custom["traceFormat"] = "otlp"
    rows = (_waterfall_row(span) for span in drawable(trace["spans"])) if trace else ()
    return [wire_frame(question.ref_id, "Trace", WATERFALL_COLUMNS, rows, meta)]


async def messages(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row per message, in the order of the tree; texts if a span has no structured messages.

    Messages that a call repeats from an earlier one are left out.
    """
    trace, meta = await _read(core, question, _MESSAGE_FIELDS)
    conversations = Conversations()
    rows = [row for span in trace["spans"] for row in _message_rows(span, conversations)] if trace else []
    if conversations.repeated:
        meta.notices.append(
            Notice(f"Messages that a later call repeats are shown once; {conversations.repeated} repeats are left out.")
        )
    return [table(question.ref_id, "Messages", _MESSAGE_COLUMNS, rows, meta)]


async def scores(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row per score of the trace and of its spans, oldest first."""
    trace, meta = await _read(core, question, ("span_id", "span_name"), with_scores=True)
    if trace is None or not trace["scores"]:
        # A table of headers alone would hide the panel's own text on where scores come from.
        return [table(question.ref_id, "Scores", (), (), meta)]
    names = {span["span_id"]: span["span_name"] for span in trace["spans"]}
    rows = [
        [score["name"], _judgement(score), score["comment"], score["source"],
         names.get(score["span_id"], score["span_id"] or "the whole trace"), score["ts"]]
        for score in trace["scores"]
    ]  # fmt: skip
    return [table(question.ref_id, "Scores", _SCORE_COLUMNS, rows, meta)]


def _judgement(score: Row) -> str:
    """Return the value of a score as text, since one column has numbers, yes or no, and categories."""
    if score["data_type"] == "boolean":
        return "true" if score["value"] else "false"
    return score["string_value"] or f"{score['value']:g}"


async def totals(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row; sums of tokens and money count model calls only."""
    trace, meta = await _read(core, question, ("span_id",))
    columns = [Column(label, FieldType.NUMBER, {"unit": unit}) for label, _, unit in _TOTALS]
    columns += [Column(name, FieldType.STRING) for name in ("Root", "User", "Session")]
    rows = []
    if trace:
        figures = {**trace["totals"], "duration_ms": trace["duration_ms"]}
        root = (trace["root"] or {}).get("span_name")
        rows.append([*(figures[name] for _, name, _ in _TOTALS), root, trace["user_id"], trace["session_id"]])
    return [table(question.ref_id, "Totals", columns, rows, meta)]


async def _read(
    core: Core, question: TargetQuestion, fields: tuple[str, ...], *, with_scores: bool = False
) -> tuple[dict[str, Any] | None, FrameMeta]:
    """Return the trace and remarks about it. A missing trace is an empty panel with a reason, because a dashboard opens
    before anybody has chosen one.
    """
    meta = FrameMeta(notices=list(question.notices))
    trace_id = question.values["trace_id"]
    if trace_id is None:
        meta.notices.append(Notice("Choose a trace: follow a link, or fill in the variable trace_id."))
        return None, meta
    asked = TraceQuestion(trace_id=trace_id, fields=fields, limit=MAX_SPANS, with_scores=with_scores)
    try:
        answer = await read_trace(core.database, core.scope, asked)
    except TraceNotFound:
        meta.notices.append(Notice(f"There is no trace {trace_id[:64]}.", "warning"))
        return None, meta
    if answer.last is not None or answer.trace["omitted_spans"]:
        total = answer.trace["totals"]["span_count"]
        meta.notices.append(Notice(f"The first {len(answer.trace['spans'])} of {total} spans.", "warning"))
    return answer.trace, meta


def _waterfall_row(span: Row) -> list[Any]:
    return [
        span["trace_id"],
        span["span_id"],
        span["parent_span_id"],
        span["span_name"],
        service_name(span),
        _pairs(resource_attributes(span)),
        epoch_ms_exact(span["ts"]),
        span["duration_ms"],
        _pairs(span_attributes(span)),
        [_event(event) for event in span.get("events") or ()],
        [{"traceID": link["trace_id"], "spanID": link["span_id"]} for link in _links(span)],
        span["span_kind"],
        _STATUS_CODES[span["status_code"]],
        span.get("error_message") or "",
    ]


def _pairs(attributes: Iterator[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in attributes]


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    attributes = event.get("attributes") or {}
    return {
        "timestamp": epoch_ms_exact(event_time(dict(event))),
        "name": event.get("name") or "event",
        "fields": [{"key": key, "value": plain(value)} for key, value in attributes.items()],
    }


def _links(span: Row) -> Iterator[Mapping[str, Any]]:
    for link in span.get("links") or ():
        if link.get("trace_id") and link.get("span_id"):
            yield link


def _message_rows(span: Row, conversations: Conversations) -> Iterator[list[Any]]:
    """Yield system, user, assistant and tool messages of one span; the answer last."""
    is_tool = span["operation_type"] == "tool"
    asked = _said("tool" if is_tool else "user", span["input_messages"], span["input_text"])
    answered = _said("tool" if is_tool else "assistant", span["output_messages"], span["output_text"])
    for role, content in conversations.new_messages(asked, answered):
        yield [span["ts"], role, content, span["span_name"], span["model"]]


def _said(role: str, structured: Any, text: str | None) -> list[Message]:
    if isinstance(structured, list) and structured:
        return [Message(item["role"], render_parts(item["parts"])) for item in structured]
    return [Message(role, text)] if text else []
