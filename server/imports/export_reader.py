"""Spans and scores read from the files of an export.

The files are read two or three times, since rows of one kind need those of another: first traces (their user, session
and tags belong to all of their spans), then spans, then scores (which may name a span but not its trace).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.imports.identifiers import TRACE_DIGITS, identifier
from server.imports.import_format import Container, ImportFormat, RowKind
from server.imports.moments import nanoseconds
from server.imports.paths import first_of, opened, snake_case
from server.imports.rows import Record, rows_of
from server.imports.score_reading import read_score, scores_on_span
from server.imports.span_reading import attribute_list, read_span, span_attributes

Skipped = Callable[[Path, str, str], None]
"""Called with file, place and reason for each row, span or score that cannot be used."""


@dataclass(frozen=True, slots=True)
class Item:
    """A span as OTLP JSON, with its service, or a score."""

    file: Path
    span: dict[str, Any] | None = None
    service: str | None = None
    score: dict[str, Any] | None = None


@dataclass(slots=True)
class ExportReader:
    """One import: the table, the files, and the state collected while reading."""

    table: ImportFormat
    files: Sequence[Path]
    on_skipped: Skipped
    _contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Attributes from rows of traces, by trace."""
    _alone: dict[str, tuple[Path, RowKind, Record]] = field(default_factory=dict)
    """Traces without a span so far."""
    _trace_of_span: dict[str, str] = field(default_factory=dict)

    def items(self) -> Iterator[Item]:
        """Yield every span and score. Raises UnreadableFileError."""
        if self.table.has_kind("trace"):
            self._read_traces()
        for file in self.files:
            for row in rows_of(file):
                if row.record is None:
                    self.on_skipped(file, row.place, row.problem)
                else:
                    yield from self._spans(file, row.place, self._named(row.record))
        for trace_id, (file, kind, record) in self._alone.items():
            yield Item(file, span=self._span_of_trace(trace_id, kind, record))
        if self.table.has_kind("score") and not self.table.containers:
            yield from self._score_rows()

    def _named(self, record: Record) -> Record:
        return snake_case(record) if self.table.snake_case else record

    def _read_traces(self) -> None:
        for file in self.files:
            for row in rows_of(file):
                record = self._named(row.record or {})
                kind = self.table.kind_of(record)
                if kind is not None and kind.kind == "trace":
                    trace_id = identifier(kind.part(record, "trace_id"), TRACE_DIGITS, self.table.ids)
                    attributes = {name: first_of(record, paths) for name, paths in kind.attributes.items()}
                    self._contexts[trace_id] = {name: value for name, value in attributes.items() if value is not None}
                    self._alone[trace_id] = (file, kind, record)

    def _spans(self, file: Path, place: str, record: Record) -> Iterator[Item]:
        for container in self.table.containers:
            inner = opened(first_of(record, container.spans))
            if isinstance(inner, list):
                yield from self._contained(file, place, record, container, inner)
                return
        kind = self.table.kind_of(record)
        if kind is None:
            self.on_skipped(file, place, f"is not a row of an export of {self.table.title}")
        elif kind.kind == "span":
            yield from self._span(file, place, kind, record, {})
        elif kind.kind == "trace":
            try:
                nanoseconds(kind.part(record, "start"))
            except ValueError as error:
                self.on_skipped(file, place, str(error))
                self._alone.pop(identifier(kind.part(record, "trace_id"), TRACE_DIGITS, self.table.ids), None)

    def _contained(
        self, file: Path, place: str, record: Record, container: Container, inner: list[Any]
    ) -> Iterator[Item]:
        context = {name: first_of(record, paths) for name, paths in container.attributes.items()}
        context = {name: value for name, value in context.items() if value is not None}
        trace_id = None
        for number, span in enumerate(inner, start=1):
            kind = self.table.kind_of(span) if isinstance(span, dict) else None
            if kind is None or kind.kind != "span":
                self.on_skipped(file, f"{place}, span {number}", "is not a span")
                continue
            for item in self._span(file, f"{place}, span {number}", kind, span, context):
                trace_id = trace_id or (item.span or {}).get("traceId")
                yield item
        scores = opened(first_of(record, container.scores))
        for number, score in enumerate(scores if isinstance(scores, list) else (), start=1):
            kind = next((kind for kind in self.table.kinds if kind.kind == "score"), None)
            if kind is not None and isinstance(score, dict):
                yield from self._score(file, f"{place}, score {number}", kind, score, trace_id)

    def _span(self, file: Path, place: str, kind: RowKind, record: Record, context: dict[str, Any]) -> Iterator[Item]:
        try:
            named = kind.part(record, "trace_id")
            trace_id = identifier(named, TRACE_DIGITS, self.table.ids) if named is not None else ""
            span = read_span(self.table, kind, record, {**self._contexts.get(trace_id, {}), **context})
        except ValueError as error:
            self.on_skipped(file, place, str(error))
            return
        self._alone.pop(trace_id, None)
        if self.table.has_kind("score"):
            self._trace_of_span[str(kind.part(record, "span_id"))] = trace_id
        service = first_of(record, self.table.service)
        yield Item(file, span=span, service=str(service) if service is not None else None)
        for score in scores_on_span(self.table, kind, record, span):
            yield Item(file, score=score)

    def _span_of_trace(self, trace_id: str, kind: RowKind, record: Record) -> dict[str, Any]:
        """Return a span made from a trace that has no rows of spans: the trace would be lost otherwise."""
        start = str(nanoseconds(kind.part(record, "start")))
        attributes = span_attributes(self.table, kind, record)
        for name, given in kind.alone.items():
            value = given if isinstance(given, str) else first_of(record, given)
            if value is not None:
                attributes[name] = value
        return {
            "traceId": trace_id,
            "spanId": identifier("root", 16, (), within=trace_id),
            "name": str(kind.part(record, "name") or self.table.title),
            "startTimeUnixNano": start,
            "endTimeUnixNano": start,
            "attributes": attribute_list(attributes),
        }

    def _score_rows(self) -> Iterator[Item]:
        for file in self.files:
            for row in rows_of(file):
                record = self._named(row.record or {})
                kind = self.table.kind_of(record)
                if kind is not None and kind.kind == "score":
                    yield from self._score(file, row.place, kind, record, None)

    def _score(self, file: Path, place: str, kind: RowKind, record: Record, trace_id: str | None) -> Iterator[Item]:
        try:
            yield Item(file, score=read_score(self.table, kind, record, self._trace_of_span, trace_id))
        except ValueError as error:
            self.on_skipped(file, place, str(error))
