"""Decides again which stored spans count, if a trace comes in pieces.

The spans of one request are counted before they are stored. When others of their trace are there already, from another
request or another server, the decision is made over all of them, in the transaction that stores the new ones. It comes
after the trace's summary was written, which locks it: of two writers the second sees what the first has committed, so
that the end is the same in any order. A trace with at most one span that counts has nothing to decide and is not read,
unless it is linked with another (:mod:`server.ingest.writing.linked_traces`) or its call may lack what another span has
(:mod:`server.ingest.writing.lent_parts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from server.ingest.counting.call_counting import decide_counts
from server.ingest.counting.call_identity import (
    CONTENT,
    IDENTITY,
    Ancestry,
    columns_of,
    inheritance,
    kept_inheritance,
)
from server.ingest.counting.count_rules import (
    TOLD_RULES,
    TOOL_RULES,
    TOOL_TOLD_TWICE,
    Decision,
    entity_columns,
    told_operation,
)
from server.ingest.counting.told_twice import ENTITIES
from server.ingest.counting.tool_counting import TOOL_TOLD
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.lent_parts import parts_of_traces
from server.ingest.writing.linked_traces import LinkedTraces, TraceKey
from server.ingest.writing.prepared_span import DIMENSIONS, PreparedSpan
from server.ingest.writing.stored_spans import (
    LendingSpan,
    OwnData,
    inherited_of,
    lending_spans,
    report_view,
    spans_between,
)
from server.queries.filters.search_text import search_document
from server.storage.statements import statement

_OF_ENTITIES: Final = TOOL_RULES | TOLD_RULES
_JSON_CONTENT: Final = ("input_messages", "output_messages")


def split_traces(spans: Iterable[PreparedSpan]) -> set[TraceKey]:
    """Return the traces of which ``spans`` has pieces from more than one request."""
    requests: dict[TraceKey, int] = {}
    return {
        key for span in spans if requests.setdefault(key := (span.key[0], span.key[1]), span.request) != span.request
    }


class Recount:
    """The counting of one batch of spans."""

    def __init__(
        self, dimensions: Dimensions, batch: Sequence[PreparedSpan], split: set[TraceKey], *, full_text: bool
    ) -> None:
        """``split``: traces of which the batch itself holds several pieces."""
        self._dimensions = dimensions
        self._batch = batch
        self._split = split
        self._full_text = full_text
        self._links = LinkedTraces(batch)
        self.settled: dict[str, list[tuple[datetime, str]]] = {}
        """Starts and traces of the spans whose decision changed, by project."""

    def parts_of_traces(self) -> str:
        """Return what the spans of the batch have and lack, for fold_trace_summaries."""
        return parts_of_traces(self._batch)

    async def note_answers(self, connection: asyncpg.Connection) -> None:
        """Note the vendor's ids of the answers, before anything else of the batch is written."""
        await self._links.note(connection)

    async def lock_linked(self, connection: asyncpg.Connection, known: Mapping[TraceKey, bool]) -> None:
        """Lock the traces that the ones in ``known`` are linked with, if the flag says so, before any of the batch is
        written: writers of linked traces then take them in one order.
        """
        flagged = {trace for trace, is_linked in known.items() if is_linked}
        if flagged:
            await self._links.follow(connection, flagged)

    async def settle(
        self, connection: asyncpg.Connection, changes: Sequence[asyncpg.Record], *, spans_went: bool
    ) -> bool:
        """Decide again for the traces of ``changes`` (rows of fold_trace_summaries) that need it.

        Leaves what changed in span_changes as pass 2; returns whether anything did.
        """
        self.settled = {}
        keys = [(row["project_id"], row["trace_id"], row["sign"]) for row in changes if row["trace_id"] is not None]
        known = {(project, trace) for project, trace, sign in keys if sign < 0} | self._split
        traces = {(project, trace) for project, trace, sign in keys if sign > 0} & known
        if spans_went:
            traces.update(
                (row["project_id"], row["trace_id"]) for row in await _fetch(connection, "list_changed_traces")
            )
        flagged = {(row["project_id"], row["trace_id"]) for row in changes if row["trace_id"] and row["is_linked"]}
        traces |= await self._links.follow(connection, flagged)
        if not traces:
            return False
        await connection.fetchrow(statement("prefer_index_lookups"))
        columns = [list(column) for column in zip(*sorted(traces), strict=True)]
        changed = [change for told in await self._read(connection, columns) for change in self._changes(told)]
        if not changed:
            return False
        documents = await self._documents(connection, changed)
        for row in (change.row for change in changed):
            self.settled.setdefault(row["project_id"], []).append((row["ts"], row["trace_id"]))
        await _fetch(connection, "store_counts", orjson.dumps(documents).decode())
        return True

    async def _read(self, connection: asyncpg.Connection, columns: Sequence[list[str]]) -> list[_Told]:
        """Return the spans of the traces, those that are linked together. Of an agent or a tool that is found to be
        told twice, all its data are needed, and read in a second turn.
        """
        unread: list[str] = []
        while True:
            reports: dict[TraceKey, list[asyncpg.Record]] = {}
            between: dict[TraceKey, list[asyncpg.Record]] = {}
            for name, groups in (("list_reports_to_count", reports), ("list_spans_between", between)):
                for row in await _fetch(connection, name, *columns, unread):
                    groups.setdefault(self._links.leader((row["project_id"], row["trace_id"])), []).append(row)
            found = [
                _Told(reports.get(key, []), between.get(key, []), self._links.parted)
                for key in sorted({*reports, *between})
            ]
            if unread or not (unread := [span_id for told in found for span_id in told.unread()]):
                return found

    def _changes(self, told: _Told) -> list[_Change]:
        """Return the changes among the reports of one trace, or of several that are linked."""
        is_parted, by_id, views, decisions = told.is_parted, told.by_id, told.views, told.decisions
        between, rows = told.between, told.rows
        sources: dict[str, OwnData | LendingSpan] = {
            **lending_spans(between),
            **{span_id: OwnData(row) for span_id, row in by_id.items()},
        }

        def has(span_id: str, part: str) -> bool:
            return span_id in sources and sources[span_id].has(part)

        ancestry = Ancestry({view.span_id: view.parent_span_id for view in views}, has)
        known = {view.span_id for view in views}
        traces = {row["trace_id"] for row in rows}
        came = {span.key[2] for span in self._batch if span.key[1] in traces}
        changes = []
        for span_id, decision in decisions.items():
            row = by_id[span_id]
            before = inherited_of(row)
            taken = inheritance(span_id, decision, has, ancestry)
            if not is_parted:
                taken = kept_inheritance(before, taken, known)
            inherits_differently = taken != before or (bool(taken) and not came.isdisjoint(taken.values()))
            counts_differently = (decision.counts, decision.rule, decision.counted_in) != (
                row["is_generation"], row["count_rule"], row["counted_in"],
            )  # fmt: skip
            if inherits_differently or counts_differently:
                changes.append(_Change(row, decision, taken, sources, inherits_differently))
        return changes

    async def _documents(self, connection: asyncpg.Connection, changes: Sequence[_Change]) -> list[dict[str, Any]]:
        """Return the objects that store_counts takes."""
        contents = await _contents(connection, changes)
        await _read_identities(connection, changes)
        documents = [change.document(contents, full_text=self._full_text) for change in changes]
        by_project: dict[str, set[tuple[Any, ...]]] = {}
        combinations = []
        for change, document in zip(changes, documents, strict=True):
            combination = tuple(document.get(name, change.row[name]) for name in DIMENSIONS)
            combinations.append(combination)
            by_project.setdefault(change.row["project_id"], set()).add(combination)
        for project_id in sorted(by_project):
            numbers = await self._dimensions.numbers_within(connection, project_id, by_project[project_id])
            for document, combination in zip(documents, combinations, strict=True):
                if document["project_id"] == project_id:
                    document["dim_id"] = numbers[combination]
        return documents


