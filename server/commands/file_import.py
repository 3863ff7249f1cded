"""Upload of another tool's export: the work of ``llm-observatory import``.

Spans are sent over OTLP, as by any sender, so that prices, redaction and limits are the same; scores go through the
REST API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from server.commands.file_ingest import FileProgress, answered, send
from server.commands.otlp_files import BYTES_A_REQUEST, ITEMS_A_REQUEST, JSON, TRACES, FileRequest
from server.imports.export_reader import ExportReader, Item
from server.imports.import_format import import_format
from server.text.json_text import dumps

_SCORES_A_REQUEST: Final = 500


@dataclass(slots=True)
class ImportOutcome:
    """Counts of an import. ``skipped`` rows could not be read, ``rejected`` items were refused by the server."""

    spans: int = 0
    scores: int = 0
    skipped: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def skip(self, file: Path, place: str, reason: str) -> None:
        """Count a row that is left out, with the reason."""
        self.skipped += 1
        self.reasons.append(f"{file}, {place}: {reason}")


async def import_files(
    tool: str, files: Sequence[Path], *, base_url: str, token: str, project: str, service: str | None = None
) -> ImportOutcome:
    """Send ``files``, an export of ``tool``, to the server at ``base_url``; return the counts.

    Raises UnreadableFileError for a file of unknown form, and :class:`FileIngestError` for an error that a retry would
    not mend.
    """
    outcome = ImportOutcome()
    reader = ExportReader(import_format(tool), files, outcome.skip)
    headers = {"Authorization": f"Bearer {token}", "X-Observatory-Project": project}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
        upload = _Upload(client, project, service, f"{tool}-import", outcome)
        iterator = reader.items()
        while (item := await asyncio.to_thread(next, iterator, None)) is not None:
            await upload.add(item)
        await upload.finish()
    return outcome


@dataclass(slots=True)
class _Upload:
    """Spans and scores that wait until there are enough for a request."""

    client: httpx.AsyncClient
    project: str
    service: str | None
    default_service: str
    outcome: ImportOutcome
    spans: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    span_bytes: int = 0
    scores: list[dict[str, Any]] = field(default_factory=list)
    file: Path = Path()

    async def add(self, item: Item) -> None:
        self.file = item.file
        if item.span is not None:
            size = len(dumps(item.span))
            if self.spans and self.span_bytes + size > BYTES_A_REQUEST:
                await self.send_spans()
            self.spans.append((self.service or item.service or self.default_service, item.span))
            self.span_bytes += size
            if len(self.spans) >= ITEMS_A_REQUEST:
                await self.send_spans()
        if item.score is not None:
            self.scores.append(item.score)
            if len(self.scores) >= _SCORES_A_REQUEST:
                await self.send_scores()

    async def finish(self) -> None:
        await self.send_spans()
        await self.send_scores()

    async def send_spans(self) -> None:
        if not self.spans:
            return
        by_service: dict[str, list[dict[str, Any]]] = {}
        for service, span in self.spans:
            by_service.setdefault(service, []).append(span)
        resources = [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeSpans": [{"scope": {"name": "observatory.import"}, "spans": spans}],
            }
            for service, spans in by_service.items()
        ]
        progress = FileProgress(self.file, 0, 0)
        body = dumps({"resourceSpans": resources})
        await send(self.client, FileRequest(TRACES, JSON, body, len(self.spans), 0), progress)
        self.outcome.spans += len(self.spans) - progress.rejected
        self.outcome.rejected += progress.rejected
        self.outcome.reasons += progress.reasons
        self.spans, self.span_bytes = [], 0

    async def send_scores(self) -> None:
        if not self.scores:
            return
        # If a request has two scores with one id, the later one counts.
        batch = list({score["score_id"]: score for score in self.scores}.values())
        await answered(
            str(self.file),
            lambda: self.client.post(
                "/api/v1/scores/batch",
                params={"project_id": self.project},
                content=dumps({"scores": batch}),
                headers={"Content-Type": "application/json"},
            ),
        )
        self.outcome.scores += len(batch)
        self.scores = []
