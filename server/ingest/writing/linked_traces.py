"""Traces that hold reports of one call between them, told by the vendor's id of the answer.

An instrumentation that does not make its span current, round a client that traces itself, makes two traces of one call;
a client and a vendor may do so too. Each batch notes the ids of its answers, in one statement. A note that names more
than one trace links them, and their calls are counted together (:mod:`server.ingest.writing.stored_counts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from server.ingest.counting.call_counting import MOST_VIEWS
from server.ingest.writing.prepared_span import PreparedSpan
from server.storage.statements import statement

TraceKey = tuple[str, str]
"""Project and trace."""

_MOST_LINKED: Final = 64
"""Traces that hang together by more and more answers are not followed further than this."""


class LinkedTraces:
    """The links of the traces of one batch."""

    def __init__(self, batch: Iterable[PreparedSpan]) -> None:
        self._answers = sorted(
            {(span.project_id, span.response_id, span.trace_id) for span in batch if span.response_id}
        )
        self._leads: dict[TraceKey, TraceKey] = {}
        self._noted: set[TraceKey] = set()
        self.parted: set[TraceKey] = set()
        """Traces that were linked by an id that has turned out to mean nothing."""

    async def note(self, connection: asyncpg.Connection) -> None:
        """Note the answers of the batch, and find the traces that they link now. Waits for others who note the same,
        and so comes before anything of the batch is stored.
        """
        self._leads, self._noted, self.parted = {}, set(), set()
        if not self._answers:
            return
        columns = [list(column) for column in zip(*self._answers, strict=True)]
        for row in await connection.fetch(statement("note_responses"), *columns, MOST_VIEWS):
            traces = {(row["project_id"], trace_id) for trace_id in row["traces"]}
            self._noted |= traces
            if len(traces) > MOST_VIEWS:
                self.parted |= traces

    async def follow(self, connection: asyncpg.Connection, flagged: set[TraceKey]) -> set[TraceKey]:
        """Return the traces whose calls are to be counted together with others, and lock them. ``flagged``: those of
        the batch that are known to be linked.
        """
        found: set[TraceKey] = set()
        further = flagged | self._noted
        while further and len(found) < _MOST_LINKED:
            found |= further
            columns = _columns(further)
            await connection.fetch(statement("link_traces"), *columns)
            further = set()
            for row in await connection.fetch(statement("list_linked_traces"), *columns, MOST_VIEWS):
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
