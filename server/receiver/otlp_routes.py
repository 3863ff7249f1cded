"""The OTLP/HTTP receiver: ``POST /v1/traces``, ``/v1/logs``, ``/v1/metrics`` and ``/v1/traces/explain``.

The credential decides the project of the spans: a credential for one project needs to say nothing; with several, the
request names the project in the ``X-Observatory-Project`` header, or in the ``project`` query parameter if an exporter
cannot set headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidBody, PayloadTooLarge, UnsupportedMediaType
from server.http.envelope import success
from server.http.error_responses import RENDERERS
from server.http.guard import requires
from server.http.services import services_of
from server.http.target_project import target_project
from server.ingest.otlp.decode import DecodeError, TooLarge, UnsupportedType, payload_encoding
from server.receiver.otlp_answers import logs_answer, metrics_answer, status_answer, traces_answer

otlp = Blueprint("otlp", url_prefix="/v1")

RENDERERS["/v1"] = status_answer


@otlp.post("/traces", stream=True)
@requires("traces:write")
async def export_traces(request: Request) -> HTTPResponse:
    """Store the spans of an ExportTraceServiceRequest; answered after they are durable."""
    async with received(request) as body:
        receipt = await services_of(request).ingestion.take_traces(*body)
    return traces_answer(request, receipt.rejected, receipt.span_ids)


@otlp.post("/logs", stream=True)
@requires("traces:write")
async def export_logs(request: Request) -> HTTPResponse:
    """Store the parts of log records that describe spans (GenAI content and evaluations); others are accepted and
    dropped.
    """
    async with received(request) as body:
        receipt = await services_of(request).ingestion.take_logs(*body)
    return logs_answer(request, receipt.rejected)


@otlp.post("/metrics", stream=True)
@requires("traces:write")
async def export_metrics(request: Request) -> HTTPResponse:
    """Add the counters of coding agents to their daily figures; the answer says how many other points are dropped."""
    async with received(request) as body:
        points, kept = await services_of(request).ingestion.take_metrics(*body)
    return metrics_answer(request, points - kept)


@otlp.post("/traces/explain", stream=True)
@requires("traces:write", cost=5)
async def explain_traces(request: Request) -> HTTPResponse:
    """Report how the spans of an ExportTraceServiceRequest would be stored, column by column; store nothing."""
    async with received(request) as body:
        spans = await services_of(request).ingestion.explain(*body)
    return success(request, {"spans": spans})


class ReceivedBody(NamedTuple):
    """A request's body with its content type, encoding and size."""

    project_id: str
    body: bytes
    content_type: str
    content_encoding: str | None


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[ReceivedBody]:
    """Provide the body of ``request``.

    Requests that can be refused by their head are refused before the body is read. A DecodeError becomes its answer.
    """
    ingestion = services_of(request).ingestion
    project_id = await target_project(request)
    content_type, content_encoding = declared_types(request)
    limit = ingestion.decode_limits.max_decoded_bytes
    check_declared_size(request, limit)
    body = await read_body(request, limit)
    try:
        yield ReceivedBody(project_id, body, content_type, content_encoding)
    except DecodeError as error:
        raise refused(error) from error


def declared_types(request: Request) -> tuple[str, str | None]:
    """Return content type and content encoding. Raises UnsupportedMediaType before the body is read."""
    content_type = request.headers.get("content-type", "")
    try:
        payload_encoding(content_type)
    except UnsupportedType as error:
        raise UnsupportedMediaType(str(error)) from error
    return content_type, request.headers.get("content-encoding")


def check_declared_size(request: Request, limit: int) -> None:
    """Raise PayloadTooLarge for a body that announces more than ``limit`` bytes, before anything of it is read."""
    declared = int(request.headers.get("content-length", 0))
    if declared > limit:
        raise PayloadTooLarge(f"the body has {declared} bytes, the limit is {limit}")


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body. Raises PayloadTooLarge (through the server) beyond ``limit``."""
    stream: Any = request.stream
    body: bytes = await stream.read_whole(limit)
    return body


def refused(error: DecodeError) -> Exception:
    """Return the error for a body that cannot be read."""
    if isinstance(error, TooLarge):
        return PayloadTooLarge(str(error))
    if isinstance(error, UnsupportedType):
        return UnsupportedMediaType(str(error))
    return InvalidBody(str(error))
