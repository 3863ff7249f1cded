"""Spans for tests, and a way to store them through the real writer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import httpx

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.storage.deadlocks import repeat_after_deadlock

_numbers = itertools.count(1)
_FIELDS = {field.name for field in fields(SpanRecord)}


def make_span(**overrides: Any) -> SpanRecord:
    """Return a believable model call that began ten minutes ago, with ids of its own; ``overrides`` are fields of
    SpanRecord. Without ``trace_id`` it is a trace of one root span."""
    unknown = overrides.keys() - _FIELDS
    if unknown:
        raise TypeError(f"not fields of SpanRecord: {sorted(unknown)}")
    number = next(_numbers)
    values: dict[str, Any] = {
        "ts": datetime.now(UTC) - timedelta(minutes=10),
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "span_name": "chat gpt-4o",
        "span_kind": "client",
        "service_name": "checkout",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "request_model": "gpt-4o",
        "operation_type": "chat",
        "is_generation": True,
        "duration_ms": 850.0,
        "status_code": "OK",
        "dialect": "genai",
    }
    return SpanRecord(**(values | overrides))


async def store(services: Services, project: str, records: SpanRecord | Iterable[SpanRecord]) -> int:
    """Store ``records`` in ``project`` durably; return the number of rows that are new or changed."""
    batch = [records] if isinstance(records, SpanRecord) else list(records)
    writer = SpanWriter(services.writes, Dimensions(services.writes, most_combinations=20_000), None)
    # As the queue of the server does.
    return await repeat_after_deadlock(lambda: writer.store([prepare_span(project, record) for record in batch]))


async def texts(
    client: httpx.AsyncClient, headers: Mapping[str, str], filters: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return inputs and outputs of the listed spans as readers get them, in whichever layout they are stored."""
    asked = {**filters, "fields": "input_text,output_text"}
    return (await client.get("/api/v1/traces", params=asked, headers=headers)).json()["data"]  # type: ignore[no-any-return]
