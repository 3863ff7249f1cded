"""The end of a span: status, error, and the time to the first token."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from server.ingest.dialects.scope_traits import ScopeTraits
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.span_events import EventFindings
from server.ingest.mapping.span_times import to_ms
from server.ingest.messages.coercion import Coerced, decode_json, to_milliseconds, to_text, to_time_ns, unquoted
from server.ingest.otlp.payload import DecodedSpan

_STATUS_OK, _STATUS_ERROR = 1, 2
_KIND_CLIENT = 3
_HTTP_FAILURE = 400
_FAILED = frozenset({"error", "failed", "failure"})
_NO_SUCCESS = frozenset({"false", "error", "failed", "failure"})
_ERROR_LEVELS = frozenset({"ERROR", "FATAL", "CRITICAL"})
_NO_ERROR = frozenset({"false", "none", "null", "0", "no", "ok"})
_TTFT_TOLERANCE_MS = 1000.0
_NANOSECOND = 1e-6 * 1.5
_LONGEST_WAIT_S = 60.0
_TTFT_UNITS = (("ttft_ms", 1.0), ("ttft_us", 1e-3), ("ttft_ns", 1e-6))

_ERROR_CLASS = re.compile(r"([A-Za-z_][\w.]{0,200}(?:Error|Exception)|Error)(?:: |\()")
"""The class of an error, as languages put it before the message; in Python's ``repr`` a bracket follows."""


@dataclass(slots=True)
class Outcome:
    """The status columns."""

    status_code: str
    error_type: str | None
    error_message: str | None


@dataclass(slots=True)
class ToldError:
    """An error as an attribute reports it, in whatever form."""

    is_error: bool = False
    error_type: str | None = None
    message: str | None = None


NOTHING_TOLD = ToldError()
"""For a span without such an attribute, as most are; must not be changed."""


def _told_error(fields: SpanFields, limits: MappingLimits) -> ToldError:
    """Read attributes such as ``error``: true, a message, or an object with type and message. A flag, and a word for
    nothing, stay attributes.
    """
    told = ToldError()
    for candidate in fields.candidates("error"):
        value = candidate[2]
        if isinstance(value, str):
            decoded = decode_json(value)
            value = unquoted(value).strip() if decoded is None else decoded
        if isinstance(value, dict):
            inner = value.get("error")
            value = inner if isinstance(inner, dict) else value
            kind = next((to_text(value[key]) for key in ("type", "code", "name") if value.get(key)), "")
            text = next((to_text(value[key]) for key in ("message", "msg", "detail") if value.get(key)), "")
            text = text or (to_text(value) if value else "")
        else:
            kind, text = "", to_text(value) if value != [] else ""
        if not text or text.lower() in _NO_ERROR:
            fields.keep(candidate)
            continue
        told.is_error = True
        if text.lower() == "true":
            fields.keep(candidate)
            continue
        if kind and told.error_type is None:
            told.error_type = fields.clean("error_type", kind, limits.name)
            fields.sources["error_type"] = candidate[1]
        if told.message is None:
            told.message = fields.clean("error_message", text, limits.error_message)
            fields.sources["error_message"] = candidate[1]
    return told


def _is_refused(span: DecodedSpan) -> bool:
    """Return whether the vendor answered the request of this span with an HTTP status of failure."""
    status = span.attributes.get("http.response.status_code", span.attributes.get("http.status_code"))
    return span.kind == _KIND_CLIENT and isinstance(status, int) and status >= _HTTP_FAILURE


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
    found = fields.found
    error_type = fields.take_text("error_type", "error_type", limits.name) if "error_type" in found else None
    if error_type is not None and error_type.startswith("<class '"):  # the text of a Python class, not its name
        error_type = error_type[8:].rstrip("'>")
    level = fields.take_text("error_level", "error_level", limits.name) if "error_level" in found else None
    succeeded = fields.take_text("succeeded", "succeeded", limits.name) if "succeeded" in found else None
    if error_type is None and findings.exception_type:
        error_type = fields.clean("error_type", findings.exception_type, limits.name)
        fields.sources["error_type"] = "event exception"
    told = _told_error(fields, limits) if "error" in found else NOTHING_TOLD
    error_type = error_type or told.error_type
    if span.status_code == _STATUS_ERROR or (finish_reason or "").lower() in _FAILED:
        status = "ERROR"
    elif span.status_code == _STATUS_OK and not (traits.exception_beats_ok and findings.has_exception):
        status = "OK"
    elif (
        error_type is not None
        or findings.has_exception
        or told.is_error
        or (level or "").upper() in _ERROR_LEVELS
        or (succeeded or "").lower() in _NO_SUCCESS
        or _is_refused(span)
    ):
        status = "ERROR"
    else:
        status = "OK" if span.end_ns else "UNSET"
    if status != "ERROR":
        if span.status_message:
            fields.rest["otel.status_description"] = span.status_message
        return Outcome(status, error_type, None)
    message = _error_message(span, fields, findings, error_type, told, limits)
    if error_type is None and message is not None:
        named = _ERROR_CLASS.match(message)
        if named is not None:
            error_type = fields.clean("error_type", named[1], limits.name)
            fields.sources["error_type"] = fields.sources["error_message"]
    return Outcome(status, error_type, message)


def _error_message(
    span: DecodedSpan,
    fields: SpanFields,
    findings: EventFindings,
    error_type: str | None,
    told: ToldError,
    limits: MappingLimits,
) -> str | None:
    """Return the status message, else the exception's, else an attribute, else the error type."""
    for text, source in ((span.status_message, "status.message"), (findings.exception_message, "event exception")):
        if text:
            fields.sources["error_message"] = source
            return fields.clean("error_message", text, limits.error_message)
    message = told.message or fields.take_text("error_message", "error_message", limits.error_message)
    if message is None and error_type is not None:
        fields.sources["error_message"] = fields.sources["error_type"]
    return message or error_type


def read_ttft_ms(
    span: DecodedSpan, fields: SpanFields, findings: EventFindings, traits: ScopeTraits, duration_ms: float
) -> float | None:
    """Time to the first token in milliseconds: reported in seconds, in milliseconds, as a time, or by an event.

    The convention has seconds as a fraction. A whole number that would end after the span, or any of more than a
    minute, is in the largest of milliseconds, microseconds and nanoseconds in which it does not.
    """
    ttft: float | None = None
    found = fields.found
    if "ttft_seconds" in found:
        latest_ms = duration_ms + _TTFT_TOLERANCE_MS if span.end_ns else math.inf
        ttft = fields.take("ttft_ms", "ttft_seconds", lambda value: _from_seconds(value, traits, latest_ms))
    for slot, factor in _TTFT_UNITS:
        if ttft is None and slot in found:
            ttft = fields.take("ttft_ms", slot, partial(to_milliseconds, factor=factor))
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
    if isinstance(value, int | float) and math.isfinite(value) and (value == int(value) or value > _LONGEST_WAIT_S):
        while value * factor > latest_ms and factor > _NANOSECOND:
            factor /= 1000.0
    return to_milliseconds(value, factor)


def _since_start(span: DecodedSpan, fields: SpanFields, moment_ns: int | None) -> float | None:
    if moment_ns is None:
        return None
    if moment_ns < span.start_ns // 1000 * 1000:
        fields.drop("ttft_ms", "negative")
        return None
    return to_ms(max(moment_ns - span.start_ns, 0))
