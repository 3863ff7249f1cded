"""Lists of columns that statements share (``-- columns:``), held against the tables and what is sent to them."""

from __future__ import annotations

import re

import pytest

from server.http.services import Services
from server.ingest.writing.prepared_span import COLUMNS
from server.ingest.writing.span_changes import ensure_change_tables
from server.rollups.counters import COUNTERS, SKETCHES, counter_statement
from server.storage import statements
from server.storage.statements import load_statements, statement

COLUMNS_OF = "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
TYPES_OF = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
    " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
)


def listed(text: str, table: str) -> list[str]:
    """Return the columns that a statement inserts into ``table``."""
    match = re.search(rf"INSERT INTO {re.escape(table)}(?: AS t)? \(\s*([^)]+)\)", text)
    assert match
    return [column.strip() for column in match[1].split(",")]


async def test_a_change_of_a_span_has_all_columns_of_its_table(services: Services) -> None:
    async with services.writes.plain() as connection:
        await ensure_change_tables(connection)
        present = {row[0] for row in await connection.fetch(COLUMNS_OF, "pg_temp.span_changes")}
        trigger = await connection.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'note_copied_spans'")
    for name in ("store_staged_spans", "remove_span_twins", "delete_trace_spans", "apply_prices", "store_counts"):
        assert set(listed(statement(name), "pg_temp.span_changes")) == present
    assert {"pass", "sign", *listed(trigger, "pg_temp.span_changes")} == present


async def test_a_stored_span_has_all_columns_that_are_sent(services: Services) -> None:
    async with services.writes.plain() as connection:
        await ensure_change_tables(connection)
        staged = {row[0] for row in await connection.fetch(COLUMNS_OF, "pg_temp.span_staging")}
        stored = {row[0] for row in await connection.fetch(COLUMNS_OF, "llm_traces")}
    inserted = set(listed(statement("store_staged_spans"), "llm_traces"))
    assert inserted == stored - {"ingested_at"} == staged - {"search_text"} == set(COLUMNS)


async def test_every_rollup_has_the_counters_and_sketches_of_the_table(services: Services) -> None:
    expected: dict[str, str] = {counter.name: counter.type for counter in COUNTERS.values()}
    expected |= {sketch.column: "bytea" for sketch in SKETCHES.values()}
    keys = {"project_id", "bucket", "dim_id", "dimension", "value", "is_generation"}
    async with services.writes.plain() as connection:
        for table in ("rollup_delta", "rollup_5m", "rollup_1h", "rollup_1d", "slice_1h"):
            rows = await connection.fetch(TYPES_OF, table)
            present = {row[0]: row[1] for row in rows if row[0] not in keys and not row[0].endswith("_quantiles")}
            assert present == expected, table


def test_every_list_of_counters_is_filled_in() -> None:
    names = [name for name, text in load_statements().items() if "$counters" in text or "$sketches" in text]
    assert len(names) >= 9
    for name in names:
        assert "$" not in re.sub(r"\$\d", "", counter_statement(name)), name


def test_every_list_is_filled_in() -> None:
    assert not [name for name, text in load_statements().items() if "$columns" in text]


def test_a_pattern_is_repeated_for_each_column(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = {"columns": {"pair": "-- Two.\na, b"}, "name": {"read": "SELECT $columns(pair, x.* AS x_*) FROM x"}}
    monkeypatch.setattr(statements, "_blocks", blocks.__getitem__)
    assert load_statements.__wrapped__() == {"read": "SELECT x.a AS x_a, x.b AS x_b FROM x"}
