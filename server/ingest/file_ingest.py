"""Sends OTLP files to a server: what ``llm-observatory ingest FILE…`` does.

Taken are OTLP JSON (one document, or one a line as the Collector's file exporter writes it), OTLP protobuf (one
message, or many with a length of four bytes in front as the file exporter writes with ``format: proto``), each
also compressed with gzip. Traces and logs may be mixed in JSON; protobuf holds traces. Requests are cut to a size
that every server takes; a server that is busy is asked again. Sending a file twice stores nothing twice.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from google.protobuf.message import DecodeError as ProtobufError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
SPANS_A_REQUEST: Final = 500
BYTES_A_REQUEST: Final = 2 * 1024 * 1024
TRIES: Final = 8
_PATHS: Final = {"resourceSpans": "/v1/traces", "resourceLogs": "/v1/logs"}
_GROUPS: Final = {"resourceSpans": ("scopeSpans", "spans"), "resourceLogs": ("scopeLogs", "logRecords")}
_REJECTED: Final = ("rejectedSpans", "rejectedLogRecords")
_RETRIED: Final = (429, 502, 503, 504)


class FileIngestError(Exception):
    """A file cannot be sent; the message says which, where and why."""


@dataclass(slots=True)
class FileProgress:
    """How far it has come. ``rejected`` were refused by the server, with its reasons in ``reasons``."""

    file: Path
    done_bytes: int
    total_bytes: int
    requests: int = 0
    items: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    content_type: str
    body: bytes
    items: int
    read_bytes: int
    """Where in the file (compressed, where it is) the request ends."""


async def ingest_files(
    files: Sequence[Path],
    *,
    base_url: str,
    token: str,
    project: str | None = None,
    on_progress: Callable[[FileProgress], None] | None = None,
) -> list[FileProgress]:
    """Send ``files`` in order to the server at ``base_url``; gives the totals of each file.

    ``project`` may be None when the token is of one project. Raises :class:`FileIngestError` for a file that
    cannot be read and for an answer that repeating would not change.
    """
    headers = {"Authorization": f"Bearer {token}"} | ({"X-Observatory-Project": project} if project else {})
    totals = []
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
        for file in files:
            progress = FileProgress(file, 0, file.stat().st_size)
            async for request in _requests(file):
                await _send(client, request, progress)
                if on_progress is not None:
                    on_progress(progress)
            progress.done_bytes = progress.total_bytes
            if on_progress is not None:
                on_progress(progress)
            totals.append(progress)
    return totals


async def _send(client: httpx.AsyncClient, request: _Request, progress: FileProgress) -> None:
    body = await asyncio.to_thread(gzip.compress, request.body, 1)
    headers = {"Content-Type": request.content_type, "Content-Encoding": "gzip"}
    for attempt in range(TRIES):
        try:
            response = await client.post(request.path, content=body, headers=headers)
        except httpx.TransportError as error:
            reason, wait = f"no answer from the server ({type(error).__name__})", 0.5 * 2**attempt
        else:
            if response.status_code == 200:
                _count(progress, request, response)
                return
            reason = f"the server answered {response.status_code}: {response.text[:200]}"
            if response.status_code not in _RETRIED:
                raise FileIngestError(f"{progress.file}: {reason}")
            wait = float(response.headers.get("retry-after", 0.5 * 2**attempt))
        await asyncio.sleep(min(wait, 60))
    raise FileIngestError(f"{progress.file}: {reason}, after {TRIES} tries")


def _count(progress: FileProgress, request: _Request, response: httpx.Response) -> None:
    if request.content_type == JSON:
        partial: dict[str, Any] = response.json().get("partialSuccess", {})
        rejected = int(next((partial[name] for name in _REJECTED if name in partial), 0))
        reason = str(partial.get("errorMessage", ""))
    else:
        answer = ExportTraceServiceResponse.FromString(response.content).partial_success
        rejected, reason = answer.rejected_spans, answer.error_message
    progress.requests += 1
    progress.items += request.items
    progress.rejected += rejected
    if reason and reason not in progress.reasons:
        progress.reasons += (reason,)
    progress.done_bytes = max(progress.done_bytes, request.read_bytes)


async def _requests(file: Path) -> AsyncIterator[_Request]:
    """The requests of ``file``. Reading and cutting runs in a thread, so that a progress display stays alive."""
    iterator = _read(file)
    while (request := await asyncio.to_thread(next, iterator, None)) is not None:
        yield request


def _read(file: Path) -> Iterator[_Request]:
    with file.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        source: Any = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        try:
            start = source.peek(1)[:1]
            # A protobuf message starts with a line feed: the tag of its first field.
            cut = _read_json if start in (b"{", b" ") else _read_protobuf
            for request in cut(file, source):
                yield _Request(request.path, request.content_type, request.body, request.items, raw.tell())
        except (OSError, EOFError, zlib.error) as error:
            raise FileIngestError(f"{file}: cannot be read: {error}") from error


def _read_json(file: Path, source: Any) -> Iterator[_Request]:
    line: bytes
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except ValueError as error:
            if number > 1:
                raise FileIngestError(f"{file}, line {number}: not valid JSON") from error
            # The first line is the beginning of a document over many lines.
            try:
                document = json.loads(line + source.read())
            except ValueError as whole:
                raise FileIngestError(f"{file}: not valid JSON") from whole
        if not isinstance(document, dict) or not document.keys() & _PATHS.keys():
            raise FileIngestError(f"{file}, line {number}: has neither resourceSpans nor resourceLogs")
        for kind, path in _PATHS.items():
            for part, items in _cut_json(document.get(kind) or [], kind):
                yield _Request(path, JSON, json.dumps({kind: part}).encode(), items, 0)


def _cut_json(resources: list[dict[str, Any]], kind: str) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Resources in pieces of at most 500 items and about two megabytes."""
    scopes_name, items_name = _GROUPS[kind]
    piece: list[dict[str, Any]] = []
    count = size = 0
    for resource in resources:
        for scope in resource.get(scopes_name) or []:
            items = scope.get(items_name) or []
            for start in range(0, len(items), 50):
                some = items[start : start + 50]
                weight = len(json.dumps(some))
                if piece and (count + len(some) > SPANS_A_REQUEST or size + weight > BYTES_A_REQUEST):
                    yield piece, count
                    piece, count, size = [], 0, 0
                piece.append({**resource, scopes_name: [{**scope, items_name: some}]})
                count += len(some)
                size += weight
    if piece:
        yield piece, count


