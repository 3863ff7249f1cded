"""Planner statistics of young partitions of llm_traces, renewed until PostgreSQL does it by itself."""

from __future__ import annotations

from typing import Final

from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.statements import statement

EVERY_SECONDS: Final = 20.0


class PartitionStatistics:
    """Background work that analyzes the keys of partitions that have grown. One of several processes does it."""

    def __init__(self, worker: Database) -> None:
        """``worker`` must run as the role observatory_worker."""
        self._worker = worker
        self.task = PeriodicTask("partition statistics", self.renew, pause=EVERY_SECONDS)

    async def renew(self) -> int:
        """Analyze the partitions that have grown enough; return their number. Raises the database's errors."""
        async with self._worker.unscoped() as connection:
            return int(await connection.fetchval(statement("analyze_young_partitions")))
