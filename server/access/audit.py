"""The audit log: actions and refused requests, in a table and as log lines.

An action is written at once, in the transaction that carries it out if there is one. Refusals can come by the ten
thousand, so equal ones within ten seconds become one row with a count, and the number of different rows in that time is
bounded too: none is missing from the count, and no flood fills the log or the disk. Each set of projects has a bound of
its own, so that nobody's flood hides what concerns others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg
import orjson

from server.access.principal import EVERY_PROJECT
from server.errors import ApiError
from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.storage.statements import statement

logger = logging.getLogger("observatory.audit")

FLUSH_SECONDS: Final = 10.0
MAX_GROUPS: Final = 50
"""Number of different refusals that are written one by one, for one set of projects or for unknown callers."""
MAX_GROUPS_IN_ALL: Final = 1000
MANY: Final = "many"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """An action that somebody performed or was refused. Holds no secret and no content."""

    action: str
    """``noun.verb``, such as ``api_key.create``; ``request`` for a refused request."""
    outcome: str = "done"
    reason: str | None = None
    actor: str | None = None
    actor_kind: str | None = None
    credential_id: str | None = None
    viewer: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    projects: tuple[str, ...] = ()
    """The projects that it is about: their admins may read it."""
    client_address: str | None = None
    request_id: str | None = None
    occurrences: int = 1
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def project_id(self) -> str | None:
        """The project, if there is only one."""
        return self.projects[0] if len(self.projects) == 1 and self.projects != (EVERY_PROJECT,) else None

    def row(self) -> tuple[Any, ...]:
        """Return the parameters of the statement ``insert_audit``."""
        return (
            self.action,
            self.outcome,
            self.reason,
            self.actor,
            self.actor_kind,
            self.credential_id,
            self.viewer,
            self.target_type,
            self.target_id,
            self.project_id,
            list(self.projects),
            self.client_address,
            self.request_id,
            self.occurrences,
            orjson.dumps(dict(self.detail), default=str).decode(),
        )


class AuditLog:
    """Writes audit events; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._groups: dict[tuple[str | None, ...], AuditEvent] = {}
        self._group_counts: Counter[tuple[str, ...]] = Counter()
        self.task = PeriodicTask("audit", self.flush, pause=FLUSH_SECONDS, runs_at_stop=True)
        self.lost_count = 0
        """Refusals that could not be written because the database stayed away."""

    async def record(self, event: AuditEvent, connection: asyncpg.Connection | None = None) -> None:
        """Write ``event`` now, through ``connection`` (and its transaction) if given."""
        _log(event)
        if connection is not None:
            await connection.execute(statement("insert_audit"), *event.row())
            return
        async with self._database.plain() as own:
            await own.execute(statement("insert_audit"), *event.row())

    def refused(self, event: AuditEvent) -> None:
        """Count a refusal; it is written with the next flush. Never waits, never fails."""
        name: tuple[str | None, ...] = (
            event.reason,
            event.actor,
            event.credential_id,
            event.client_address,
            event.target_id,
            *event.projects,
        )
        if name not in self._groups:
            if len(self._groups) >= MAX_GROUPS_IN_ALL:
                event = replace(event, projects=())
            if len(self._groups) >= MAX_GROUPS_IN_ALL or self._group_counts[event.projects] >= MAX_GROUPS:
                name = (event.reason, MANY, *event.projects)
                event = replace(
                    event,
                    actor=MANY,
                    credential_id=None,
                    viewer=None,
                    client_address=MANY,
                    target_id=None,
                    request_id=None,
                )
        known = self._groups.get(name)
        if known is None:
            self._groups[name] = event
            self._group_counts[event.projects] += 1
            _log(event)
        else:
            self._groups[name] = replace(known, occurrences=known.occurrences + 1)

    async def flush(self) -> None:
        """Write the refusals collected so far."""
        groups, self._groups = list(self._groups.values()), {}
        self._group_counts.clear()
        if not groups:
            return
        for event in groups:
            if event.occurrences > 1:
                _log(event)
        try:
            async with self._database.plain() as connection:
                await connection.executemany(statement("insert_audit"), [event.row() for event in groups])
        except ApiError as error:
            self.lost_count += sum(event.occurrences for event in groups)
            logger.warning("refusals could not be written", extra={"cause": error.code, "groups": len(groups)})


def _log(event: AuditEvent) -> None:
    fields = {
        name: value
        for name in AuditEvent.__dataclass_fields__
        if name not in ("detail", "action") and (value := getattr(event, name)) not in (None, ())
    }
    logger.info("audit %s", event.action, extra={"audit": {"action": event.action, **fields}})
