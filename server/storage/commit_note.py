"""Whether the work of a request has reached a COMMIT: from then on it may be durable, whatever becomes of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class CommitNote:
    """The note of one request."""

    is_begun: bool = False
    """Whether a COMMIT was sent."""


commit_note: ContextVar[CommitNote | None] = ContextVar("commit_note", default=None)
"""The note of the current work, where somebody wants to know."""
