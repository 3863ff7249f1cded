"""Updates of spans from log records: content that an instrumentation sends apart from the span.

A record only fills columns that the span left empty. The span may come before or after its record: an early record is
held in span_updates and applied within seconds of the span. A filled span is stored as a version one microsecond later,
so that a replay of the span does not undo it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from server.ingest.counting.call_identity import columns_of
from server.ingest.mapping.mapping_result import MappingLimits, SpanUpdate
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.coercion import cut_text
from server.ingest.messages.message_limits import fit_messages
from server.ingest.messages.message_rendering import is_multimodal, render_messages
from server.ingest.project_settings import ProjectSettings
from server.ingest.writing.content_start import ContentStart
from server.ingest.writing.prepared_span import JSON_COLUMNS, PreparedSpan, prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.living_nodes import each_project, fetch_of_living_nodes
from server.storage.row_scope import RowScope
from server.storage.statements import statement

LOOK_SECONDS: Final = 2.0
HOLD: Final = timedelta(hours=1)

FROM_LOGS: Final = "observatory.content_from_logs"
"""Attribute of a span whose messages came in log records: the next record adds to them."""

_LIMITS: Final = MappingLimits()
_MESSAGES: Final = {"input": _LIMITS.input_messages, "output": _LIMITS.output_messages}
_WHOLE: Final = ("input_text", "input_messages", "output_text", "output_messages", "attributes", "resource_attributes")
"""Columns whose value may be stored apart; ``whole_NAME`` is then that value."""
_FIELDS: Final = tuple(field.name for field in fields(SpanRecord))


class SpanUpdates:
    """Applies updates at once if the span is stored, later if it is not."""

    def __init__(
        self,
        database: Database,
        worker: Database,
        writer: SpanWriter,
        projects: ProjectSettings,
        content_start: ContentStart,
        *,
        full_text: bool = True,
    ) -> None:
        """``worker``: a pool that sees every project, to find held updates whose span has arrived. ``full_text``: as in
        :func:`prepare_span`.
        """
        self._database = database
        self._worker = worker
        self._writer = writer
        self._projects = projects
        self._content_start = content_start
        self._full_text = full_text
        self.task = PeriodicTask("held span updates", self.apply_held, pause=LOOK_SECONDS)

    async def take(self, project_id: str, updates: Sequence[SpanUpdate]) -> None:
        """Apply or hold ``updates``, durably. Raises the errors of :class:`Database`."""
        for update in updates:
            if not await self._apply(project_id, update.trace_id, update.span_id, update.columns):
                redactor, columns = (await self._projects.of(project_id)).redactor, update.columns
                if redactor is not None:
                    columns = redactor.redact_columns(update.ts, columns)
                document = orjson.dumps(columns).decode()
                async with self._database.write([project_id]) as connection:
                    await connection.execute(
                        statement("hold_span_update"), project_id, update.trace_id, update.span_id, document
                    )

    async def apply_held(self) -> int:
        """Apply the held updates whose spans have come; return their number."""
        task = self.task.name
        await fetch_of_living_nodes(self._worker, task, "forget_old_span_updates", datetime.now(UTC) - HOLD)
        held = await fetch_of_living_nodes(self._worker, task, "list_held_span_updates")
        by_project: dict[str, list[Any]] = defaultdict(list)
        for row in held:
            by_project[row["project_id"]].append(row)

        async def apply(project: str) -> int:
            for row in by_project[project]:
                key = (project, row["trace_id"], row["span_id"])
                await self._apply(*key, orjson.loads(row["columns"]))
                async with self._database.write([project]) as connection:
                    await connection.execute(statement("forget_span_update"), *key)
            return len(by_project[project])

        return sum(await each_project(self._worker, task, by_project, apply))

    async def _apply(self, project_id: str, trace_id: str, span_id: str, columns: Mapping[str, Any]) -> bool:
        """Fill what the span left empty; False when it is not stored."""
        async with self._database.read(RowScope((project_id,))) as connection:
            row = await connection.fetchrow(statement("read_stored_span"), project_id, trace_id, span_id)
        if row is None:
            return False
        record = stored_record(dict(row))
        if not fill(record, columns):
            return True
        project = await self._projects.of(project_id)
        if project.redactor is not None:
            project.redactor.redact(record)
        await self._content_start.learn()
        span = prepare_span(
            project_id,
            record,
            full_text=self._full_text,
            shared_from=self._content_start.moment,
            resources_from=self._content_start.resources,
            results_from=self._content_start.results,
        )
        await self._writer.store([_next_version(span, row["version"])])
        return True


def fill(record: SpanRecord, columns: Mapping[str, Any]) -> bool:
    """Fill what ``record`` lacks; False when it lacks nothing of ``columns``.

    Messages are added to those of earlier log records, and to an input that has nothing but instructions.
    """
    before = {name: getattr(record, name) for name in columns if name in _FIELDS}
    for name in before:
        if before[name] is None:
            setattr(record, name, columns[name])
    for side, limit in _MESSAGES.items():
        had = before.get(f"{side}_messages")
        if not had and before.get(f"{side}_text"):  # the span said it in a text of its own
            setattr(record, f"{side}_messages", had)
        else:
            _add_messages(record, side, columns.get(f"{side}_messages"), had, limit)
    return any(getattr(record, name) != value for name, value in before.items())


def _add_messages(record: SpanRecord, side: str, sent: Any, had: Any, limit: int) -> None:
    if not sent:
        return
    if had:
        only_instructions = side == "input" and all(message["role"] == "system" for message in had)
        if not (only_instructions or FROM_LOGS in record.attributes):
            return
        sent = [*had, *(message for message in sent if message not in had)]
    messages, _ = fit_messages(sent, limit, limit)
    text = cut_text(render_messages(messages), getattr(_LIMITS, f"{side}_text"))[0]
    setattr(record, f"{side}_messages", messages)
    setattr(record, f"{side}_text", text)
    if side == "input":
        record.input_type = "multimodal" if is_multimodal(messages) else "chat"
    record.attributes[FROM_LOGS] = True


def stored_record(row: Mapping[str, Any]) -> SpanRecord:
    """Return the span of a row of llm_traces, whose jsonb columns are text, without what it took from other spans."""
    values = {name: row[name] for name in _FIELDS} | {name: row[f"whole_{name}"] for name in _WHOLE}
    for name in JSON_COLUMNS:
        if values[name] is not None:
            values[name] = orjson.loads(values[name])
    for column in columns_of(values["inherited"] or {}):
        values[column] = [] if column == "tags" else None
    return SpanRecord(**values | {"inherited": None})


def _next_version(span: PreparedSpan, version: int) -> PreparedSpan:
    span.set_version(version + 1)
    return span
