"""Export jobs: taken by any server process, written in parts, continued by another process after a crash.

A part is a file of its own that is whole before the job says so; a process that dies in the middle of one loses
that part alone. While a process works on a job it says so every few seconds; a job that was not heard of for a
minute is taken by whoever looks next. After each part a job makes room for those of other projects that wait, and what
it reads and encodes counts for the projects that it is about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from server.errors import ApiError, DatabaseUnavailable
from server.export.export_answer import file_entries, file_name, summary
from server.export.export_files import ExportFiles
from server.export.export_run import ExportRun
from server.export.export_store import Export, ExportStore, Part
from server.export.formats import EncodingOptions
from server.fairness.party import Party, context_of, tenant_of
from server.periodic_task import PeriodicTask
from server.storage.database import Database
from server.telemetry.observations import ExportFinished, observe
from server.text.json_text import dumps

logger = logging.getLogger("observatory.export")

LOOK_EVERY: Final = 2.0
"""Seconds between two looks for a job."""
TIDY_EVERY: Final = 30
"""Number of looks between two removals of expired exports."""
HEARTBEAT_EVERY: Final = 10.0
REST_SECONDS: Final = 30.0
"""How long a job is left alone whose projects are on a node of the database that is away."""
PATIENCE_SECONDS: Final = 60.0
"""Seconds that a job waits for its projects' share of the database."""
PART_BYTES: Final = 256 << 20
"""About how large the rows of a part are before compression."""
MANIFEST: Final = "manifest.json"


class ExportJobs:
    """Background task of each server process that works on one job at a time."""

    def __init__(self, store: ExportStore, reads: Database, files: ExportFiles) -> None:
        self._store = store
        self._reads = reads
        self._files = files
        self._looks = 0
        self._resting: dict[str, float] = {}
        self.part_bytes = PART_BYTES
        self.task = PeriodicTask("exports", self._look, pause=LOOK_EVERY)
        """Once this process has stopped, another one continues its job after the last whole part."""

    async def work(self) -> bool:
        """Do one job if there is one. Raises what the database raises while looking."""
        now = time.monotonic()
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        export = await self._store.take_job(but=self._resting)
        if export is None:
            return False
        party = Party(tenant_of(export.projects), "export jobs", patience=PATIENCE_SECONDS)
        work = asyncio.create_task(self._write(export), context=context_of(party))
        heartbeat = asyncio.create_task(self._beat(export.export_id, work))
        is_over = True
        try:
            is_over = await work
        except asyncio.CancelledError:
            if not work.done() or (current := asyncio.current_task()) is None or current.cancelling():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                raise
            await self._files.delete(export.export_id)  # the job was cancelled, not this process
        except DatabaseUnavailable as error:
            is_over = not error.absent
            if is_over:
                await self._end(export, "failed", error.code)
            else:
                self._resting[export.export_id] = now + REST_SECONDS
        except ApiError as error:
            await self._end(export, "failed", error.code)
        except Exception:
            logger.exception("an export job failed", extra={"export_id": export.export_id})
            await self._end(export, "failed", "storage_failed")
        finally:
            heartbeat.cancel()
        if not is_over:
            await self._store.put_back(export.export_id)
        return True

    async def tidy(self) -> None:
        """Remove expired exports with their files, and call streams failed whose process is gone."""
        for export_id, kind in await self._store.expired():
            if kind == "job":
                await self._files.delete(export_id)
            await self._store.remove(export_id)
        await self._store.forget_expired()
        await self._store.fail_lost_streams()

    async def _look(self) -> None:
        while await self.work():
            pass
        if self._looks % TIDY_EVERY == 0:
            await self.tidy()
        self._looks += 1

    async def _beat(self, export_id: str, work: asyncio.Task[bool]) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY)
            with suppress(ApiError):
                if not await self._store.beat(export_id):
                    work.cancel()
                    return

    async def _write(self, export: Export) -> bool:
        """Write what is missing of ``export``, or a part of it if others wait; return whether it has ended."""
        parts = list(await self._store.parts(export.export_id))
        question = export.list_question()
        hidden = export.hidden_fields
        while not parts or parts[-1].position is not None:
            before = parts[-1] if parts else Part(number=0, row_count=0, byte_count=0, position=None)
            options = EncodingOptions(compression=export.compression, guard=export.options["guard"], trailer=False)
            run = ExportRun(
                self._reads,
                export.scope,
                replace(question, position=before.position),
                export.cut_at,
                export.format,
                options,
            )
            name = file_name(export, before.number + 1)
            end = _End()
            await self._files.write(export.export_id, name, _data(run, self.part_bytes, end))
            part = Part(
                number=before.number + 1,
                row_count=before.row_count + run.rows,
                byte_count=before.byte_count + run.size,
                position=end.position,
                file_name=name,
                sha256=run.sha256,
            )
            hidden = run.hidden_fields
            if not await self._store.advance(export.export_id, part, hidden):
                await self._files.delete(export.export_id)
                return True
            parts.append(part)
            if part.position is not None and await self._store.others_wait(export.export_id):
                return False
        whole = replace(
            export,
            state="complete",
            row_count=parts[-1].row_count,
            byte_count=parts[-1].byte_count,
            hidden_fields=hidden,
        )
        manifest = {**summary(whole), "files": file_entries(parts)}
        await self._files.write(export.export_id, MANIFEST, _once(dumps(manifest)))
        await self._end(whole, "complete", None)
        return True

    async def _end(self, export: Export, state: str, problem: str | None) -> None:
        parts = await self._store.parts(export.export_id)
        rows, size = (parts[-1].row_count, parts[-1].byte_count) if parts else (0, 0)
        observe(
            ExportFinished(
                export_id=export.export_id,
                kind="job",
                format=export.format,
                state=state,
                rows=rows,
                size=size,
                problem=problem or "",
            )
        )
        await self._store.finish(export.export_id, state, rows=rows, size=size, problem=problem)


class _End:
    """Where the list goes on after a part."""

    position: Any = None


async def _data(run: ExportRun, most_bytes: int, end: _End) -> AsyncIterator[bytes]:
    async for piece in run.pieces(most_bytes=most_bytes):
        end.position = piece.position
        yield piece.data


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
