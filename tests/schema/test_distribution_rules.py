"""Tables and statements stay within what an engine distributed by project can do: docs/explanation/scaling.md."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import asyncpg
import pytest

from server.queries.metrics.metric_catalog import DIMENSIONS
from server.queries.metrics.metric_formula import needs_of
from server.queries.metrics.metric_question import parse_measure
from server.queries.metrics.raw_sql import Binds, Selection, Target, raw_statement
from server.queries.metrics.rollup_sql import RollupSource, RollupTable, Slice, rollup_statement
from server.schema.distribution import TABLES, Place
from server.schema.migrate import Migration, load_migrations
from server.schema.sql_statements import split_statements
from server.settings import SettingsError, load_settings
from server.storage.row_scope import RowScope
from server.storage.statements import load_statements

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
# With the name of a configuration, as everywhere here, to_tsvector is immutable.
NOT_IMMUTABLE = "SELECT DISTINCT proname FROM pg_proc WHERE provolatile <> 'i' AND proname <> 'to_tsvector'"
SPREAD = "|".join(sorted(name for name, place in TABLES.items() if place is Place.BY_PROJECT))
FORBIDDEN = {
    r"\bMERGE\s+INTO\b": "MERGE is refused under row-level security",
    r"\bGROUPING\s+SETS\b|\bROLLUP\s*\(|\bCUBE\s*\(": "GROUPING SETS",
    r"DO\s+UPDATE\s+SET(?:(?!\bWHERE\b|\bRETURNING\b)[^;])*?\bnow\s*\(\)": "now() in ON CONFLICT … SET",
    r"VALUES\s*\([^;]*\bDO\s+UPDATE\s+SET[^;]*\(\s*SELECT\b": "a subquery in INSERT … VALUES",
}
UPDATED = re.compile(rf"\bUPDATE\s+(?:{SPREAD})\b(?:\s+(?:AS\s+)?(?!SET\b)\w+)?\s+SET\b", re.IGNORECASE)
WORDS = re.compile(r"\bIS\s+(?:NOT\s+)?DISTINCT\s+FROM\b|\w+\s*\(|\w+|[();]", re.IGNORECASE)
ALL_TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


def code(sql: str) -> str:
    """Return ``sql`` without comments and literals."""
    return re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", sql))


def called_within_conditions(sql: str) -> set[str]:
    """Return the functions that an UPDATE of a distributed table calls within CASE or COALESCE of its SET."""
    called: set[str] = set()
    for start in UPDATED.finditer(sql):
        around: list[str] = []
        for word in (match[0].lower() for match in WORDS.finditer(sql, start.end())):
            if word == ";" or (not around and word in {"where", "from", "returning", ")"}):
                break
            if word in {"case", "("}:
                around.append(word)
            elif word in {"end", ")"}:
                around.pop()
            elif word.endswith("("):
                name = word.rstrip("( ")
                if {"case", "coalesce"} & set(around):
                    called.add(name)
                around.append(name)
    return called


async def test_every_key_of_a_walled_table_holds_the_project(owner: asyncpg.Connection) -> None:
    assert [tuple(row) for row in await owner.fetch(KEYS)] == []
    assert [row[0] for row in await owner.fetch(FOREIGN)] == [], "no foreign keys out of distributed tables"
    assert [row[0] for row in await owner.fetch(TRIGGERS)] == [], "no triggers on distributed tables"


async def test_every_table_has_a_place_and_walled_ones_are_with_their_project(owner: asyncpg.Connection) -> None:
    assert {row[0] for row in await owner.fetch(ALL_TABLES)} == TABLES.keys()
    walled = {row[0] for row in await owner.fetch(WALLED)}
    # The feed holds transaction numbers, which are those of one server.
    assert {name for name in walled if TABLES[name] is not Place.BY_PROJECT} == {"span_feed"}
    assert {name for name, place in TABLES.items() if place is Place.BY_PROJECT} <= walled


def test_sql_is_cut_between_statements_and_nowhere_else() -> None:
    sql = """-- one; two
    SELECT ';' AS "a;b";
    CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'x;'; $$;
    DO $do$ BEGIN PERFORM $$;$$; END $do$; /* ; */ SELECT 2
    -- the end; of it
    """
    assert [text.split("\n")[-1].strip()[:15] for text in split_statements(sql)] == [
        'SELECT \';\' AS "', "CREATE FUNCTION", "DO $do$ BEGIN P", "-- the end; of "
    ]  # fmt: skip


@pytest.mark.parametrize("migration", load_migrations(), ids=lambda migration: migration.name)
def test_a_migration_can_be_cut_into_statements(migration: Migration) -> None:
    parts = split_statements(migration.sql)
    assert "".join("".join(parts).split()) == "".join(migration.sql.split())
    assert all(part.endswith(";") for part in parts)
    assert all(re.match(r"[A-Z]+ ", re.sub(r"--[^\n]*\n", "", part).lstrip()) for part in parts)


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.get)
def test_no_statement_uses_what_a_distributed_engine_refuses(pattern: str) -> None:
    found = [name for name, sql in load_statements().items() if re.search(pattern, code(sql), re.IGNORECASE)]
    assert found == [], FORBIDDEN[pattern]


async def test_an_update_calls_nothing_that_may_change_within_conditions(owner: asyncpg.Connection) -> None:
    """Citus refuses functions that are not immutable within CASE and COALESCE of what it sets."""
    changing = {row[0] for row in await owner.fetch(NOT_IMMUTABLE)}
    assert {name: changing & called_within_conditions(code(sql)) for name, sql in load_statements().items()} == {
        name: set() for name in load_statements()
    }


@pytest.mark.parametrize(
    "assigned",
    [
        "note = CASE WHEN a IS DISTINCT FROM b THEN jsonb_build_object('x', 1) END",
        "note = coalesce(upper(note), to_jsonb(lower(x)))",
        "n = 1, at = coalesce((SELECT max(x) FROM other), CASE WHEN true THEN 1 ELSE to_jsonb (2) END)",
    ],
)
def test_calls_within_conditions_are_found(assigned: str) -> None:
    called = called_within_conditions(f"UPDATE llm_traces AS t SET {assigned} WHERE now() > coalesce(at, clock())")
    assert len(called & {"jsonb_build_object", "to_jsonb"}) == 1
    assert not called & {"now", "clock"}
    assert called_within_conditions("UPDATE llm_traces SET at = now() FROM other") == set()


async def test_a_statement_over_walled_tables_names_the_project_or_can_leave_projects_out(
    owner: asyncpg.Connection,
) -> None:
    """``{among}`` leaves out those of a node that is away, so that the others do not wait for it."""
    walled = {row[0] for row in await owner.fetch(WALLED)}
    assert len(walled) > 20
    spread = "|".join(sorted(name for name in walled if TABLES[name] is Place.BY_PROJECT))
    written = re.compile(rf"\bINTO\s+(?:{spread})\b", re.IGNORECASE)
    read = re.compile(rf"\b(?:FROM|JOIN|UPDATE|USING)\s+(?:{spread})\b", re.IGNORECASE)
    compared = re.compile(r"project_id\s*(?:=|IN\b|\{among\})|\(project_id|\{(?!among)")
    nameless = {
        name
        for name, sql in load_statements().items()
        if (written.search(code(sql)) and "project_id" not in code(sql) and "{" not in code(sql))
        or (read.search(code(sql)) and not compared.search(code(sql)))
    }
    assert nameless == set()


def test_what_an_insert_selects_is_returned_or_may_conflict() -> None:
    """Else Citus copies it to the nodes, and row-level security refuses COPY."""
    copied = re.compile(rf"^INSERT INTO (?:{SPREAD})\b(?!.*(?:\bVALUES\b|\bRETURNING\b|\bON CONFLICT\b))", re.M | re.S)
    assert [name for name, sql in load_statements().items() if copied.search(code(sql))] == []


def test_a_fold_of_one_project_names_it_for_each_table() -> None:
    """Two columns that are equal do not tell nodes which of them holds the project, so each of them would be asked."""
    text = (files("server.rollups") / "sql" / "rollup_fold.sql").read_text(encoding="utf-8")
    compared = [
        name
        for name, _, sql in (block.partition("\n") for block in text.split("-- name: ")[1:])
        if re.search(r"\.project_id = \w+\.project_id", code(sql))
    ]
    assert compared == ["list_unmerged_actors"], "which is about all projects"


@pytest.mark.parametrize("pieces", [2, 200])
def test_pieces_of_time_are_one_scan_of_each_table(pieces: int) -> None:
    """Nodes refuse to join a UNION of scans over projects of several of them."""
    start, day = datetime(2031, 5, 5, tzinfo=UTC), timedelta(days=1)
    ranges = [(start + day * number, start + day * number + timedelta(hours=1)) for number in range(pieces)]
    boundaries = [start, start + day * pieces]
    target = Target(RowScope(("alpha", "beta")), (DIMENSIONS["model"],), None)
    needs = needs_of([parse_measure("calls"), parse_measure("duration_p95")], "spans")
    chosen = Selection([("gpt-4.1",)], with_other=True)
    tables: tuple[RollupTable, ...] = ("rollup_delta", "rollup_5m", "rollup_1h", "rollup_1d", "slice_1h")
    sources = [
        RollupSource(table, ranges, Slice("model", precomputed=False) if table == "slice_1h" else None)
        for table in tables
    ]
    for selection in (None, chosen):
        for sql in (
            raw_statement(target, needs, ranges, boundaries, selection, Binds(), exact=True),
            *(rollup_statement(target, needs, [source], boundaries, selection)[0] for source in sources),
        ):
            assert "UNION" not in sql
            assert len(re.findall(r"(?:FROM|JOIN) (?:llm_traces|rollup_|slice_)", sql)) == 1
        # Sums of several tables are appended to each other after they were grouped, which nodes do not refuse.
        together, _ = rollup_statement(target, needs, sources, boundaries, selection)
        assert together.count("UNION ALL (SELECT") == len(sources) - 1
        assert together.count("GROUP BY") == len(sources)
        assert together.count("FROM span_dimensions") == 1, "the combinations are read once for all"


def test_content_stored_once_is_refused_on_a_cluster() -> None:
    """Its unused parts are noted by triggers on partitions, so deleted content would stay."""
    with pytest.raises(SettingsError, match="OBSERVATORY_CONTENT_LAYOUT: shared is not for DATABASE_DISTRIBUTION"):
        load_settings({"DATABASE_DISTRIBUTION": "citus", "OBSERVATORY_CONTENT_LAYOUT": "shared"})
    assert load_settings({"DATABASE_DISTRIBUTION": "citus"}).content_layout == "auto", "which shares none there"
