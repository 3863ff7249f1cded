"""Weekly partitions of llm_traces, made ahead of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from server.storage.database import Database
from server.storage.statements import statement

WEEKS_AHEAD: Final = 4


async def ensure_partitions(worker: Database, now: datetime, past_days: int) -> list[str]:
    """Make the partitions from ``past_days`` ago to :data:`WEEKS_AHEAD` weeks ahead; gives their names.

    Those that exist are left alone. The writer makes others at need; this only keeps it from having to.
    """
    names = []
    # From the week of the oldest moment on: an older one would be dropped by retention, and made again, for ever.
    for days in range(-past_days, 7 * (WEEKS_AHEAD + 1), 7):
        # One transaction each: making a partition locks the parent for a moment.
        async with worker.unscoped() as connection:
            names.append(await connection.fetchval(statement("ensure_partition"), now + timedelta(days=days)))
    return names
