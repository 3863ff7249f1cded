"""Identity of a span: whether it can be a row (ids and times), its session and its tags."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from server.ingest.dialects.attribute_table import keys_of
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import IngestWindow, MappingLimits
from server.ingest.mapping.span_times import to_ns
from server.ingest.messages.coercion import cut_text, decode_json, to_text, unquoted
from server.ingest.otlp.payload import DecodedSpan

_HEX_DIGITS = "0123456789abcdef"
_COMMA_SEPARATED = keys_of("comma_separated")


def is_identifier(identifier: str, length: int) -> bool:
    """Return whether it is ``length`` (16 or 32) lowercase hex digits that are not all zero (W3C Trace Context)."""
    # Without the digits at both ends nothing is left only if all are digits.
    return len(identifier) == length and not identifier.strip(_HEX_DIGITS) and identifier.strip("0") != ""


class IdentityCheck:
    """Checks the spans of one request: their ids, and their times against a window that was fixed when it came."""

    __slots__ = ("_traces", "newest_ns", "oldest_ns")

    def __init__(self, now: datetime, window: IngestWindow) -> None:
        self.oldest_ns = max(to_ns(now - min(window.max_age, timedelta(days=9000))), 1)
        self.newest_ns = to_ns(now + window.max_future)
        # Found sound already: spans share their trace with others.
        self._traces: set[str] = set()

    def reason(self, span: DecodedSpan) -> str | None:
        """Return the reason why the span is rejected (``rejection.REASONS``), or None."""
        if span.trace_id not in self._traces:
            if not is_identifier(span.trace_id, 32):
                return "invalid_trace_id"
            self._traces.add(span.trace_id)
        if not is_identifier(span.span_id, 16):
            return "invalid_span_id"
        start = span.start_ns
        if start == 0:
            return "missing_start_time"
        if start < self.oldest_ns:
            return "too_old"
        if start > self.newest_ns or span.end_ns > self.newest_ns:
            return "in_future"
        return None


def read_session(fields: SpanFields, limits: MappingLimits) -> str | None:
    """Return the application's session; else the provider's conversation, which otherwise stays an attribute."""
    if "session_id" in fields.found:
        _leave_thread_numbers(fields)
        session = fields.take_text("session_id", "session_id", limits.identity)
        if session is not None:
            return session
    return fields.take_text("session_id", "conversation_id", limits.identity)


def _leave_thread_numbers(fields: SpanFields) -> None:
    """Leave the number of the operating system's thread, which the convention names as others name a conversation."""
    for candidate in list(fields.found["session_id"]):
        if candidate[1] == "thread.id" and not isinstance(candidate[2], str):
            fields.found["session_id"].remove(candidate)
            fields.keep(candidate)


def read_tags(fields: SpanFields, limits: MappingLimits) -> list[str]:
    """Return tags of every source in the order they were sent: unique, at most ``limits.tag_count``."""
    names = list(fields.tags)
    for _, key, value in fields.candidates("tags"):
        names.extend(_tag_list(key, value))
        fields.sources["tags"] = key
    cleaned = (cut_text(name.replace("\0", "").strip(), limits.tag)[0] for name in names)
    tags = [name for name in dict.fromkeys(cleaned) if name]
    if len(tags) > limits.tag_count:
        fields.dropped["tags"] = {"dropped": len(tags) - limits.tag_count}
    return tags[: limits.tag_count]


def _tag_list(key: str, value: Any) -> list[str]:
    """Return the tags of a list, a list or object as JSON text (objects as ``k:v``), or with commas if the table says
    so.
    """
    if isinstance(value, str):
        if key in _COMMA_SEPARATED:
            return value.split(",")
        decoded = decode_json(value)
        value = [unquoted(value)] if decoded is None else decoded
    if isinstance(value, dict):
        return [f"{name}:{to_text(item)}" for name, item in value.items()]
    if isinstance(value, list):
        return [to_text(item) for item in value]
    return [to_text(value)]
