"""The repeated decision which stored spans count, if a trace comes in pieces.

The spans of one request are counted before they are stored. When others of their trace are there already, from another
request or another server, the decision is made over all of them, in the transaction that stores the new ones. It comes
after the trace's summary was written, which locks it: of two writers the second sees what the first has committed, so
that the end is the same in any order. A trace with at most one span that counts has nothing to decide and is not read,
unless it is linked with another (:mod:`server.ingest.writing.linked_traces`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from server.ingest.mapping.call_counting import Decision, SpanView, decide_counts
from server.ingest.mapping.call_identity import CONTENT, IDENTITY, columns_of, has_part, inheritance
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.linked_traces import LinkedTraces, TraceKey
from server.ingest.writing.prepared_span import DIMENSIONS, PreparedSpan
from server.queries.filters.search_text import search_document
from server.storage.statements import statement
from server.text.instants import EPOCH

_MICROSECOND: Final = timedelta(microseconds=1)
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
        reports: dict[TraceKey, list[asyncpg.Record]] = {}
        between: dict[TraceKey, list[asyncpg.Record]] = {}
        for name, groups in (("list_reports_to_count", reports), ("list_spans_between", between)):
            for row in await _fetch(connection, name, *columns):
                groups.setdefault(self._links.leader((row["project_id"], row["trace_id"])), []).append(row)
        changed = []
        for key in sorted(reports):
            changed += self._decide(reports[key], between.get(key, ()))
        if not changed:
            return False
        documents = await self._documents(connection, changed)
        for row in (change.row for change in changed):
            self.settled.setdefault(row["project_id"], []).append((row["ts"], row["trace_id"]))
        await _fetch(connection, "store_counts", orjson.dumps(documents).decode())
        return True

    def _decide(self, rows: Sequence[asyncpg.Record], between: Iterable[asyncpg.Record]) -> list[_Change]:
        """Return the changes among the reports of one trace, or of several that are linked."""
        # What was counted in another trace, when they were linked, does not concern this one any more.
        ids = {row["span_id"] for row in rows}
        is_parted = not self._links.parted.isdisjoint((row["project_id"], row["trace_id"]) for row in rows)
        rows = [row for row in rows if is_parted or row["counted_in"] is None or row["counted_in"] in ids]
        by_id = {row["span_id"]: row for row in rows}
        decisions = decide_counts([*map(_report, rows), *_spans_between(between)])
        own = {span_id: _Own(row) for span_id, row in by_id.items()}
        traces = {row["trace_id"] for row in rows}
        came = {span.key[2] for span in self._batch if span.key[1] in traces}
        changes = []
        for span_id, decision in decisions.items():
            row = by_id[span_id]
            taken = inheritance(span_id, decision, lambda span_id, part: own[span_id].has(part))
            is_taken_anew = taken != own[span_id].inherited or (bool(taken) and not came.isdisjoint(taken.values()))
            is_decided_anew = (decision.counts, decision.rule, decision.counted_in) != (
                row["is_generation"], row["count_rule"], row["counted_in"],
            )  # fmt: skip
            if is_taken_anew or is_decided_anew:
                changes.append(_Change(row, decision, taken, own, is_taken_anew))
        return changes

    async def _documents(self, connection: asyncpg.Connection, changes: Sequence[_Change]) -> list[dict[str, Any]]:
        """Return the objects that store_counts takes."""
        contents = await _contents(connection, changes)
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


class _Own:
    """The own data of a stored report, without the parts it took from others."""

    __slots__ = ("_row", "inherited")

    def __init__(self, row: asyncpg.Record) -> None:
        self._row = row
        self.inherited: dict[str, str] = orjson.loads(row["inherited"]) if row["inherited"] else {}

    def has(self, part: str) -> bool:
        if part in self.inherited:
            return False
        if part in CONTENT:
            has: bool = self._row[f"has_{part}"]
            return has
        return has_part(self._row.__getitem__, part)

    def values(self, part: str) -> dict[str, Any]:
        """Return the columns of a part of the identity, empty where it is not its own."""
        columns = IDENTITY[part]
        if part in self.inherited:
            return {column: [] if column == "tags" else None for column in columns}
        return {column: self._row[column] for column in columns}


class _Change:
    """A decision that differs from the stored one."""

    __slots__ = ("_decision", "_own", "_taken", "is_taken_anew", "row")

    def __init__(
        self,
        row: asyncpg.Record,
        decision: Decision,
        taken: Mapping[str, str],
        own: Mapping[str, _Own],
        is_taken_anew: bool,
    ) -> None:
        self.row = row
        self._decision = decision
        self._taken = taken
        self._own = own
        self.is_taken_anew = is_taken_anew

    @property
    def takes_content(self) -> bool:
        """Whether its words change."""
        parts = {*self._taken, *self._own[self.row["span_id"]].inherited}
        return self.is_taken_anew and not parts.isdisjoint(CONTENT)

    def readers(self) -> Iterable[tuple[str, str, datetime]]:
        """Return the spans whose words are needed, with their traces and starts."""
        if self.takes_content:
            for span_id in (self.row["span_id"], *(self._taken[part] for part in CONTENT if part in self._taken)):
                row = self._own[span_id]._row
                yield row["trace_id"], span_id, row["ts"]

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
            "takes_identity": self.is_taken_anew,
            "takes_content": self.takes_content,
        }
        if self.is_taken_anew:
            for part in IDENTITY:
                document.update(self._own[self._taken.get(part, row["span_id"])].values(part))
        if self.takes_content:
            for part in CONTENT:
                document.update(self._words(part, contents))
            if full_text:
                document["search_text"] = search_document(document["input_text"], document["output_text"])
        return document

    def _words(self, part: str, contents: Mapping[tuple[str, str, str], asyncpg.Record]) -> dict[str, Any]:
        source = self._taken.get(part, self.row["span_id"])
        if part not in self._taken and part in self._own[source].inherited:
            return dict.fromkeys(columns_of([part]))
        stored = contents[self.row["project_id"], self._own[source]._row["trace_id"], source]
        return {
            column: orjson.Fragment(stored[column]) if column in _JSON_CONTENT and stored[column] else stored[column]
            for column in columns_of([part])
        }


async def _contents(
    connection: asyncpg.Connection, changes: Sequence[_Change]
) -> dict[tuple[str, str, str], asyncpg.Record]:
    wanted = {(change.row["project_id"], *span) for change in changes for span in change.readers()}
    if not wanted:
        return {}
    columns = [list(column) for column in zip(*sorted(wanted), strict=True)]
    rows = await _fetch(connection, "read_span_contents", *columns)
    return {(row["project_id"], row["trace_id"], row["span_id"]): row for row in rows}


async def _fetch(connection: asyncpg.Connection, name: str, *arguments: Any) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await connection.fetch(statement(name), *arguments)
    return rows


def _report(row: asyncpg.Record) -> SpanView:
    start_us = (row["ts"] - EPOCH) // _MICROSECOND
    return SpanView(
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        start_us=start_us,
        end_us=start_us + round(row["duration_ms"] * 1000),
        operation=row["operation_type"],
        kind=row["span_kind"],
        reports=True,
        model=row["model"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        total_tokens=row["total_tokens"],
        has_cost=row["has_cost"],
        response_id=row["response_id"],
        scope=row["scope"],
        is_billed=row["is_billed"],
    )


def _spans_between(rows: Iterable[asyncpg.Record]) -> Iterable[SpanView]:
    """Return the spans that report nothing; where and when they were is not asked for."""
    for row in rows:
        for span_id, parent, operation in zip(row["span_ids"], row["parents"], row["operations"], strict=True):
            yield SpanView(span_id, parent, 0, 0, operation, "internal", reports=False)
