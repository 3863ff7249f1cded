"""Tables and statements stay within what an engine distributed by project can do: docs/explanation/scaling.md."""

from __future__ import annotations

import re

import asyncpg
import pytest

from server.storage.statements import load_statements

LOCAL = {"span_feed"}
"""Walled tables that stay on one server, because they hold its transaction numbers."""
WALLED = "SELECT polrelid::regclass::text FROM pg_policy WHERE polname = 'project_isolation'"
KEYS = """
SELECT i.indrelid::regclass::text AS name, i.indexrelid::regclass::text AS index
FROM pg_index i JOIN pg_policy p ON p.polrelid = i.indrelid AND p.polname = 'project_isolation'
WHERE i.indisunique AND NOT EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attname = 'project_id' AND a.attnum = ANY (i.indkey::smallint[]))
"""
FOREIGN = """
SELECT conrelid::regclass::text || ' → ' || confrelid::regclass::text
FROM pg_constraint JOIN pg_policy ON polrelid = conrelid AND polname = 'project_isolation' WHERE contype = 'f'
"""
TRIGGERS = """
SELECT tgrelid::regclass::text || ': ' || tgname
FROM pg_trigger JOIN pg_policy ON polrelid = tgrelid AND polname = 'project_isolation' WHERE NOT tgisinternal
"""
FORBIDDEN = {
    r"\bMERGE\s+INTO\b": "MERGE is refused under row-level security",
    r"\bGROUPING\s+SETS\b|\bROLLUP\s*\(|\bCUBE\s*\(": "GROUPING SETS",
    r"DO\s+UPDATE\s+SET(?:(?!\bWHERE\b|\bRETURNING\b)[^;])*?\bnow\s*\(\)": "now() in ON CONFLICT … SET",
}
EVERY_PROJECT = {
    "list_projects_in_feed": "reads the local feed",
    "read_feed": "reads the local feed",
    "trim_span_feed": "trims the local feed",
    "forget_old_span_updates": "deletes by age on every node, each for itself",
    "forget_old_response_notes": "deletes by age on every node, each for itself",
}
"""Statements over walled tables that name no project, and the reason."""


def code(sql: str) -> str:
    """``sql`` without comments and literals."""
    return re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", sql))


async def test_every_key_of_a_walled_table_holds_the_project(owner: asyncpg.Connection) -> None:
    assert [tuple(row) for row in await owner.fetch(KEYS)] == []
    assert [row[0] for row in await owner.fetch(FOREIGN)] == [], "no foreign keys out of distributed tables"
    assert [row[0] for row in await owner.fetch(TRIGGERS)] == [], "no triggers on distributed tables"


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.get)
def test_no_statement_uses_what_a_distributed_engine_refuses(pattern: str) -> None:
    found = [name for name, sql in load_statements().items() if re.search(pattern, code(sql), re.IGNORECASE)]
    assert found == [], FORBIDDEN[pattern]


async def test_a_statement_over_walled_tables_names_the_project(owner: asyncpg.Connection) -> None:
    walled = {row[0] for row in await owner.fetch(WALLED)}
    assert len(walled) > 20
    tables = re.compile(rf"(?:FROM|JOIN|INTO|UPDATE|USING)\s+(?:{'|'.join(sorted(walled - LOCAL))})\b", re.IGNORECASE)
    nameless = {
        name
        for name, sql in load_statements().items()
        if tables.search(code(sql)) and "project_id" not in code(sql) and "{" not in code(sql)
    }
    assert nameless <= EVERY_PROJECT.keys()