def _read_protobuf(file: Path, source: Any) -> Iterator[_Request]:
    head: bytes = source.peek(4)[:4]
    # A message starts with the tag of its first field (0x0a); a length of less than 160 MB starts otherwise.
    for message in [source.read()] if head[:1] == b"\x0a" else _prefixed(file, source):
        try:
            request = ExportTraceServiceRequest.FromString(message)
        except ProtobufError as error:
            raise FileIngestError(f"{file}: not OTLP protobuf") from error
        for part, items in _cut_protobuf(request):
            yield _Request("/v1/traces", PROTOBUF, part.SerializeToString(), items, 0)


def _prefixed(file: Path, source: Any) -> Iterator[bytes]:
    while prefix := source.read(4):
        size = int.from_bytes(prefix, "big")
        message = source.read(size)
        if len(prefix) < 4 or len(message) < size:
            raise FileIngestError(f"{file}: ends in the middle of a message")
        yield message


def _cut_protobuf(request: ExportTraceServiceRequest) -> Iterator[tuple[ExportTraceServiceRequest, int]]:
    piece, count, size = ExportTraceServiceRequest(), 0, 0
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for start in range(0, len(scope.spans), 50):
                some = scope.spans[start : start + 50]
                weight = sum(span.ByteSize() for span in some)
                if count and (count + len(some) > SPANS_A_REQUEST or size + weight > BYTES_A_REQUEST):
                    yield piece, count
                    piece, count, size = ExportTraceServiceRequest(), 0, 0
                group = piece.resource_spans.add(resource=resource.resource, schema_url=resource.schema_url)
                group.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url, spans=some)
                count += len(some)
                size += weight
    if count:
        yield piece, count
