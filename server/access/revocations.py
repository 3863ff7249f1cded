"""Revoked tokens and disabled clients, the same in every process within seconds.

One background task per process reads a version number every two seconds. If it changed, the task reads the lists again
and drops all cached verdicts. The database is the truth and the only bus: a process that was cut off for a while is
right again after its next check.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from server.access.signing_keys import SigningKeys
from server.access.subjects import client_subject
from server.periodic_task import PeriodicTask
from server.settings import SettingsError
from server.storage.database import Database
from server.storage.statements import statement

logger = logging.getLogger("observatory.access")

LOOK_SECONDS: Final = 2.0
_QUIET_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class BareClient:
    """A client that was disabled before subjects had namespaces (migration 0013)."""

    role: str
    projects: frozenset[str]
    since: datetime
    until: datetime

    def has_issued(self, subject: str, claims: Mapping[str, Any]) -> bool:
        """Return whether a token is this client's: a client's token says just what the client was registered with, so a
        token of the command line that shares the name is still told apart unless it opens the very same.
        """
        return (
            subject == claims.get("client_id")
            and claims["role"] == self.role
            and frozenset(claims["projects"]) == self.projects
            and self.since.timestamp() - 1 <= claims["iat"] <= self.until.timestamp()
        )


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Credentials that are refused although signature and expiry are good."""

    tokens: frozenset[tuple[str, str]] = frozenset()
    """(issuer, jti)"""
    subjects: frozenset[str] = frozenset()
    """Disabled clients, as subjects: their tokens and the keys they own."""
    bare_clients: Mapping[str, BareClient] = field(default_factory=dict)
    """Disabled clients by id. A token whose subject is a bare client id may belong to one of them."""

    def reason_against(self, subject: str, claims: Mapping[str, Any]) -> str | None:
        """Return why the verified token of ``subject`` with these ``claims`` is refused; None if it is good."""
        if (claims["iss"], claims.get("jti", "")) in self.tokens:
            return "revoked"
        if subject in self.subjects:
            return "client_disabled"
        bare = self.bare_clients.get(subject)
        return "client_disabled" if bare is not None and bare.has_issued(subject, claims) else None


class AccessState:
    """Keeps :class:`TakenBack` and the signing keys up to date."""

    def __init__(self, database: Database, keys: SigningKeys, *, leeway: int) -> None:
        self._database = database
        self._keys = keys
        self._leeway = leeway
        self._version: int | None = None
        self._complained_at = float("-inf")
        self._listeners: list[Callable[[], None]] = []
        self.taken_back = TakenBack()
        self.task = PeriodicTask("revocations", self.look, pause=LOOK_SECONDS)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever earlier verdicts may have become wrong."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Check now, after a change made by this process. Raises the database's errors."""
        async with self._database.plain() as connection:
            version = await connection.fetchval(statement("read_access_version"))
            if version == self._version:
                return
            alive_after = datetime.now(UTC) - timedelta(seconds=self._leeway)
            tokens = await connection.fetch(statement("list_revoked_tokens"), alive_after)
            clients = await connection.fetch(statement("list_disabled_clients"))
        self.taken_back = TakenBack(
            frozenset((row["issuer"], row["jti"]) for row in tokens),
            frozenset(client_subject(row["client_id"]) for row in clients),
            {
                row["client_id"]: BareClient(
                    row["role"], frozenset(row["projects"]), row["created_at"], row["bare_subject_until"]
                )
                for row in clients
                if row["bare_subject_until"] is not None
            },
        )
        # Only now: if the lists were unreadable, the next check must try again.
        self._version = version
        self._tell()

    async def look(self) -> None:
        """Take up changed keys and revocations. While the database is away, the last known ones count."""
        self.reload_keys()
        await self.refresh()

    def reload_keys(self) -> None:
        """Load a changed key file. A broken one leaves the present keys in force and is logged."""
        try:
            if self._keys.reload():
                logger.info("signing keys changed")
                self._tell()
        except SettingsError as error:
            if time.monotonic() - self._complained_at > _QUIET_SECONDS:
                self._complained_at = time.monotonic()
                logger.warning("signing keys cannot be read again", extra={"cause": str(error)})

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
