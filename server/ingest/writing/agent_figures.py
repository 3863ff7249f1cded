"""Adds counters of coding agents to the daily figures, each increase once."""

from __future__ import annotations

from collections.abc import Sequence

from server.ingest.mapping.agent_metrics import AgentCount
from server.storage.database import Database
from server.storage.statements import statement


async def store_agent_counts(database: Database, project_id: str, counts: Sequence[AgentCount]) -> None:
    """Add ``counts`` durably. A repeated point adds nothing. Raises the errors of :class:`Database`."""
    if not counts:
        return
    figures: dict[tuple[object, ...], float] = {}
    async with database.write([project_id]) as connection:
        await connection.execute(statement("forget_agent_counters"), project_id)
        for count in sorted(counts, key=lambda count: (count.counter_id, count.last_ns)):
            increase = await connection.fetchval(
                statement("note_agent_counter"),
                project_id, count.counter_id, count.start_ns, count.last_ns, count.value, count.is_delta,
            )  # fmt: skip
            if increase:
                key = (count.day, *count.dimensions)
                figures[key] = figures.get(key, 0.0) + increase
        rows = [(project_id, *key, value) for key, value in sorted(figures.items(), key=lambda item: str(item[0]))]
        await connection.executemany(statement("add_agent_figure"), rows)
