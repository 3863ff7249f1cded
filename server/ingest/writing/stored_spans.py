"""Stored spans as the counting of calls sees them: what each reports, has of its own, and lends."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from server.ingest.counting.call_identity import CONTENT, IDENTITY, has_part
from server.ingest.counting.count_rules import TOLD_RULES, TOOL, SpanView, told_operation
from server.ingest.writing.lent_parts import PART_BITS
from server.text.instants import EPOCH

_BETWEEN: Final = ("span_ids", "parents", "operations", "names", "scopes", "starts", "lengths")
_MICROSECOND: Final = timedelta(microseconds=1)


class OwnData:
    """The own data of a stored report, without the parts it took from others."""

    __slots__ = ("_row", "inherited")

    def __init__(self, row: asyncpg.Record) -> None:
        self._row = row
        self.inherited = inherited_of(row)

    def has(self, part: str) -> bool:
        if part in self.inherited:
            return False
        if part in CONTENT:
            has: bool = self._row[f"has_{part}"]
            return has
        return has_part(self._row.__getitem__, part)

    def values(self, part: str) -> dict[str, Any]:
        """Return the columns of a part of the identity, empty where it is not its own."""
        columns = IDENTITY[part]
        if part in self.inherited:
            return {column: [] if column == "tags" else None for column in columns}
        return {column: self._row[column] for column in columns}

    @property
    def place(self) -> tuple[str, datetime]:
        """Its trace and start."""
        return self._row["trace_id"], self._row["ts"]


class LendingSpan:
    """A stored span that reports nothing, but has values for the calls below it; they are read once they are lent."""

    __slots__ = ("_parts", "row", "trace_id")

    def __init__(self, trace_id: str, parts: int) -> None:
        """``parts``: bits of :data:`PART_BITS`."""
        self.trace_id = trace_id
        self._parts = parts
        self.row: asyncpg.Record | None = None

    def has(self, part: str) -> bool:
        return bool(self._parts & PART_BITS.get(part, 0))

    def values(self, part: str) -> dict[str, Any]:
        """Return the columns of a part of the identity."""
        if self.row is None:
            raise AssertionError("what is lent has not been read")
        return {column: self.row[column] for column in IDENTITY[part]}


def inherited_of(row: asyncpg.Record) -> dict[str, str]:
    inherited: dict[str, str] = orjson.loads(row["inherited"]) if row["inherited"] else {}
    return inherited


def report_view(row: asyncpg.Record) -> SpanView:
    start_us = (row["ts"] - EPOCH) // _MICROSECOND
    has_usage = bool(row["total_tokens"]) or row["has_cost"]
    is_told_alone = row["count_rule"] in TOLD_RULES or (row["count_rule"] is None and not row["is_generation"])
    return SpanView(
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        start_us=start_us,
        end_us=start_us + round(row["duration_ms"] * 1000),
        operation=told_operation(row["count_rule"], row["operation_type"]),
        kind=row["span_kind"],
        reports=has_usage or not is_told_alone,
        model=row["model"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        total_tokens=row["total_tokens"],
        has_cost=row["has_cost"],
        response_id=row["response_id"],
        scope=row["scope"],
        is_billed=row["is_billed"],
        tool_name=row["tool_name"] or row["tool_called"],
        cache_tokens=row["cache_tokens"],
        has_error=row["status_code"] == "ERROR",
        agent_name=None if "agent_name" in inherited_of(row) else row["agent_name"],
        was_told_twice=row["count_rule"] in TOLD_RULES,
    )


def spans_between(rows: Iterable[asyncpg.Record]) -> Iterable[SpanView]:
    """Return the spans that report nothing; when they were, and who told of them, is known of agents and tools."""
    for row in rows:
        for span_id, parent, operation, name, scope, start_us, length_us in zip(
            *(row[name] for name in _BETWEEN), strict=True
        ):
            end_us = 0 if start_us is None else start_us + length_us
            tool, agent = (name, None) if operation == TOOL else (None, name)
            yield SpanView(
                span_id, parent, start_us or 0, end_us, operation, "internal", reports=False, scope=scope,
                tool_name=tool, agent_name=agent,
            )  # fmt: skip


def lending_spans(rows: Iterable[asyncpg.Record]) -> dict[str, LendingSpan]:
    """Return those of the spans between reports that have something to lend."""
    return {
        span_id: LendingSpan(row["trace_id"], parts)
        for row in rows
        for span_id, parts in zip(row["span_ids"], row["lent"], strict=True)
        if parts
    }
