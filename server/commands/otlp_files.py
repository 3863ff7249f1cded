"""Reader of OTLP files, cut into requests of a size that every server accepts.

It reads every form that the Collector's file exporter writes, and the plain bodies of OTLP requests:

* JSON: one document, or one per line;
* protobuf: one message, or many with a length of four bytes in front (``format: proto``);
* either compressed as a whole (gzip, zstd), or each message by itself with zstd (``compression: zstd``, which also puts
  lengths in front of JSON).

Traces and logs may be mixed. Metrics and profiles are skipped and reported.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError as ProtobufError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
ITEMS_A_REQUEST: Final = 500
BYTES_A_REQUEST: Final = 2 * 1024 * 1024
ITEMS_A_PIECE: Final = 50
_TRACE_ID_BYTES: Final = 16
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNREADABLE: Final = (OSError, EOFError, zlib.error, zstd.ZstdError)


class FileIngestError(Exception):
    """A file cannot be sent; the message names the file, the place and the reason."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Traces or logs: their route, the names of their three levels, and the type of the answer."""

    path: str
    json_names: tuple[str, str, str]
    names: tuple[str, str, str]
    message: type[ExportTraceServiceRequest] | type[ExportLogsServiceRequest]
    answer: type[ExportTraceServiceResponse] | type[ExportLogsServiceResponse]
    rejected: tuple[str, str]
    """The member of ``partial_success`` that counts refused items, in JSON and in protobuf."""


