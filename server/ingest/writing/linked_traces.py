"""Traces that hold reports of one call between them, told by the vendor's id of the answer or by the moment at which
it came (:mod:`server.ingest.mapping.call_links`).

An instrumentation that does not make its span current, round a client that traces itself, makes two traces of one call;
a client and a vendor may do so too. Each batch notes the ids of its answers, in one statement. A note that names more
than one trace links them, and their calls are counted together (:mod:`server.ingest.writing.stored_counts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg

from server.ingest.counting.call_counting import MOST_LINKED, MOST_VIEWS
from server.ingest.writing.prepared_span import PreparedSpan
from server.storage.statements import statement

TraceKey = tuple[str, str]
"""Project and trace."""


class LinkedTraces:
    """The links of the traces of one batch."""

    def __init__(self, batch: Sequence[PreparedSpan]) -> None:
        self._answers = sorted(
            {(span.project_id, span.response_id, span.trace_id) for span in batch if span.response_id}
        )
        self._moments = sorted({(span.project_id, moment, span.trace_id) for span in batch for moment in span.moments})
        self._leads: dict[TraceKey, TraceKey] = {}
        self._noted: set[TraceKey] = set()
        self.parted: set[TraceKey] = set()
        """Traces that were linked by an id that has turned out to mean nothing."""

    async def note(self, connection: asyncpg.Connection) -> None:
        """Note the answers of the batch, and find the traces that they link now. Waits for others who note the same,
        and so comes before anything of the batch is stored.
        """
        self._leads, self._noted, self.parted = {}, set(), set()
        if self._answers:
            await self._note_answers(connection)
        if self._moments:
            await self._note_moments(connection)

    async def _note_answers(self, connection: asyncpg.Connection) -> None:
        columns = [list(column) for column in zip(*self._answers, strict=True)]
        for row in await connection.fetch(statement("note_responses"), *columns, MOST_VIEWS):
            traces = {(row["project_id"], trace_id) for trace_id in row["traces"]}
            self._noted |= traces
            if len(traces) > MOST_VIEWS:
                self.parted |= traces

    async def _note_moments(self, connection: asyncpg.Connection) -> None:
        """Note the moments, and for each trace the others: stored spans do not tell their moments any more."""
        columns = [list(column) for column in zip(*self._moments, strict=True)]
        pairs = set()
        for row in await connection.fetch(statement("note_responses"), *columns, MOST_LINKED):
            traces = row["traces"]
            if len(traces) <= MOST_LINKED:
                self._noted |= {(row["project_id"], trace_id) for trace_id in traces}
                pairs |= {(row["project_id"], f"linked {one}", other) for one in traces for other in traces}
        if pairs:
            columns = [list(column) for column in zip(*sorted(pairs), strict=True)]
            await connection.fetch(statement("note_responses"), *columns, MOST_LINKED)

    async def follow(self, connection: asyncpg.Connection, flagged: set[TraceKey]) -> set[TraceKey]:
        """Return the traces whose calls are to be counted together with others, and lock them. ``flagged``: those of
        the batch that are known to be linked.
        """
        found: set[TraceKey] = set()
        further = flagged | self._noted
        while further and len(found) < MOST_LINKED:
            found |= further
            columns = _columns(further)
            await connection.fetch(statement("link_traces"), *columns)
            further = set()
            for row in await connection.fetch(statement("list_linked_traces"), *columns, MOST_VIEWS, MOST_LINKED):
                traces = [(row["project_id"], trace_id) for trace_id in row["traces"]]
                for trace in traces[1:]:
                    self._leads[self.leader(trace)] = self.leader(traces[0])
                further.update(set(traces) - found)
        return found

    def leader(self, trace: TraceKey) -> TraceKey:
        """Return the trace that stands for all that ``trace`` is linked with."""
        while (above := self._leads.get(trace, trace)) != trace:
            trace = above
        return trace


def _columns(traces: Iterable[TraceKey]) -> Sequence[list[str]]:
    return [list(column) for column in zip(*sorted(traces), strict=True)]
