"""The content of an OTLP request, after decoding and before mapping.

Both encodings (protobuf, JSON) end in these values, so everything after the decoder is written once. Attribute values
are plain Python: ``str``, ``bool``, ``int``, ``float``, ``list``, ``dict`` or ``None``; bytes become base64 text, as in
the JSON encoding.

The errors of decoding are here too:

    DecodeError            the request as a whole cannot be read
    ├── Unreadable         malformed bytes, JSON or compression            (HTTP 400)
    ├── TooLarge           a limit of :class:`DecodeLimits` is passed      (HTTP 413)
    └── UnsupportedType    content type or content encoding is not spoken  (HTTP 415)
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

AttributeValue = Any
Attributes = dict[str, AttributeValue]


class DecodeError(Exception):
    """The request as a whole cannot be read. The message names places and limits, never contents."""


class Unreadable(DecodeError):
    """The body is not what its content type says."""


class TooLarge(DecodeError):
    """The body passes a limit."""


class UnsupportedType(DecodeError):
    """The content type or content encoding is not supported."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on the cost of decoding one request. Sizes in bytes.

    A body of empty spans grows 83-fold in memory once parsed, so bytes alone do not bound memory: the number of spans
    and of values (attributes, events, links, list items) is bounded as well, counted before or while parsing.
    """

    max_decoded_bytes: int = 8 * 1024 * 1024
    max_spans: int = 10_000
    max_values: int = 400_000
    max_fields_per_span: int = 20_000

    def within(self, other: DecodeLimits) -> DecodeLimits:
        """Return the stricter of both, limit by limit."""
        return DecodeLimits(*map(min, astuple(self), astuple(other)))

    @property
    def max_groups(self) -> int:
        """Resources and scopes together: one of each for every span is the most that makes sense."""
        return 2 * self.max_spans


@dataclass(slots=True)
class DecodedEvent:
    """A span event. ``time_ns`` is nanoseconds since the epoch, 0 if it is missing."""

    name: str
    time_ns: int
    attributes: Attributes
    dropped_attributes_count: int = 0


@dataclass(slots=True)
class DecodedLink:
    """A link to another span; ids are lowercase hex of whatever length was sent."""

    trace_id: str
    span_id: str
    attributes: Attributes
    trace_state: str = ""
    dropped_attributes_count: int = 0


@dataclass(slots=True)
class DecodedSpan:
    """A span as sent. Ids are lowercase hex of whatever length was sent; status code and kind are OTLP numbers."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: list[DecodedEvent]
    links: list[DecodedLink]
    status_code: int = 0
    status_message: str = ""
    trace_state: str = ""
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0


@dataclass(slots=True)
class DecodedResource:
    """The sender: the attributes of an OTLP resource."""

    attributes: Attributes = field(default_factory=dict)
    dropped_attributes_count: int = 0


@dataclass(slots=True)
class DecodedScope:
    """The instrumentation that made the spans."""

    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    """Which version of the conventions the spans follow, in the sender's words; that of the resource where the
    scope has none."""


@dataclass(slots=True)
class DecodedSpans:
    """The spans of one resource and one scope."""

    resource: DecodedResource
    scope: DecodedScope
    spans: list[DecodedSpan]


@dataclass(slots=True)
class DecodedTraces:
    """One request to ``/v1/traces``. ``size`` is the decoded (uncompressed) body in bytes."""

    groups: list[DecodedSpans]
    span_count: int
    size: int
    encoding: str
    """``protobuf`` or ``json``: the encoding the answer must have too."""


@dataclass(slots=True)
class DecodedLog:
    """A log record. ``event_name`` falls back to the older ``event.name`` attribute."""

    event_name: str
    time_ns: int
    trace_id: str
    span_id: str
    body: AttributeValue
    attributes: Attributes
    severity_number: int = 0


@dataclass(slots=True)
class DecodedLogRecords:
    """The log records of one resource and one scope."""

    resource: DecodedResource
    scope: DecodedScope
    records: list[DecodedLog]


@dataclass(slots=True)
class DecodedLogs:
    """One request to ``/v1/logs``."""

    groups: list[DecodedLogRecords]
    record_count: int
    size: int
    encoding: str
