"""Weekly partitions of llm_traces, created ahead of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from server.storage.database import Database
from server.storage.statements import statement

WEEKS_AHEAD: Final = 4


async def ensure_partitions(worker: Database, now: datetime, past_days: int) -> list[str]:
    """Create the partitions from ``past_days`` ago to :data:`WEEKS_AHEAD` weeks ahead; return their names.

    Existing ones are left alone. The writer creates missing ones when it needs them; this only saves it the time.
    """
    names = []
    # From the week of the oldest moment on: retention would drop an older one, and it would be created again and again.
    for days in range(-past_days, 7 * (WEEKS_AHEAD + 1), 7):
        # One transaction each, because creating a partition locks the parent for a moment.
        async with worker.unscoped() as connection:
            names.append(await connection.fetchval(statement("ensure_partition"), now + timedelta(days=days)))
    return names
