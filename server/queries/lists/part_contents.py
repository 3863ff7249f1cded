"""Contents of a page's rows that are stored elsewhere: in parts, or as their resource. Each is read once, however many
rows share it, and parts are put together here as the database does it for filters (migrations 0070, 0071, 0105 and
0107).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from server.queries.lists.known_parts import KnownParts, Part, Week, read_parts
from server.queries.lists.list_question import PREVIEW_LENGTH
from server.storage.statements import statement
from server.text.instants import EARLIEST

COLUMNS: Final = {
    "own_parts": "{t}.parts",
    "own_inputs": "{t}.input_parts",
    "own_more": "coalesce({t}.more_parts, 0)",
    "own_finish": "CASE WHEN {t}.states_finish THEN {t}.finish_reason END",
    "own_result": "{t}.result_alone",
    "own_project": "{t}.project_id",
    "own_ts": "{t}.ts",
    "own_resource": "{t}.resource_id",
}
"""Further columns that a record needs, over a row of llm_traces called ``{t}``."""
SIDES: Final = {"input_text": 0, "input_messages": 0, "output_text": 1, "output_messages": 1, "attributes": 2}
"""Fields that may be in parts: of the input, of the output, and others."""
RESOURCE: Final = "resource_attributes"
ELSEWHERE: Final = frozenset({*SIDES, RESOURCE})
"""Fields that :func:`fill_contents` reads."""
_OUTPUT: Final = 1
_NUMBER_OF_SIDES: Final = 3
_TEXTS: Final = ("input_text", "output_text")
_BARE_ROLES: Final = (None, "user", "assistant")

_FINISH: Final = "finish_reason"
_FIRST_PARTS: Final = 2
"""Number of parts that usually suffice for the beginning of a side."""

_MOST_KEPT: Final = 100
"""Most rows of an answer whose parts are kept: those of an export are not asked for again."""

_ANY_WEEK: Final = EARLIEST
"""Under which resources are kept, whose ids differ from week to week."""

_known: Final = KnownParts()
"""Shared by all applications of this process: ids of parts depend on a key of their project."""


@dataclass(slots=True)
class _Content:
    """The fields of a row that are made of the same parts."""

    row: dict[str, Any]
    names: Sequence[str]
    ids: list[UUID]
    finish: str | None
    is_result: bool
    """The part is the message of a tool, and the row has its response alone."""
    count: int
    """Parts to read."""

    def fill(self, found: Mapping[UUID, Part]) -> bool:
        """Set the fields; return whether they need more parts than were read."""
        ids = self.ids
        try:
            parts = [found[part] for part in (ids if self.count >= len(ids) else ids[: self.count])]
        except KeyError:
            return False  # deleted since the page was read, like the row
        row, needs_more = self.row, False
        for name in self.names:
            if name == "attributes":
                for message, _, _ in parts:
                    row[name].update(message)
            elif self.is_result:
                row[name] = parts[0][0]["parts"][0]["response"] if name in _TEXTS else None
            elif name in _TEXTS:
                text = row[name] = _text(parts, is_alone=len(ids) == 1)
                needs_more = self.count < len(ids) and len(text or "") <= PREVIEW_LENGTH
            else:
                row[name] = _messages(parts, self.finish)
        return needs_more


async def fill_contents(
    connection: asyncpg.Connection,
    names: Sequence[str],
    records: Sequence[asyncpg.Record],
    rows: Sequence[dict[str, Any]],
    clipped: Sequence[str] = (),
) -> None:
    """Set the fields ``names`` (of :data:`ELSEWHERE`) in those ``rows`` whose records, which have :data:`COLUMNS` too,
    have parts or a resource. Rows that share a message or resource share the object. For fields in ``clipped`` only the
    beginning is read.
    """
    if RESOURCE in names:
        await _fill_resources(connection, records, rows)
        names = [name for name in names if name != RESOURCE]
    if not names:
        return
    groups = [
        (side, group, all(name in clipped for name in group))
        for side in range(_NUMBER_OF_SIDES)
        if (group := [name for name in names if SIDES[name] == side])
    ]
    weeks: dict[Week, list[_Content]] = {}
    for record, row in zip(records, rows, strict=True):
        if ids := record["own_parts"]:
            weeks.setdefault(_week(record), []).extend(_contents(record, row, ids, groups))
    for week, wanted in weeks.items():
        is_kept = len(rows) <= _MOST_KEPT
        found = _known.of(week) if is_kept else {}
        while wanted:
            ids = set[UUID]().union(*[content.ids[: content.count] for content in wanted])
            if missing := ids - found.keys():
                characters = await read_parts(connection, week, list(missing), found)
                if is_kept:
                    _known.grew(characters)
            wanted = [content for content in wanted if content.fill(found)]
            for content in wanted:
                content.count = len(content.ids)


async def _fill_resources(
    connection: asyncpg.Connection, records: Sequence[asyncpg.Record], rows: Sequence[dict[str, Any]]
) -> None:
    projects: dict[str, set[UUID]] = {}
    for record in records:
        if record["own_resource"] is not None:
            projects.setdefault(record["own_project"], set()).add(record["own_resource"])
    is_kept = len(rows) <= _MOST_KEPT
    found: dict[str, dict[UUID, Part]] = {}
    for project, ids in projects.items():
        known = found[project] = _known.of((project, _ANY_WEEK)) if is_kept else {}
        if missing := ids - known.keys():
            characters = 0
            for key, attributes in await connection.fetch(statement("read_resources"), project, list(missing)):
                known[key] = orjson.loads(attributes), None, ""
                characters += len(attributes)
            if is_kept:
                _known.grew(characters)
    for record, row in zip(records, rows, strict=True):
        # One that was deleted since the page was read is missing, like the row.
        if part := found.get(record["own_project"], {}).get(record["own_resource"]):
            row[RESOURCE] = part[0]


def _week(record: asyncpg.Record) -> Week:
    ts = record["own_ts"]
    return record["own_project"], datetime.combine(ts.date() - timedelta(days=ts.weekday()), time(), UTC)


def _contents(
    record: asyncpg.Record, row: dict[str, Any], ids: list[UUID], groups: Sequence[tuple[int, Sequence[str], bool]]
) -> Iterator[_Content]:
    """Yield the contents of a row. ``groups``: a side, its fields, and whether their beginning is enough."""
    inputs, outputs = record["own_inputs"], len(ids) - record["own_more"]
    sides = ids[:inputs], ids[inputs:outputs], ids[outputs:]
    for side, names, is_clipped in groups:
        parts = sides[side]
        finish, is_result = (record["own_finish"], record["own_result"] is True) if side == _OUTPUT else (None, False)
        yield _Content(row, names, parts, finish, is_result, _FIRST_PARTS if is_clipped else len(parts))


def _text(parts: Sequence[Part], *, is_alone: bool) -> str | None:
    if is_alone:
        ((_, role, text),) = parts
        return text if role in _BARE_ROLES else f"{role}: {text}"
    return "\n".join([f"{role}: {text}" for _, role, text in parts]) if parts else None


def _messages(parts: Sequence[Part], finish: str | None) -> list[dict[str, Any]] | None:
    messages = [message for message, _, _ in parts if message is not None]
    if finish is not None:
        messages = [_with_finish(message, finish) for message in messages]
    return messages or None


def _with_finish(message: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return ``message`` with its finish reason where jsonb, which orders members by length and then by bytes, has it.
    ``message`` is in that order.
    """
    found = {**message, _FINISH: reason}
    last = next(reversed(message))
    if last.isascii() and len(last) < len(_FINISH):
        return found
    return dict(sorted(found.items(), key=lambda item: (len(item[0].encode()), item[0].encode())))
