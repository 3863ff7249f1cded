"""Conversations for tests of the layout ``shared``, and what writes and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.message_rendering import render_messages
from server.ingest.writing.content_start import ALWAYS, NEVER
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.span_fields import FIELDS
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.schema import migrate
from server.storage.row_scope import RowScope
from tests.span_factory import make_span

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
ALL = tuple(name for name, item in FIELDS.items() if item.selectable)
OWN = {"project_id", "ingested_at"}


def scope(project: str) -> RowScope:
    return RowScope((project,), may_read_content=True, may_read_costs=True)


def message(role: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts], **more}


def call(
    asked: Sequence[dict[str, Any]] | None, answered: Sequence[dict[str, Any]] | None = None, **more: Any
) -> SpanRecord:
    """Return a call with these messages, whose texts are those that the mapping makes of them."""
    return make_span(
        input_type="chat",
        input_messages=None if asked is None else list(asked),
        input_text=render_messages(list(asked)) if asked else None,
        output_messages=None if answered is None else list(answered),
        output_text=render_messages(list(answered)) if answered else None,
        **more,
    )


def talk(turns: int, number: int = 0, secret: str = "") -> list[SpanRecord]:
    """Return the calls of a conversation, each with all that was said before."""
    said = [message("system", f"You are helpful {secret}.")]
    spans = []
    for turn in range(turns):
        said.append(message("user", f"question {turn} of talk {number} {secret}"))
        answer = message("assistant", f"answer {turn} of talk {number}")
        place: dict[str, Any] = {
            "ts": START + timedelta(minutes=number, seconds=turn),
            "trace_id": f"{number + 1:032x}",
        }
        spans.append(call(said, [{**answer, "finish_reason": "stop"}], finish_reason="stop", **place))
        said = [*said, answer]
    return spans


class Writer:
    """A server that stores spans in a layout."""

    def __init__(self, services: Services, layout: str = "shared", *, full_text: bool = True) -> None:
        dimensions = Dimensions(services.writes, most_combinations=20_000)
        self._writer = SpanWriter(services.writes, dimensions, None, full_text=full_text)
        begins = ALWAYS if layout == "shared" else NEVER
        self._options: dict[str, Any] = {
            "shared_from": begins, "resources_from": begins, "results_from": begins, "full_text": full_text,
        }  # fmt: skip

    async def store(self, project: str, spans: Sequence[SpanRecord]) -> int:
        return await self._writer.store([prepare_span(project, span, **self._options) for span in spans])


async def rows_of(services: Services, project: str, document: Any = None, **more: Any) -> list[dict[str, Any]]:
    """Return rows of a list with all fields, but for those in which projects differ."""
    tree = None if document is None else parse_filter(document)
    question = ListQuestion(filter=tree, fields=ALL, limit=1000, **more)
    page = await list_spans(services.reads, scope(project), question)
    return [{name: value for name, value in row.items() if name not in OWN} for row in page.rows]


def search(text: str) -> dict[str, Any]:
    return {"field": "text", "operator": "search", "value": text}


async def counts(owner: asyncpg.Connection) -> tuple[int, int]:
    """Number of parts, and of spans that have some."""
    return (
        await owner.fetchval("SELECT count(*) FROM content_parts"),
        await owner.fetchval("SELECT count(*) FROM llm_traces WHERE parts IS NOT NULL"),
    )


async def migrated_again(owner: asyncpg.Connection, migration: str, function: str) -> datetime:
    """Let the file ``migration`` choose again when the layout of ``function`` begins, as in a database that has spans.

    Returns the Monday on which it has to begin.
    """
    text = (Path(migrate.__file__).parent / migration).read_text()
    choice = text[text.index("DO $$") : text.index(f"REVOKE ALL ON FUNCTION {function}")]
    await owner.execute(f"DROP FUNCTION {function}()")
    await owner.execute(choice)
    await owner.execute(f"GRANT EXECUTE ON FUNCTION {function}() TO observatory_api")
    now = datetime.now(UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=7 - now.weekday())
