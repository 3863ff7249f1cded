"""Servers of the version before go on while the schema is already ours (decision 0192)."""

from __future__ import annotations

import json
import re
from typing import Any

import asyncpg
import pytest

from server.schema.migrate import load_migrations
from server.schema.migration_plan import BESIDE_TRAFFIC, STOPS, plan_migrations
from tests.schema.record_version import PREVIOUS

BEFORE: dict[str, Any] = json.loads(PREVIOUS.read_text(encoding="utf-8"))
READY = {name: sql for name, sql in BEFORE["statements"].items() if "{" not in re.sub(r"'[^']*'", "", sql)}
"""Without those that are templates for queries."""
QUESTION = re.compile(r"(?:\s|--[^\n]*\n)*(?:SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
TEMP_TABLES = [name for name, sql in READY.items() if "CREATE TEMP TABLE" in sql]
COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AND NOT a.atthasdef
       AND a.attidentity = '' AS is_demanded
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
"""
# Checks and keys that an older writer does not know of. Foreign keys and primary keys of new tables do not count.
DEMANDS = """
SELECT conrelid::regclass::text AS name, regexp_replace(pg_get_constraintdef(oid), '\\m\\w+\\.', '', 'g') AS rule
FROM pg_constraint WHERE connamespace = $1::text::regnamespace AND contype IN ('c', 'u', 'p', 'x', 'f')
"""

HARMLESS = ("is altered, or read once to check it", BESIDE_TRAFFIC)
"""A check that would read is a new demand, which another test refuses."""
SMALL = {"access_version"}
"""Tables of a few rows."""


async def by_table(connection: asyncpg.Connection, query: str, schema: str) -> dict[str, set[tuple[Any, ...]]]:
    found: dict[str, set[tuple[Any, ...]]] = {}
    for row in await connection.fetch(query, schema):
        found.setdefault(row[0].rpartition(".")[2], set()).add(tuple(row)[1:])
    return found


@pytest.fixture
async def schema_before(owner: asyncpg.Connection) -> str:
    """The schema of the version before, empty, beside the present one."""
    await owner.execute("CREATE SCHEMA before_us; SET search_path = before_us")
    for item in load_migrations():
        if item.number in BEFORE["migrations"]:
            await owner.execute(item.sql)
    await owner.execute("SET search_path = public")
    return "before_us"


async def test_every_statement_of_the_version_before_still_has_a_plan(owner: asyncpg.Connection) -> None:
    for name in (*TEMP_TABLES, "shape_span_staging"):
        await owner.execute(BEFORE["statements"][name])
    broken = {}
    for name, sql in READY.items():
        if QUESTION.match(sql):
            try:
                await owner.prepare(sql)
            except asyncpg.PostgresError as error:
                broken[name] = str(error)
    assert broken == {}, "a migration took away what servers of the version before still use"
    assert len(READY) > 50


async def test_migrations_take_nothing_away_and_demand_nothing_new(
    owner: asyncpg.Connection, schema_before: str
) -> None:
    before, now = await by_table(owner, COLUMNS, schema_before), await by_table(owner, COLUMNS, "public")
    for table, columns in before.items():
        assert table in now, f"{table} is gone"
        kept = {name: (kind, demanded) for name, kind, demanded in now[table]}
        for name, kind, demanded in columns:
            assert kept.get(name) in ((kind, demanded), (kind, False)), f"{table}.{name} is not what it was"
        new = {name for name in kept.keys() - {name for name, _, _ in columns} if kept[name][1]}
        assert not new, f"{table}: older servers do not fill {sorted(new)}: let them be null, or give a default"
    rules, rules_now = await by_table(owner, DEMANDS, schema_before), await by_table(owner, DEMANDS, "public")
    for table in before:
        added = rules_now.get(table, set()) - rules.get(table, set())
        assert not added, f"{table}: older servers may break {sorted(added)}"


async def test_no_migration_reads_or_writes_a_whole_table_while_others_wait(
    owner: asyncpg.Connection, owner_url: str
) -> None:
    """Migrations since the last version only alter tables, make new ones, or build indexes beside traffic."""
    await owner.execute("DELETE FROM schema_migrations WHERE NOT number = ANY ($1)", BEFORE["migrations"])
    steps = await plan_migrations(owner_url)
    assert len(steps) == len(load_migrations()) - len(BEFORE["migrations"])
    long = {
        (step.name, item.table, item.work)
        for step in steps
        for item in step.tables
        if item.work not in HARMLESS and item.table not in SMALL and item.lock in STOPS
    }
    assert long == set(), "build it beside traffic, change rows in the background, or take two versions (decision 0192)"
