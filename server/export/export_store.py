"""Exports as rows: their owner, question, progress, and the places at which they can continue.

The tables have no row-level security (an export may span projects); each statement that shows something names the
owner instead.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from server.export.export_question import document_of, question_of
from server.queries.lists.cursor import decode_value, encode_value
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import ListQuestion
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

LOST_AFTER: Final = timedelta(seconds=60)
"""An export at work without news for this time has lost its process."""
EXPIRED_KEPT: Final = timedelta(days=30)
"""How long the owner of an export reads that it has expired."""
MOST_LISTED: Final = 200
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export, as it is stored."""

    export_id: str
    kind: str
    """``stream`` (the answer to one request) or ``job``."""
    state: str
    """queued, running, complete, failed or cancelled."""
    owner: str
    created_by: str
    projects: tuple[str, ...]
    may_read_content: bool
    format: str
    compression: str
    options: Mapping[str, Any]
    question: Mapping[str, Any]
    cut_at: datetime
    rows_before: int = 0
    row_count: int = 0
    byte_count: int = 0
    sha256: str | None = None
    hidden_fields: tuple[str, ...] = ()
    problem: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    expires_at: datetime

    @property
    def scope(self) -> RowScope:
        """The rows that the export may read: those that its owner could see when it was created."""
        return RowScope(self.projects, self.may_read_content)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is going to be added to it."""
        return self.state not in ("queued", "running")

    def list_question(self) -> ListQuestion:
        """Return the question, without a position."""
        return question_of(self.question, now=self.cut_at)

    @classmethod
    def of_row(cls, row: asyncpg.Record) -> Export:
        """Return the export in ``row``."""
        values = dict(row)
        values |= {name: tuple(values[name]) for name in ("projects", "hidden_fields")}
        values |= {name: orjson.loads(values[name]) for name in ("options", "question")}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ExpiredExport:
    """The rest of an export whose time is over."""

    projects: tuple[str, ...]
    may_read_content: bool
    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A place at which an export may go on: after ``row_count`` rows and ``byte_count`` bytes of it."""

    number: int
    row_count: int
    byte_count: int
    position: Position | None
    """None after the last row of the list."""
    file_name: str | None = None
    sha256: str | None = None