class _Told:
    """The spans of one trace, or of several that are linked, and what is decided of them."""

    def __init__(
        self, rows: Sequence[asyncpg.Record], between: Sequence[asyncpg.Record], parted: set[TraceKey]
    ) -> None:
        # Reports that were counted in another trace, while the two were linked, do not concern this one any more.
        ids = {row["span_id"] for row in rows}
        self.is_parted = not parted.isdisjoint((row["project_id"], row["trace_id"]) for row in rows)
        self.between = between
        self.rows = [
            row
            for row in rows
            if self.is_parted
            or row["counted_in"] in ids
            or row["counted_in"] is None
            or row["count_rule"] in _OF_ENTITIES
        ]
        self.by_id = {row["span_id"]: row for row in self.rows}
        self.views = [*map(report_view, self.rows), *spans_between(between)]
        self.decisions = decide_counts(self.views)

    def unread(self) -> list[str]:
        """Return the spans whose decision is to be stored, and of which no more than their place was read."""
        return [span_id for span_id in self.decisions if span_id not in self.by_id]


class _Change:
    """A decision that differs from the stored one."""

    __slots__ = ("_decision", "_sources", "_taken", "inherits_differently", "row")

    def __init__(
        self,
        row: asyncpg.Record,
        decision: Decision,
        taken: Mapping[str, str],
        sources: Mapping[str, OwnData | LendingSpan],
        inherits_differently: bool,
    ) -> None:
        self.row = row
        self._decision = decision
        self._taken = taken
        self._sources = sources
        self.inherits_differently = inherits_differently

    @property
    def takes_content(self) -> bool:
        """Whether the content of the span changes."""
        parts = {*self._taken, *inherited_of(self.row)}
        return self.inherits_differently and not parts.isdisjoint(CONTENT)

    def content_sources(self) -> Iterable[tuple[str, str, datetime]]:
        """Return trace, id and start of the spans whose content is needed."""
        if self.takes_content:
            for span_id in {self.row["span_id"], *(self._taken[part] for part in CONTENT if part in self._taken)}:
                report = self._sources.get(span_id)
                if isinstance(report, OwnData):
                    trace_id, start = report.place
                    yield trace_id, span_id, start

    def lenders_above(self) -> Iterable[tuple[str, LendingSpan]]:
        """Return the spans that report nothing and lend a part of the identity."""
        if self.inherits_differently:
            for span_id in {*self._taken.values()}:
                lender = self._sources.get(span_id)
                if isinstance(lender, LendingSpan):
                    yield span_id, lender

    def document(self, contents: Mapping[tuple[str, str, str], asyncpg.Record], *, full_text: bool) -> dict[str, Any]:
        """Return the decision as an object for store_counts, but for its dim_id."""
        row, decision = self.row, self._decision
        document: dict[str, Any] = {
            "project_id": row["project_id"],
            "trace_id": row["trace_id"],
            "span_id": row["span_id"],
            "ts": row["ts"],
            "is_generation": decision.counts,
            "count_rule": decision.rule,
            "counted_in": decision.counted_in,
            "inherited": self._taken or None,
            "takes_identity": self.inherits_differently,
            "takes_content": self.takes_content,
        }
        operation = told_operation(row["count_rule"], row["operation_type"])
        if operation in ENTITIES:
            name = row["tool_name"] or row["tool_called"]
            document["operation_type"], document["tool_name"] = entity_columns(operation, decision.rule, name)
            if decision.rule == TOOL_TOLD_TWICE:
                document["tool_told"] = {TOOL_TOLD: name} if name else None
        if self.inherits_differently:
            for part in IDENTITY:
                document.update(self._identity(part))
        if self.takes_content:
            for part in CONTENT:
                document.update(self._content(part, contents))
            if full_text:
                document["search_text"] = search_document(document["input_text"], document["output_text"])
        return document

    def _identity(self, part: str) -> dict[str, Any]:
        source = self._sources.get(self._taken.get(part, self.row["span_id"]))
        # A value that an unknown span lent stays.
        return {column: self.row[column] for column in IDENTITY[part]} if source is None else source.values(part)

    def _content(self, part: str, contents: Mapping[tuple[str, str, str], asyncpg.Record]) -> dict[str, Any]:
        if part not in self._taken and part in inherited_of(self.row):
            return dict.fromkeys(columns_of([part]))
        span_id = self._taken.get(part, self.row["span_id"])
        report = self._sources.get(span_id)
        trace_id = report.place[0] if isinstance(report, OwnData) else self.row["trace_id"]
        stored = contents[self.row["project_id"], trace_id, span_id if report is not None else self.row["span_id"]]
        return {
            column: orjson.Fragment(stored[column]) if column in _JSON_CONTENT and stored[column] else stored[column]
            for column in columns_of([part])
        }


async def _contents(
    connection: asyncpg.Connection, changes: Sequence[_Change]
) -> dict[tuple[str, str, str], asyncpg.Record]:
    wanted = {(change.row["project_id"], *span) for change in changes for span in change.content_sources()}
    if not wanted:
        return {}
    columns = [list(column) for column in zip(*sorted(wanted), strict=True)]
    rows = await _fetch(connection, "read_span_contents", *columns)
    return {(row["project_id"], row["trace_id"], row["span_id"]): row for row in rows}


async def _read_identities(connection: asyncpg.Connection, changes: Sequence[_Change]) -> None:
    """Read the values of the spans between reports that lend to one of ``changes``."""
    lenders = {
        (change.row["project_id"], lender.trace_id, span_id): lender
        for change in changes
        for span_id, lender in change.lenders_above()
    }
    if lenders:
        columns = [list(column) for column in zip(*sorted(lenders), strict=True)]
        for row in await _fetch(connection, "read_lent_identities", *columns):
            lenders[row["project_id"], row["trace_id"], row["span_id"]].row = row


async def _fetch(connection: asyncpg.Connection, name: str, *arguments: Any) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await connection.fetch(statement(name), *arguments)
    return rows
