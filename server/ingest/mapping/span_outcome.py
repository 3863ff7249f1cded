"""The end of a span: status, error, and the time to the first token."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from server.ingest.dialects.scope_traits import ScopeTraits
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.span_events import EventFindings
from server.ingest.mapping.span_times import to_ms
from server.ingest.messages.coercion import Coerced, to_milliseconds, to_time_ns
from server.ingest.otlp.payload import DecodedSpan

_STATUS_OK, _STATUS_ERROR = 1, 2
_TTFT_TOLERANCE_MS = 1000.0

_ERROR_CLASS = re.compile(r"([A-Za-z_][\w.]{0,200}(?:Error|Exception)|Error): ")
"""The class of an error, as languages put it before the message."""


@dataclass(slots=True)
class Outcome:
    """The status columns."""

    status_code: str
    error_type: str | None
    error_message: str | None


def read_outcome(
    span: DecodedSpan,
    fields: SpanFields,
    findings: EventFindings,
    traits: ScopeTraits,
    finish_reason: str | None,
    limits: MappingLimits,
) -> Outcome:
    """Return ERROR and OK as set by the sender, but a finish reason ``error`` is an error whatever the status is.

    Unset: ERROR if anything tells of an error, else OK once the span has ended, since instrumentations leave success
    unset; UNSET is a span that still runs.
    """
    error_type = fields.take_text("error_type", "error_type", limits.name)
    if error_type is not None and error_type.startswith("<class '"):  # the text of a Python class, not its name
        error_type = error_type[8:].rstrip("'>")
    found = fields.found
    level = fields.take_text("error_level", "error_level", limits.name) if "error_level" in found else None
    succeeded = fields.take_text("succeeded", "succeeded", limits.name) if "succeeded" in found else None
    if error_type is None and findings.exception_type:
        error_type = fields.clean("error_type", findings.exception_type, limits.name)
        fields.sources["error_type"] = "event exception"
    if span.status_code == _STATUS_ERROR or finish_reason == "error":
        status = "ERROR"
    elif span.status_code == _STATUS_OK and not (traits.exception_beats_ok and findings.has_exception):
        status = "OK"
    elif (
        error_type is not None
        or findings.has_exception
        or (level or "").upper() == "ERROR"
        or (succeeded or "").lower() == "false"
    ):
        status = "ERROR"
    else:
        status = "OK" if span.end_ns else "UNSET"
    if status != "ERROR":
        if span.status_message:
            fields.rest["otel.status_description"] = span.status_message
        return Outcome(status, error_type, None)
    message = _error_message(span, fields, findings, error_type, limits)
    if error_type is None and message is not None:
        named = _ERROR_CLASS.match(message)
        if named is not None:
            error_type = fields.clean("error_type", named[1], limits.name)
            fields.sources["error_type"] = fields.sources["error_message"]
    return Outcome(status, error_type, message)


def _error_message(
    span: DecodedSpan, fields: SpanFields, findings: EventFindings, error_type: str | None, limits: MappingLimits
) -> str | None:
    """Return the status message, else the exception's, else an attribute, else the error type."""
    for text, source in ((span.status_message, "status.message"), (findings.exception_message, "event exception")):
        if text:
            fields.sources["error_message"] = source
            return fields.clean("error_message", text, limits.error_message)
    message = fields.take_text("error_message", "error_message", limits.error_message)
    if message is None and error_type is not None:
        fields.sources["error_message"] = fields.sources["error_type"]
    return message or error_type


def read_ttft_ms(
    span: DecodedSpan, fields: SpanFields, findings: EventFindings, traits: ScopeTraits, duration_ms: float
) -> float | None:
    """Time to the first token in milliseconds: reported in seconds, in milliseconds, as a time, or by an event.

    The convention has seconds as a fraction. A whole number that ends after the span is in milliseconds.
    """
    ttft: float | None = None
    found = fields.found
    if "ttft_seconds" in found:
        latest_ms = duration_ms + _TTFT_TOLERANCE_MS if span.end_ns else math.inf
        ttft = fields.take("ttft_ms", "ttft_seconds", lambda value: _from_seconds(value, traits, latest_ms))
    if ttft is None and "ttft_ms" in found:
        ttft = fields.take("ttft_ms", "ttft_ms", lambda value: to_milliseconds(value, 1.0))
    if ttft is None and "first_token_time" in found:
        ttft = _since_start(span, fields, fields.take("ttft_ms", "first_token_time", to_time_ns))
    if ttft is None and findings.first_token_ns is not None:
        ttft = _since_start(span, fields, findings.first_token_ns)
        fields.sources["ttft_ms"] = "event"
    if ttft is not None and span.end_ns and ttft > duration_ms + _TTFT_TOLERANCE_MS:
        fields.drop("ttft_ms", "later_than_end")
        return None
    return ttft


def _from_seconds(value: Any, traits: ScopeTraits, latest_ms: float) -> Coerced:
    factor = traits.ttft_factor
    if isinstance(value, int) and value * factor > latest_ms >= value:
        factor = 1.0
    return to_milliseconds(value, factor)


def _since_start(span: DecodedSpan, fields: SpanFields, moment_ns: int | None) -> float | None:
    if moment_ns is None:
        return None
    if moment_ns < span.start_ns // 1000 * 1000:
        fields.drop("ttft_ms", "negative")
        return None
    return to_ms(max(moment_ns - span.start_ns, 0))