def new_export_id() -> str:
    """Return a new id: 100 random bits."""
    return "exp_" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def owner_key(identity: Mapping[str, Any]) -> str:
    """Return the key under which the exports of one caller are found; ``identity`` tells it from all others."""
    return hashlib.blake2b(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def new_export(question: ListQuestion, cut: datetime, keep: timedelta, **values: Any) -> Export:
    """Return a new export of ``question``, kept for ``keep``; it is not stored yet."""
    return Export(
        question=document_of(question),
        cut_at=cut,
        expires_at=datetime.now(UTC) + keep,
        **{"export_id": new_export_id(), **values},
    )


class ExportStore:
    """Reads and writes exports. Raises the errors of :mod:`server.storage.database`."""

    def __init__(self, writes: Database, worker: Database) -> None:
        """``writes`` runs as the role observatory_api, ``worker`` as observatory_worker."""
        self._writes = writes
        self._worker = worker

    async def add(self, export: Export, *, most_open: int | None = None) -> bool:
        """Store a new export. ``most_open``: number of jobs of its owner that may wait or be at work; returns False
        beyond that.
        """
        async with self._writes.write(()) as connection:
            if most_open is not None:
                await connection.execute(statement("lock_exports_of"), export.owner)
                if await connection.fetchval(statement("count_open_exports"), export.owner) >= most_open:
                    return False
            await connection.execute(
                statement("insert_export"),
                export.export_id,
                export.kind,
                export.state,
                export.owner,
                export.created_by,
                list(export.projects),
                export.may_read_content,
                export.format,
                export.compression,
                orjson.dumps(dict(export.options)).decode(),
                orjson.dumps(dict(export.question)).decode(),
                export.cut_at,
                export.rows_before,
                export.expires_at,
            )
        return True

    async def advance(self, export_id: str, part: Part, hidden_fields: Sequence[str]) -> bool:
        """Note that the export is as far as ``part``. False: it was cancelled or taken over, so stop."""
        position = None if part.position is None else orjson.dumps([encode_value(value) for value in part.position])
        async with self._writes.write(()) as connection:
            is_ours = await connection.fetchval(
                statement("advance_export"), export_id, part.row_count, part.byte_count, list(hidden_fields)
            )
            if is_ours is None:
                return False
            await connection.execute(
                statement("insert_export_part"),
                export_id,
                part.number,
                part.row_count,
                part.byte_count,
                None if position is None else position.decode(),
                part.file_name,
                part.sha256,
            )
        return True

    async def finish(
        self, export_id: str, state: str, *, rows: int, size: int, sha256: str | None = None, problem: str | None = None
    ) -> bool:
        """End the export. False: it had ended already."""
        async with self._writes.plain() as connection:
            ended = await connection.fetchval(statement("finish_export"), export_id, state, rows, size, sha256, problem)
        return ended is not None

    async def read(self, export_id: str, owners: Sequence[str]) -> Export | None:
        """Return the export if it is one of the ``owners``'."""
        async with self._writes.plain() as connection:
            row = await connection.fetchrow(statement("read_export"), export_id, list(owners))
        return None if row is None else Export.of_row(row)

    async def read_expired(self, export_id: str, owners: Sequence[str]) -> ExpiredExport | None:
        """Return the rest of an export of the ``owners`` whose time was over at most :data:`EXPIRED_KEPT` ago."""
        async with self._writes.plain() as connection:
            row = await connection.fetchrow(statement("read_expired_export"), export_id, list(owners))
        return (
            None if row is None else ExpiredExport(tuple(row["projects"]), row["may_read_content"], row["expired_at"])
        )

    async def newest(self, owners: Sequence[str]) -> list[Export]:
        """Return the owners' exports, newest first, at most :data:`MOST_LISTED`."""
        async with self._writes.plain() as connection:
            rows = await connection.fetch(statement("list_exports"), list(owners), MOST_LISTED)
        return [Export.of_row(row) for row in rows]

    async def known(self, export_ids: Sequence[str]) -> set[str]:
        """Return those of ``export_ids`` that exist."""
        async with self._writes.plain() as connection:
            rows = await connection.fetch(statement("list_known_exports"), list(export_ids))
        return {row["export_id"] for row in rows}

    async def parts(self, export_id: str) -> Sequence[Part]:
        """Return every part, in order."""
        async with self._writes.plain() as connection:
            rows = await connection.fetch(statement("list_export_parts"), export_id)
        return [_part(row) for row in rows]

    async def last_part(self, export_id: str, size: int) -> Part | None:
        """Return the last part within the first ``size`` bytes."""
        async with self._writes.plain() as connection:
            row = await connection.fetchrow(statement("last_export_part"), export_id, size)
        return None if row is None else _part(row)

    async def take_job(self, *, but: Collection[str] = ()) -> Export | None:
        """Take a job that waits, or that lost its process; none of ``but``."""
        async with self._writes.plain() as connection:
            row = await connection.fetchrow(statement("take_export_job"), LOST_AFTER, list(but))
        return None if row is None else Export.of_row(row)

    async def others_wait(self, export_id: str) -> bool:
        """Return whether jobs of other projects wait for their turn."""
        async with self._writes.plain() as connection:
            return bool(await connection.fetchval(statement("others_wait_for_export"), export_id))

    async def put_back(self, export_id: str) -> None:
        """Let the job wait for its next turn."""
        async with self._writes.plain() as connection:
            await connection.execute(statement("put_export_back"), export_id)

    async def beat(self, export_id: str) -> bool:
        """Say that a process works on the job. False: it was cancelled or taken over."""
        async with self._writes.plain() as connection:
            return await connection.fetchval(statement("beat_export"), export_id) is not None

    async def cancel(self, export_id: str, owner: str) -> bool:
        """Cancel the owner's export. False: there is none at work."""
        async with self._writes.plain() as connection:
            return await connection.fetchval(statement("cancel_export"), export_id, owner) is not None

    async def expired(self) -> list[tuple[str, str]]:
        """Return id and kind of exports whose time is over, or one of whose projects is gone."""
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("cancel_exports_of_deleted_projects"))
            rows = await connection.fetch(statement("list_expired_exports"))
        return [(row["export_id"], row["kind"]) for row in rows]

    async def remove(self, export_id: str) -> None:
        """Forget an export with its parts; if its time is over, keep that it was there."""
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("delete_export"), export_id)

    async def forget_expired(self) -> None:
        """Forget exports whose time was over long ago, and those of deleted projects."""
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("forget_expired_exports"), EXPIRED_KEPT)

    async def fail_lost_streams(self) -> None:
        """Call streams failed whose process is gone."""
        async with self._worker.unscoped() as connection:
            await connection.execute(statement("fail_lost_streams"), LOST_AFTER)


def _part(row: asyncpg.Record) -> Part:
    position = None if row["position"] is None else tuple(decode_value(v) for v in orjson.loads(row["position"]))
    return Part(
        number=row["number"],
        row_count=row["row_count"],
        byte_count=row["byte_count"],
        position=position,
        file_name=row["file_name"],
        sha256=row["sha256"],
    )
