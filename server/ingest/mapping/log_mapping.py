"""Log records that speak of model calls: content of a span, and evaluations.

Current instrumentations may send prompts and answers as one log record
(``gen_ai.client.inference.operation.details``), older ones a record for each message
(``gen_ai.user.message``, ``gen_ai.choice`` …); evaluations come as
``gen_ai.evaluation.result``. All other records are ignored: a log exporter sends whatever
the application logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from server.ingest.mapping.agent_events import AgentEvents, add_event, find_event, reports_itself
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import (
    IngestWindow,
    MappingLimits,
    RejectedSpan,
    ScoreRecord,
    SpanUpdate,
)
from server.ingest.mapping.span_content import MessageEvents, read_content
from server.ingest.mapping.span_events import EVENTS, MESSAGE_EVENTS, event_message
from server.ingest.mapping.span_identity import is_identifier
from server.ingest.mapping.span_scores import evaluation
from server.ingest.mapping.span_times import to_datetime, to_ns
from server.ingest.messages.coercion import decode_json
from server.ingest.otlp.payload import DecodedLog, DecodedLogs


@dataclass(slots=True)
class MappedLogs:
    """Results of the log records of one request."""

    updates: list[SpanUpdate] = field(default_factory=list)
    scores: list[ScoreRecord] = field(default_factory=list)
    rejected: list[RejectedSpan] = field(default_factory=list)
    events: AgentEvents = field(default_factory=AgentEvents)
    """Calls that coding agents report in log records."""
    ignored: int = 0
    """Records of other kinds: accepted and not kept, since a log exporter sends all it has."""


_MESSAGE_SIGNS: Final = frozenset({"role", "message", "tool_calls"})
"""Keys that an object which is a message has, and one that a user asks about hardly ever."""
_CONTENT_COLUMNS = ("input_type", "input_text", "input_messages", "output_text", "output_messages", "finish_reason")
_TEXT_COLUMNS = {"agent_name": "agent_name", "session_id": "conversation_id", "prompt_name": "prompt_name"}


def map_logs(
    decoded: DecodedLogs,
    *,
    now: datetime,
    window: IngestWindow | None = None,
    limits: MappingLimits | None = None,
) -> MappedLogs:
    """Map the records of a request. Records of one span become one update."""
    limits = limits or MappingLimits()
    check = _RecordCheck(now, window or IngestWindow())
    result = MappedLogs()
    spans: dict[tuple[str, str], list[DecodedLog]] = {}
    index = -1
    for group in decoded.groups:
        for record in group.records:
            index += 1
            name = record.event_name
            if name == EVENTS["evaluation"]:
                reason = check.reason(record, needs_span=False)
                score = None if reason else _score(record, limits)
                if score is not None:
                    result.scores.append(score)
                else:
                    result.rejected.append(RejectedSpan(reason or "missing_score", record.span_id[:64], index))
            elif name == EVENTS["details"] or name in MESSAGE_EVENTS:
                reason = check.reason(record, needs_span=True)
                call = None if reason is None or _has_context(record) else find_event(record, group.scope.name)
                if reason is None:
                    spans.setdefault((record.trace_id, record.span_id), []).append(record)
                elif not _has_context(record) and reports_itself(group.scope.name):
                    result.ignored += 1
                elif call is not None and (reason := check.time_reason(record)) is None:
                    add_event(result.events, group, record, call)
                else:
                    result.rejected.append(RejectedSpan(reason, record.span_id[:64], index))
            elif (event := find_event(record, group.scope.name)) is not None:
                reason = check.time_reason(record)
                if reason is None:
                    add_event(result.events, group, record, event)
                else:
                    result.rejected.append(RejectedSpan(reason, record.span_id[:64], index))
            else:
                result.ignored += 1
    result.updates = [_update(records, limits) for records in spans.values()] + result.events.updates
    return result


def _has_context(record: DecodedLog) -> bool:
    """Return whether a record says which trace it belongs to, truly or not."""
    return bool(record.trace_id.strip("0"))


class _RecordCheck:
    """Ids and times of a record, by the rules of spans; a judgement may be about a whole trace."""

    def __init__(self, now: datetime, window: IngestWindow) -> None:
        self.oldest_ns = to_ns(now - window.max_age)
        self.newest_ns = to_ns(now + window.max_future)

    def reason(self, record: DecodedLog, *, needs_span: bool) -> str | None:
        if not is_identifier(record.trace_id, 32):
            return "invalid_trace_id"
        if (record.span_id or needs_span) and not is_identifier(record.span_id, 16):
            return "invalid_span_id"
        return self.time_reason(record)

    def time_reason(self, record: DecodedLog) -> str | None:
        """Return why the time of ``record`` is refused, or None."""
        if record.time_ns == 0:
            return "missing_start_time"
        if record.time_ns < self.oldest_ns:
            return "too_old"
        return "in_future" if record.time_ns > self.newest_ns else None


def _message_of(body: Any) -> dict[str, Any]:
    """Return the fields of a message: the body, or what it says where a logger made JSON text of it, as Semantic Kernel
    does. Any other body is the content.
    """
    if isinstance(body, dict):
        return body
    decoded = decode_json(body) if isinstance(body, str) else None
    if isinstance(decoded, dict) and not _MESSAGE_SIGNS.isdisjoint(decoded):
        return decoded
    return {"content": body} if body else {}


def _update(records: list[DecodedLog], limits: MappingLimits) -> SpanUpdate:
    """Return the columns from the records of one span, in the order they were made."""
    fields = SpanFields()
    messages: dict[str, MessageEvents] = {}
    records = sorted(records, key=lambda record: record.time_ns)
    for record in records:
        if record.event_name in MESSAGE_EVENTS:
            rule = MESSAGE_EVENTS[record.event_name]
            merged = {**record.attributes, **_message_of(record.body)}
            messages.setdefault(rule["slot"], MessageEvents()).append(event_message(merged, rule["role"]))
        else:
            fields.collect(record.attributes)
            if isinstance(record.body, dict):
                fields.collect(record.body)
    for slot, group in messages.items():
        fields.add(slot, 0, f"log records {slot}", group)
    content = read_content(fields, limits)
    columns: dict[str, Any] = {
        name: getattr(content, name) for name in _CONTENT_COLUMNS if getattr(content, name) is not None
    }
    for column, slot in _TEXT_COLUMNS.items():
        text = fields.take_text(column, slot, limits.name)
        if text is not None:
            columns[column] = text
    first = records[0]
    return SpanUpdate(ts=to_datetime(first.time_ns), trace_id=first.trace_id, span_id=first.span_id, columns=columns)


def _score(record: DecodedLog, limits: MappingLimits) -> ScoreRecord | None:
    return evaluation(record.attributes, record.trace_id, record.span_id, record.time_ns, limits)
