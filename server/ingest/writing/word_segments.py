"""Segments of words: who has a word, for all the parts that were stored together.

A transaction that stores parts stores their words as a segment of each project and week. A search reads a block of each
segment, so small ones are put together, eight of about the same size at a time, up to some ten thousand parts. So the
words of a part are written some three or four times in all, each time less than the part itself. To take out the words
of a part that was removed, its segment is written again, once for all that were removed within a minute.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import numpy as np

from server.periodic_task import PeriodicTask
from server.queries.filters.word_postings import ID_BYTES, Postings, blocks_of, joined, merged
from server.queries.filters.word_postings import Block as Packed
from server.storage.database import Database
from server.storage.statements import statement

TOGETHER: Final = 8
"""How many segments of about the same size become one."""
LARGEST: Final = 32_768
"""Parts from which on a segment stays as it is: to take a part out means to write its segment again."""
PAUSE_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
"""After this time segments of other processes are looked for."""

Week = tuple[str, datetime]
"""A project, and the start of a week."""
Block = tuple[str, datetime, int, str, bytes]
"""Project, week, number of the segment, first word, and data."""
Mask = np.ndarray[Any, np.dtype[np.bool_]]


async def store_segments(connection: asyncpg.Connection, words: Mapping[Week, Sequence[tuple[UUID, str]]]) -> int:
    """Store a segment for each project and week of ``words``, which are ids of parts with their documents, in the
    transaction of ``connection``; return how many.
    """
    blocks: list[Block] = []
    for week, parts in words.items():
        ids = b"".join(part_id.bytes for part_id, _ in parts)
        blocks += _blocks(week, ids, Postings.of([document for _, document in parts]))
    await _store(connection, blocks)
    return len(words)


def _blocks(week: Week, ids: bytes, postings: Postings) -> list[Block]:
    number = secrets.randbits(63)
    return [(*week, number, "", ids), *((*week, number, word, data) for word, data in blocks_of(postings))]


async def _store(connection: asyncpg.Connection, blocks: Sequence[Block]) -> None:
    if blocks:
        columns = [list(column) for column in zip(*blocks, strict=True)]
        await connection.fetch(statement("store_content_words"), *columns)


async def join_segments(database: Database, week: Week, segments: Sequence[int]) -> bool:
    """Put ``segments`` together into one; return whether they were there. Raises the errors of :class:`Database`."""
    async with database.write([week[0]]) as connection:
        await connection.fetch(statement("hold_words"), week[0])
        return await _rewrite(connection, week, segments, {})


async def clear_segments(database: Database, project_id: str) -> int:
    """Take the words of removed parts out of the segments of a project; return how many segments had some. Raises the
    errors of :class:`Database`.
    """
    async with database.write([project_id]) as connection:
        await connection.fetch(statement("hold_words"), project_id)
        notes = await connection.fetch(statement("take_words_garbage"), project_id)
        if not notes:
            return 0
        weeks, gone = sorted({row["week"] for row in notes}), {(row["week"], row["part_id"]) for row in notes}
        segments = await connection.fetch(statement("list_segment_parts"), project_id, weeks)
        # After the segments were listed: what is stored again since then has a segment of its own, which is not listed.
        stored = await connection.fetch(
            statement("list_stored_parts"), project_id, weeks, [part_id for _, part_id in gone]
        )
        gone -= {(row["week"], row["part_id"]) for row in stored}
        cleared = 0
        for row in segments:
            wanted = [part_id.bytes for week, part_id in gone if week == row["week"]]
            stays = ~np.isin(_ids(row["data"]), np.array(wanted, _ID))
            if not stays.all():
                week = project_id, row["week"]
                await _rewrite(connection, week, [row["segment"]], {row["segment"]: stays})
                cleared += 1
    return cleared


_ID: Final = np.dtype("S16")


def _ids(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, _ID)


async def _rewrite(
    connection: asyncpg.Connection, week: Week, segments: Sequence[int], stay: Mapping[int, Mask]
) -> bool:
    """Replace ``segments`` by one with those of their parts that stay, all of them unless told."""
    rows = await connection.fetch(statement("read_word_segments"), *week, list(segments))
    if len({row["segment"] for row in rows}) < len(segments):
        return False
    await connection.fetch(statement("remove_word_segments"), *week, list(segments))
    blocks = await asyncio.to_thread(_together, week, rows, stay)
    await _store(connection, blocks)
    return True


def _together(week: Week, rows: Sequence[asyncpg.Record], stay: Mapping[int, Mask]) -> list[Block]:
    ids: dict[int, bytes] = {}
    blocks: dict[int, list[Postings]] = {}
    for row in rows:
        if row["first_word"]:
            blocks.setdefault(row["segment"], []).append(Packed(row["data"]).all())
        else:
            ids[row["segment"]] = row["data"]
    masks = {number: stay.get(number, np.ones(len(data) // ID_BYTES, bool)) for number, data in ids.items()}
    left = b"".join(np.frombuffer(data, f"V{ID_BYTES}")[masks[number]].tobytes() for number, data in ids.items())
    postings = merged([(joined(blocks.get(number, [])), masks[number]) for number in ids])
    return _blocks(week, left, postings) if left else []


def due(segments: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Return which of ``segments`` are to be put together: several of about the same size. ``sizes``: their parts."""
    classes: dict[int, list[int]] = {}
    for segment, size in sorted(zip(segments, sizes, strict=True)):
        if size < LARGEST:
            classes.setdefault(max(size, 1).bit_length() // 3, []).append(segment)
    found = []
    size_of = dict(zip(segments, sizes, strict=True))
    for _, members in sorted(classes.items()):
        before = np.cumsum([0, *(size_of[member] for member in members)])
        chosen = [member for member, total in zip(members, before.tolist(), strict=False) if total < LARGEST]
        if len(members) >= TOGETHER:
            found.append(chosen)
    return found


class WordSegments:
    """Background work; processes that run it at the same time wait for each other, project by project."""

    def __init__(self, worker: Database, written: Callable[[], int]) -> None:
        """``worker`` must run as the role observatory_worker. ``written``: number of segments that this process has
        stored since it started.
        """
        self._worker = worker
        self._written = written
        self._seen = -1
        self._looked_at = 0.0
        self.task = PeriodicTask("word segments", self.join_if_due, pause=PAUSE_SECONDS)

    async def join_if_due(self) -> None:
        """Call :meth:`join` if this process has stored segments, or a minute is over."""
        written = self._written()
        if written != self._seen or time.monotonic() - self._looked_at >= LONGEST_SECONDS:
            self._seen, self._looked_at = written, time.monotonic()
            await self.join()

    async def join(self) -> int:
        """Put small segments together; return how many are gone. Raises the database's errors."""
        gone = 0
        async with self._worker.unscoped() as connection:
            weeks = await connection.fetch(statement("list_word_segments"), TOGETHER)
            noted = await connection.fetch(statement("list_projects_with_words_garbage"))
        for row in noted:
            await clear_segments(self._worker, row["project_id"])
        for row in weeks:
            for segments in due(row["segments"], row["sizes"]):
                if await join_segments(self._worker, (row["project_id"], row["week"]), segments):
                    gone += len(segments)
        return gone
