"""From the bytes of an OTLP/HTTP request to decoded spans or log records.

Pure: no HTTP, no database, no clock. The same logical payload has the same result in both encodings. See
:mod:`server.ingest.otlp.payload` for the values and for the errors raised here.
"""

from __future__ import annotations

from server.ingest.otlp import json_format, protobuf_format
from server.ingest.otlp.compression import decompress
from server.ingest.otlp.payload import (
    DecodedLogs,
    DecodedTraces,
    DecodeError,
    DecodeLimits,
    TooLarge,
    Unreadable,
    UnsupportedType,
)

__all__ = [
    "DecodeError",
    "DecodeLimits",
    "TooLarge",
    "Unreadable",
    "UnsupportedType",
    "decode_logs",
    "decode_traces",
    "payload_encoding",
]

_ENCODINGS = {
    "application/x-protobuf": "protobuf",
    "application/protobuf": "protobuf",
    "application/json": "json",
}
_CHARSETS = ("", "utf-8", "utf8")


def payload_encoding(content_type: str) -> str:
    """Return ``protobuf`` or ``json``. Raises UnsupportedType for anything else, and for a charset other than UTF-8."""
    media_type, *parameters = content_type.split(";")
    encoding = _ENCODINGS.get(media_type.strip().lower())
    if encoding is None:
        raise UnsupportedType("send application/x-protobuf or application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            raise UnsupportedType("the only charset is UTF-8")
    return encoding


def decode_traces(
    body: bytes, content_type: str, content_encoding: str | None = None, limits: DecodeLimits | None = None
) -> DecodedTraces:
    """Return the spans of a request to ``/v1/traces``. An empty body has none. Raises DecodeError."""
    limits = limits or DecodeLimits()
    encoding = payload_encoding(content_type)
    data = decompress(body, content_encoding, limits.max_decoded_bytes)
    decode = protobuf_format.decode_spans if encoding == "protobuf" else json_format.decode_spans
    groups = decode(data, limits) if data else []
    return DecodedTraces(groups, sum(len(group.spans) for group in groups), len(data), encoding)


def decode_logs(
    body: bytes, content_type: str, content_encoding: str | None = None, limits: DecodeLimits | None = None
) -> DecodedLogs:
    """Return the log records of a request to ``/v1/logs``. An empty body has none. Raises DecodeError."""
    limits = limits or DecodeLimits()
    encoding = payload_encoding(content_type)
    data = decompress(body, content_encoding, limits.max_decoded_bytes)
    decode = protobuf_format.decode_log_records if encoding == "protobuf" else json_format.decode_log_records
    groups = decode(data, limits) if data else []
    return DecodedLogs(groups, sum(len(group.records) for group in groups), len(data), encoding)
