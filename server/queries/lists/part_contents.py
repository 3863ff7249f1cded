"""Contents of a page's rows that are stored in parts. Each part is read once, however many rows share it, and parts are
put together here as the database does it for filters (migrations 0070 and 0071).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from server.queries.lists.list_question import PREVIEW_LENGTH
from server.queries.records.message_text import text_of_parts
from server.storage.statements import statement

COLUMNS: Final = {
    "own_parts": "{t}.parts",
    "own_inputs": "{t}.input_parts",
    "own_more": "coalesce({t}.more_parts, 0)",
    "own_finish": "CASE WHEN {t}.states_finish THEN {t}.finish_reason END",
    "own_project": "{t}.project_id",
    "own_ts": "{t}.ts",
}
"""Further columns that a record needs, over a row of llm_traces called ``{t}``."""
SIDES: Final = {"input_text": 0, "input_messages": 0, "output_text": 1, "output_messages": 1, "attributes": 2}
"""Fields that may be in parts: of the input, of the output, and others."""
_BARE_ROLES: Final = (None, "user", "assistant")

_FIRST_PARTS: Final = 2
"""Number of parts that usually suffice for the beginning of a side."""

_Week = tuple[str, datetime]
"""A project and the start of a week."""


class _Part(NamedTuple):
    message: dict[str, Any] | None
    role: str | None
    text: str


@dataclass(slots=True)
class _Content:
    """A field of a row, and the parts that it is made of."""

    row: dict[str, Any]
    name: str
    week: _Week
    ids: list[UUID]
    finish: str | None
    count: int
    """Parts to read."""

    def fill(self, found: Mapping[UUID, _Part]) -> bool:
        """Set the field; return whether it needs more parts than were read."""
        ids = self.ids[: self.count]
        parts = [found[part] for part in ids if part in found]
        if len(parts) < len(ids):
            return False  # deleted since the page was read, like the row
        if self.name == "attributes":
            for part in parts:
                self.row[self.name].update(part.message)
            return False
        if not self.name.endswith("_text"):
            self.row[self.name] = _messages(parts, self.finish)
            return False
        text = self.row[self.name] = _text(parts, is_alone=len(self.ids) == 1)
        return self.count < len(self.ids) and len(text or "") <= PREVIEW_LENGTH


async def fill_contents(
    connection: asyncpg.Connection,
    names: Sequence[str],
    records: Sequence[asyncpg.Record],
    rows: Sequence[dict[str, Any]],
    clipped: Sequence[str] = (),
) -> None:
    """Set the fields ``names`` (of :data:`SIDES`) in those ``rows`` whose records, which have :data:`COLUMNS` too, have
    parts. Rows that share a message share the object. For fields in ``clipped`` only the beginning is read.
    """
    wanted = [content for record, row in zip(records, rows, strict=True) for content in _contents(record, row, names)]
    for content in wanted:
        if content.name in clipped:
            content.count = _FIRST_PARTS
    found: dict[_Week, dict[UUID, _Part]] = {content.week: {} for content in wanted}
    while wanted:
        for week, parts in found.items():
            ids = set[UUID]().union(*(content.ids[: content.count] for content in wanted if content.week == week))
            if missing := ids - parts.keys():
                for part_id, body, text in await connection.fetch(
                    statement("read_content_parts"), *week, list(missing)
                ):
                    parts[part_id] = _part(orjson.loads(body), text)
        wanted = [content for content in wanted if content.fill(found[content.week])]
        for content in wanted:
            content.count = len(content.ids)


def _contents(record: asyncpg.Record, row: dict[str, Any], names: Sequence[str]) -> Iterator[_Content]:
    if not names or not (ids := record["own_parts"]):
        return
    ts, inputs = record["own_ts"], record["own_inputs"]
    starts = ts.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=ts.weekday())
    outputs = len(ids) - record["own_more"]
    sides = ids[:inputs], ids[inputs:outputs], ids[outputs:]
    for name in names:
        place = SIDES[name]
        finish = record["own_finish"] if place == 1 else None
        yield _Content(row, name, (record["own_project"], starts), sides[place], finish, len(sides[place]))


def _part(body: Any, text: str | None) -> _Part:
    if isinstance(body, str):
        return _Part(None, None, body)
    if len(body) == 1:  # an attribute; a message has a role and parts
        return _Part(body, None, "")
    return _Part(body, body["role"], text_of_parts(body["parts"]) if text is None else text)


def _text(parts: Sequence[_Part], *, is_alone: bool) -> str | None:
    if not parts:
        return None
    if is_alone:
        (part,) = parts
        return part.text if part.role in _BARE_ROLES else f"{part.role}: {part.text}"
    return "\n".join([f"{part.role}: {part.text}" for part in parts])


def _messages(parts: Sequence[_Part], finish: str | None) -> list[dict[str, Any]] | None:
    messages = [part.message for part in parts if part.message is not None]
    if finish is not None:
        messages = [_ordered({**message, "finish_reason": finish}) for message in messages]
    return messages or None


def _ordered(message: dict[str, Any]) -> dict[str, Any]:
    """Return ``message`` with its members in the order of jsonb."""
    return dict(sorted(message.items(), key=lambda item: (len(item[0].encode()), item[0].encode())))
