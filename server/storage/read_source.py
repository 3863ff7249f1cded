"""The source of an answer's rows: primary or replica, how old they are, and whether they are of one moment."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class ReadSource:
    """The sources of the rows of one answer; empty on one PostgreSQL without read replicas."""

    is_from_replica: bool = False
    is_from_primary: bool = False
    stale_seconds: float = 0.0
    """An upper bound of the rows' age in seconds: everything committed earlier than that before the question is in the
    answer.
    """

    is_one_snapshot: bool = True
    """False: several nodes have answered, each as of its own moment."""

    def note_primary(self) -> None:
        """Note a read of the primary, which is never stale."""
        self.is_from_primary = True

    def note_replica(self, stale_seconds: float) -> None:
        """Note a read of a replica that may lack the last ``stale_seconds``."""
        self.is_from_replica = True
        self.stale_seconds = max(self.stale_seconds, stale_seconds)

    @property
    def is_current(self) -> bool:
        """Whether the answer has everything that was committed before it was asked for."""
        return self.stale_seconds <= 0

    def meta(self) -> dict[str, Any]:
        """Return the members for ``meta``."""
        snapshot = {} if self.is_one_snapshot else {"one_snapshot": False}
        if not (self.is_from_replica or self.is_from_primary):
            return snapshot
        source = "replica" if self.is_from_replica else "primary"
        return {"read_from": source, "stale_seconds": round(self.stale_seconds, 3), **snapshot}


read_source: ContextVar[ReadSource | None] = ContextVar("read_source", default=None)
"""The note of the current request, or of the computation of an answer that several requests share."""