TRACES: Final = Signal(
    "/v1/traces",
    ("resourceSpans", "scopeSpans", "spans"),
    ("resource_spans", "scope_spans", "spans"),
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
    ("rejectedSpans", "rejected_spans"),
)
LOGS: Final = Signal(
    "/v1/logs",
    ("resourceLogs", "scopeLogs", "logRecords"),
    ("resource_logs", "scope_logs", "log_records"),
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
    ("rejectedLogRecords", "rejected_log_records"),
)
_SKIPPED: Final = {"resourceMetrics": "metrics are not supported", "resourceProfiles": "profiles are not supported"}


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One request with ``items`` spans or log records. ``read_bytes``: offset of its end in the file on disk."""

    signal: Signal
    content_type: str
    body: bytes
    items: int
    read_bytes: int


def read_requests(file: Path, on_skip: Callable[[str], None]) -> Iterator[FileRequest]:
    """Yield the requests of ``file``; ``on_skip`` receives a sentence for anything that is not a trace or log.

    Raises :class:`FileIngestError` if the file cannot be read or is not OTLP.
    """
    with file.open("rb") as raw:
        head = raw.read(len(_ZSTD))
        raw.seek(0)
        source: Any = raw
        if head.startswith(_GZIP):
            source = gzip.GzipFile(fileobj=raw)
        elif head == _ZSTD:
            source = zstd.ZstdFile(raw)
        pending: dict[tuple[str, str], _Pending] = {}
        try:
            for piece in _Reader(file, on_skip).pieces(source):
                batch = pending.setdefault((piece.signal.path, piece.content_type), _Pending())
                if not batch.has_room_for(piece):
                    yield batch.request(raw.tell())
                    batch = pending[piece.signal.path, piece.content_type] = _Pending()
                batch.add(piece)
        except (FileIngestError, *_UNREADABLE) as error:
            # Items before the unreadable place are still sent.
            yield from (batch.request(raw.tell()) for batch in pending.values())
            if isinstance(error, FileIngestError):
                raise
            raise FileIngestError(f"{file}: cannot be read: {error}") from error
        yield from (batch.request(raw.tell()) for batch in pending.values())


@dataclass(frozen=True, slots=True)
class _Piece:
    """Up to 50 items with their resource and scope: a dict or a protobuf message."""

    signal: Signal
    content_type: str
    resource: Any
    items: int
    weight: int


@dataclass(slots=True)
class _Pending:
    """Pieces of one signal and encoding that will be one request."""

    pieces: list[_Piece] = field(default_factory=list)
    items: int = 0
    weight: int = 0

    def has_room_for(self, piece: _Piece) -> bool:
        """Return whether ``piece`` fits into the request, too. A single piece always fits."""
        fits = self.items + piece.items <= ITEMS_A_REQUEST and self.weight + piece.weight <= BYTES_A_REQUEST
        return fits or not self.pieces

    def add(self, piece: _Piece) -> None:
        """Add ``piece``."""
        self.pieces.append(piece)
        self.items += piece.items
        self.weight += piece.weight

    def request(self, read_bytes: int) -> FileRequest:
        """Return the request of all pieces."""
        signal, content_type = self.pieces[0].signal, self.pieces[0].content_type
        resources = [piece.resource for piece in self.pieces]
        if content_type == JSON:
            body = json.dumps({signal.json_names[0]: resources}).encode()
        else:
            message: Any = signal.message()
            getattr(message, signal.names[0]).extend(resources)
            body = message.SerializeToString()
        return FileRequest(signal, content_type, body, self.items, read_bytes)


@dataclass(frozen=True, slots=True)
class _Reader:
    file: Path
    on_skip: Callable[[str], None]

    def pieces(self, source: Any) -> Iterator[_Piece]:
        head: bytes = source.peek(4)[:4]
        if head[:1] in (b"{", b" "):
            yield from self._lines(source)
        elif head[:1] == b"\x0a":
            # The tag of a message's first field; a length prefix below 160 MB starts with another byte.
            yield from self._protobuf(source.read())
        else:
            for message in self._prefixed(source):
                if message.startswith(_ZSTD):
                    message = zstd.decompress(message)
                yield from self._json(message, "") if message[:1] == b"{" else self._protobuf(message)

    def _prefixed(self, source: Any) -> Iterator[bytes]:
        doubt = "is not OTLP, or "
        while prefix := source.read(4):
            size = int.from_bytes(prefix, "big")
            message = source.read(size)
            if len(prefix) < 4 or len(message) < size:
                raise FileIngestError(f"{self.file}: {doubt}ends in the middle of a message")
            yield message
            doubt = ""

    def _lines(self, source: Any) -> Iterator[_Piece]:
        line: bytes
        for number, line in enumerate(source, start=1):
            if not line.strip():
                continue
            if number == 1 and not _is_json(line):
                # The start of a document that spans many lines.
                yield from self._json(line + source.read(), "")
            else:
                yield from self._json(line, f", line {number}")

    def _json(self, text: bytes, place: str) -> Iterator[_Piece]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileIngestError(f"{self.file}{place}: not valid JSON") from error
        kinds = document.keys() if isinstance(document, dict) else set()
        for kind in kinds & _SKIPPED.keys():
            self.on_skip(_SKIPPED[kind])
        signals = [signal for signal in (TRACES, LOGS) if signal.json_names[0] in kinds]
        if not signals and not kinds & _SKIPPED.keys():
            raise FileIngestError(f"{self.file}{place}: has neither resourceSpans nor resourceLogs")
        for signal in signals:
            name = signal.json_names[0]
            try:
                yield from _cut_json(document[name] or [], signal)
            except (AttributeError, TypeError) as error:
                raise FileIngestError(f"{self.file}{place}: {name} is not valid OTLP") from error

    def _protobuf(self, message: bytes) -> Iterator[_Piece]:
        signal, request = _parsed(message)
        if request is None:
            raise FileIngestError(f"{self.file}: not OTLP protobuf")
        yield from _cut_protobuf(request, signal)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(message: bytes) -> tuple[Signal, Any]:
    """Return the signal of ``message``, which does not name it: traces if a span has an id of the right length."""
    traces = _message_of(TRACES, message)
    if traces is not None and any(
        len(span.trace_id) == _TRACE_ID_BYTES
        for resource in traces.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ):
        return TRACES, traces
    logs = _message_of(LOGS, message)
    return (TRACES, traces) if logs is None else (LOGS, logs)


def _message_of(signal: Signal, message: bytes) -> Any:
    try:
        return signal.message.FromString(message)
    except ProtobufError:
        return None


def _cut_json(resources: list[dict[str, Any]], signal: Signal) -> Iterator[_Piece]:
    _, scopes_name, items_name = signal.json_names
    for resource in resources:
        for scope in resource.get(scopes_name) or []:
            items = scope.get(items_name) or []
            for start in range(0, len(items), ITEMS_A_PIECE):
                some = items[start : start + ITEMS_A_PIECE]
                part = {**resource, scopes_name: [{**scope, items_name: some}]}
                yield _Piece(signal, JSON, part, len(some), len(json.dumps(some)))


def _cut_protobuf(request: Any, signal: Signal) -> Iterator[_Piece]:
    resources_name, scopes_name, items_name = signal.names
    for resource in getattr(request, resources_name):
        for scope in getattr(resource, scopes_name):
            items = getattr(scope, items_name)
            for start in range(0, len(items), ITEMS_A_PIECE):
                some = items[start : start + ITEMS_A_PIECE]
                part = type(resource)(resource=resource.resource, schema_url=resource.schema_url)
                getattr(part, scopes_name).add(scope=scope.scope, schema_url=scope.schema_url, **{items_name: some})
                yield _Piece(signal, PROTOBUF, part, len(some), part.ByteSize())
