"""Repricing of stored model calls: after a price override, or with a newer price catalogue.

A cost that the span reported itself is never touched. A dry run computes the difference and writes nothing; applying it
proceeds in chunks through the same protocol as every change of spans, so that summaries and rollups follow in the
transaction that changes the rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
import orjson

from server.cache.freshness import Freshness, Touched
from server.ingest.mapping.span_usage import details_in, usage_of
from server.ingest.pricing.price_book import PriceBook, Quote
from server.ingest.writing.span_changes import ensure_change_tables, settle_span_changes
from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import Filter
from server.queries.filters.time_range import TimeRange
from server.storage.database import Database
from server.storage.deadlocks import repeat_after_deadlock
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.text.instants import EPOCH

CHUNK: Final = 1000
_BEFORE_ALL: Final = (EPOCH, "", "")
_ZERO: Final = Decimal(0)
_PRICE_COLUMNS: Final = (
    "prompt_cost_usd", "completion_cost_usd", "total_cost_usd", "cache_savings_usd", "cost_source", "price_version",
)  # fmt: skip
# A new name for the same amount is no change.
_COMPARED: Final = _PRICE_COLUMNS[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepriceQuestion:
    """The calls to reprice; ``window`` is bounded on both sides."""

    project_id: str
    window: TimeRange
    filter: Filter | None = None
    dry_run: bool = True
    seconds: float = 20.0
    """After this time the work stops at the end of a chunk; the difference says where to continue."""


@dataclass(slots=True)
class ModelDifference:
    """Changes for one model. Money in US dollars."""

    provider: str | None
    model: str | None
    calls: int = 0
    changed: int = 0
    unpriced: int = 0
    """Calls with tokens and without a price; one without tokens (it failed) has nothing to price."""
    old_cost_usd: Decimal = _ZERO
    new_cost_usd: Decimal = _ZERO


@dataclass(slots=True)
class RepriceDifference:
    """Changes that were made, or would be made."""

    models: dict[tuple[str | None, str | None], ModelDifference] = field(default_factory=dict)
    continue_from: datetime | None = None
    """Where a further request continues; None if everything was done."""


async def reprice(
    database: Database, freshness: Freshness, prices: PriceBook, question: RepriceQuestion
) -> RepriceDifference:
    """Price the calls of ``question`` by ``prices``. Raises the errors of :class:`Database`."""
    difference = RepriceDifference()
    position: tuple[Any, ...] = _BEFORE_ALL
    deadline = time.monotonic() + question.seconds
    while True:
        rows = await _read_chunk(database, question, position)
        changes = [change for row in rows if (change := _change(row, prices, difference)) is not None]
        if changes and not question.dry_run:
            await _apply(database, freshness, question.project_id, changes)
        if len(rows) < CHUNK:
            return difference
        last = rows[-1]
        position = (last["ts"], last["trace_id"], last["span_id"])
        if time.monotonic() > deadline:
            difference.continue_from = last["ts"]
            return difference


async def _read_chunk(
    database: Database, question: RepriceQuestion, position: tuple[Any, ...]
) -> Sequence[asyncpg.Record]:
    scope = RowScope((question.project_id,))
    params: list[Any] = [question.project_id, question.window.start, question.window.end, *position, CHUNK]
    predicate = "true"
    if question.filter is not None:
        predicate = compile_filter(question.filter, params, scope=scope, window=question.window)
    async with database.read(scope) as connection:
        rows: Sequence[asyncpg.Record] = await connection.fetch(
            statement("list_repriceable_calls").format(filter=f"({predicate})"), *params
        )
    return rows


@dataclass(frozen=True, slots=True)
class _Change:
    row: asyncpg.Record
    prices: tuple[Any, ...]


def _change(row: asyncpg.Record, prices: PriceBook, difference: RepriceDifference) -> _Change | None:
    """Return the new price of ``row``, None if it equals the stored one; count it in either case."""
    quote = quote_of(row, prices)
    model = difference.models.setdefault(
        (row["provider"], row["model"]), ModelDifference(row["provider"], row["model"])
    )
    new: tuple[Any, ...] = (None, None, None, None, "none", None)
    if quote is not None:
        savings = quote.cache_savings_usd if row["cached_tokens"] or row["cache_write_tokens"] else None
        new = (quote.prompt_usd, quote.completion_usd, quote.total_usd, savings, quote.source, quote.version)
    model.calls += 1
    model.unpriced += quote is None and bool(row["prompt_tokens"] or row["completion_tokens"])
    model.old_cost_usd += row["total_cost_usd"] or _ZERO
    model.new_cost_usd += new[2] or _ZERO
    if all(row[name] == value for name, value in zip(_COMPARED, new, strict=False)):
        return None
    model.changed += 1
    return _Change(row, new)


def quote_of(row: asyncpg.Record, prices: PriceBook) -> Quote | None:
    """Return the quote of ``prices`` for a stored call, as at ingest."""
    details = row["usage_details"]
    known = details_in(orjson.loads(row["attributes"])) if details is None else orjson.loads(details)
    usage, tier = usage_of(lambda column: known if column == "usage_details" else row[column])
    return prices.quote(row["provider"], row["model"], row["ts"], usage, tier)


async def _apply(database: Database, freshness: Freshness, project_id: str, changes: Sequence[_Change]) -> None:
    ordered = sorted(changes, key=lambda change: (change.row["trace_id"], change.row["span_id"]))
    keys = [[change.row[name] for change in ordered] for name in ("ts", "trace_id", "span_id", "version")]
    values = [list(column) for column in zip(*(change.prices for change in ordered), strict=True)]

    async def transaction() -> None:
        async with database.write([project_id]) as connection:
            await ensure_change_tables(connection)
            await connection.fetchrow(statement("prefer_index_lookups"))
            if await connection.fetch(statement("apply_prices"), project_id, *keys, *values):
                await settle_span_changes(connection, spans_went=True)

    await repeat_after_deadlock(transaction)
    times = keys[0]
    await freshness.touched({project_id: Touched(min(times), max(times), frozenset(keys[1]))})
