"""The part of ``projects.settings`` that ingestion reads, cached for a few seconds.

    {"ingest":    {"spans_per_minute": 100000, "bytes_per_minute": 0},
     "redaction": {"rules": [{"find": "email", "action": "mask"}]}}

A change is in force in every process within :data:`FRESH_SECONDS`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.errors import ProjectMisconfigured
from server.ingest.redaction.redaction_rules import InvalidRule, Redactor, redactor_of
from server.storage.database import Database
from server.storage.statements import statement

FRESH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """A project's settings for ingestion. Rates are per minute, 0 for no limit, None for the server's default."""

    spans_per_minute: int | None
    bytes_per_minute: int | None
    redactor: Redactor | None


class ProjectSettings:
    """Reads the settings of projects, with one statement every few seconds per project."""

    def __init__(self, database: Database, *, redaction_key: bytes) -> None:
        """``redaction_key``: key of the hashes that redacted values are replaced with if a rule says so."""
        self._database = database
        self._redaction_key = redaction_key
        self._known: dict[str, tuple[float, bytes, IngestSettings]] = {}
        """By project: when its settings were read, their text, and the parsed settings."""

    async def of(self, project_id: str) -> IngestSettings:
        """Return the settings of ``project_id``. Raises the errors of :class:`Database`, and ProjectMisconfigured if
        its redaction rules are invalid: then nothing may be stored unredacted.
        """
        known = self._known.get(project_id)
        if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
            return known[2]
        async with self._database.plain() as connection:
            raw = await connection.fetchval(statement("project_ingest_settings"), project_id)
        text = (raw or "{}").encode()
        if known is not None and known[1] == text:
            settings = known[2]
        else:
            try:
                settings = parse_ingest_settings(orjson.loads(text), self._redaction_key)
            except InvalidRule as error:
                raise ProjectMisconfigured() from error
        self._known[project_id] = (time.monotonic(), text, settings)
        return settings

    def forget(self, project_id: str) -> None:
        """Read the settings of ``project_id`` again at the next use: call after a change."""
        self._known.pop(project_id, None)


def parse_ingest_settings(document: Any, redaction_key: bytes) -> IngestSettings:
    """Parse the settings in a project's settings document. Raises :class:`InvalidRule`."""
    ingest = document.get("ingest") if isinstance(document, dict) else None
    redaction = document.get("redaction") if isinstance(document, dict) else None
    rates = ingest if isinstance(ingest, dict) else {}
    return IngestSettings(
        spans_per_minute=_rate(rates.get("spans_per_minute")),
        bytes_per_minute=_rate(rates.get("bytes_per_minute")),
        redactor=redactor_of(redaction, redaction_key) if redaction else None,
    )


def _rate(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
