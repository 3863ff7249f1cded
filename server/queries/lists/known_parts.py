"""Parts that this process read a moment ago. A part never changes, since its id is a hash of it, and the newest spans,
which are asked for again and again, share most of theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from server.queries.records.message_text import text_of_parts
from server.storage.statements import statement

KEPT_SECONDS: Final = 60.0
"""Longest time for which a part is kept, even if it is deleted meanwhile: then no row leads to it any more."""
KEPT_CHARACTERS: Final = 4 << 20
"""Most characters of JSON that are kept in all: about 10 MB of memory."""

Week = tuple[str, datetime]
"""A project and the start of a week."""
Part = tuple[Any, str | None, str]
"""A message, an attribute as an object of one member, or the attributes of a resource (None for a text alone);
the role; the text without it. Rows of many answers share it, so nobody may change it.
"""


class KnownParts:
    """Parts by project, week and id. All are forgotten at once, when they are too old or too many."""

    def __init__(self, seconds: float = KEPT_SECONDS, characters: int = KEPT_CHARACTERS) -> None:
        self._seconds, self._most = seconds, characters
        self._weeks: dict[Week, dict[UUID, Part]] = {}
        self._characters = 0
        self._until = 0.0

    def of(self, week: Week) -> dict[UUID, Part]:
        """Return the parts of ``week`` that are kept. Whoever adds some says so to :meth:`grew`."""
        now = time.monotonic()
        if now >= self._until:
            self._forget()
            self._until = now + self._seconds
            # Without further questions, too.
            asyncio.get_running_loop().call_later(self._seconds + 0.1, self._forget_old)
        return self._weeks.setdefault(week, {})

    def grew(self, characters: int) -> None:
        """Count parts that were added."""
        self._characters += characters
        if self._characters > self._most:
            self._forget()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._weeks

    def _forget(self) -> None:
        self._weeks, self._characters = {}, 0

    def _forget_old(self) -> None:
        if time.monotonic() >= self._until:
            self._forget()


async def read_parts(connection: asyncpg.Connection, week: Week, ids: Sequence[UUID], found: dict[UUID, Part]) -> int:
    """Add the parts ``ids`` of ``week`` to ``found``; return the length of their JSON."""
    rows = await connection.fetch(statement("read_content_parts"), *week, ids)
    # At once, and without a function for each: calls take as long as the reading of a short message.
    text = f"[{','.join([row[1] for row in rows])}]"
    for (part, _, own), body in zip(rows, orjson.loads(text), strict=True):
        if isinstance(body, str):
            found[part] = None, None, body
        elif len(body) == 1:  # an attribute; a message has a role and parts
            found[part] = body, None, ""
        else:
            found[part] = body, body["role"], text_of_parts(body["parts"]) if own is None else own
    return len(text)
