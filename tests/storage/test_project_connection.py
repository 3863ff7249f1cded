"""Statements in the form for one project of a cluster do what they do in their own form; here on one PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from server.errors import ApiError
from server.http.services import Services
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.filters.filter_params import GivenParameter, filter_from_params
from server.queries.lists.list_question import ListQuestion, lift_to_traces
from server.queries.lists.list_reader import list_spans
from server.settings import Settings
from server.storage.database import Database
from server.storage.project_connection import NodeConnection, steps_of
from server.storage.row_scope import RowScope
from server.storage.statements import load_statements
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

CHANGES_AND_HANDS_ON = re.compile(
    r"\bWITH\b.*\b(?:INSERT INTO|UPDATE|DELETE FROM) (?!pg_temp).*^INSERT INTO", re.S | re.M
)
STATE = {
    "trace_summaries": "to_jsonb(t) - 'project_id' - 'updated_at'",
    "session_summaries": "to_jsonb(t) - 'project_id'",
    "user_summaries": "to_jsonb(t) - 'project_id'",
    "user_sessions": "to_jsonb(t) - 'project_id'",
    "llm_traces": "to_jsonb(t) - 'project_id' - 'ingested_at' - 'dim_id'",
    "actor_delta": "to_jsonb(t) - 'project_id' - 'id'",
}
LOSES_A_NODE = """
CREATE FUNCTION run_on_node(use bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objid = use) THEN
        PERFORM pg_advisory_lock(use);  -- the session keeps it
        RAISE 'server closed the connection unexpectedly' USING ERRCODE = 'internal_error';
    END IF;
    RETURN current_setting('app.projects');
END $$
"""
ANNOTATE = """
INSERT INTO annotations (project_id, annotation_id, ts, title, created_by)
VALUES ($1, gen_random_uuid()::text, now(), 'a deployment', 'kim')
"""


class DatabaseOfProjects(Database):
    """Sends the statements of each project in their other form."""

    def _on_nodes(self, connection: asyncpg.Connection, projects: Sequence[str], opening: str) -> asyncpg.Connection:
        async def begin_again() -> None:
            await connection.execute("ROLLBACK")
            await connection.execute(opening)

        return cast(asyncpg.Connection, NodeConnection(connection, projects[0], begin_again))


@pytest.fixture
async def apart(settings: Settings) -> AsyncIterator[Database]:
    database = DatabaseOfProjects(
        settings.database_url,
        role="observatory_api",
        size=2,
        acquire_timeout=15,
        statement_timeout=30,
        application_name="apart",
        distribution=settings.database_distribution,
    )
    await database.open()
    yield database
    await database.close()


async def test_the_first_statement_is_run_again_when_its_node_had_ended_the_connection(
    apart: Database, owner: asyncpg.Connection, project: ProjectMaker
) -> None:
    mine = await project("mine")
    await owner.execute(LOSES_A_NODE)
    for use, opened in enumerate((apart.write([mine]), apart.read(RowScope((mine,))))):
        async with opened as connection:
            assert await connection.fetchval("SELECT run_on_node($1)", use) == mine, "the wall is open again"

    async def annotate(then: str) -> None:
        async with apart.write([mine]) as connection:
            await connection.execute(ANNOTATE, mine)
            await connection.fetchval(then)

    for later in ("SELECT run_on_node(2)", "SELECT 1 / 0"):
        with pytest.raises(ApiError):
            await annotate(later)
        assert await owner.fetchval("SELECT count(*) FROM annotations") == 0, "it is lost as a whole"


async def write(services: Services, database: Database, project: str) -> list[int]:
    """New traces, a replay, pieces, later versions with the same start and with another one, and a deletion."""
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=123)
    writer = SpanWriter(database, Dimensions(database, most_combinations=100), None)

    def span(number: int, trace: int, **more: Any) -> Any:
        said = {"user_id": f"user {trace % 2}", "session_id": f"session {trace}", "total_cost_usd": "0.0000012345"}
        values = {"ts": at + timedelta(milliseconds=number), "prompt_tokens": 3 * number, **said, **more}
        return prepare_span(project, make_span(trace_id=f"{trace:032x}", span_id=f"{number:016x}", **values))

    first = [span(number, number % 3) for number in range(1, 10)]
    stored = [await writer.store(first), await writer.store(first), await writer.store([span(20, 0), span(21, 4)])]
    stored.append(await writer.store([span(1, 1, duration_ms=9000.0, user_id="other")]))
    stored.append(await writer.store([span(2, 2, ts=at + timedelta(seconds=5), duration_ms=9000.0)]))
    return [*stored, await delete_trace(database, services.freshness, project, f"{0:032x}")]


async def state(owner: asyncpg.Connection, project: str) -> dict[str, list[str]]:
    return {
        table: [
            row[0]
            for row in await owner.fetch(
                f"SELECT ({shown})::text AS row FROM {table} AS t WHERE project_id = $1 ORDER BY 1", project
            )
        ]
        for table, shown in STATE.items()
    }


async def test_both_forms_store_the_same(
    services: Services, owner: asyncpg.Connection, project: ProjectMaker, apart: Database
) -> None:
    mine, other = await project("mine"), await project("other")
    assert await write(services, services.writes, mine) == await write(services, apart, other) == [9, 0, 2, 1, 1, 4]
    stored = await state(owner, mine)
    assert all(stored.values())
    assert await state(owner, other) == stored


def test_what_a_statement_changed_is_handed_on_in_a_second_step() -> None:
    """Those that name no TEMP table are left alone: the node of the project runs them as a whole."""
    cut = {name for name, sql in load_statements().items() if steps_of(sql).then is not None}
    texts = {name: re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE) for name, sql in load_statements().items()}
    handing_on = {name for name, sql in texts.items() if "pg_temp" in sql and CHANGES_AND_HANDS_ON.match(sql)}
    assert handing_on == cut
    assert len(cut) > 5
    assert [name for name in cut if "INSERT INTO pg_temp" in steps_of(texts[name]).text] == []


def test_no_equality_of_projects_is_left() -> None:
    texts = {name: steps_of(sql).text for name, sql in load_statements().items()}
    assert [name for name, sql in texts.items() if re.search(r"\.project_id = [a-z_]+\.project_id", sql)] == []


@pytest.mark.parametrize("given", [(), (GivenParameter("user_id", ("kim",)),), (GivenParameter("model", ("gpt-4o",)),)])
async def test_reads_of_one_project_find_the_same_in_both_forms(
    services: Services, apart: Database, project: ProjectMaker, given: tuple[GivenParameter, ...]
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
        spans = [make_span(trace_id=f"{n % 4:032x}", user_id="kim" if n % 3 else "lee") for n in range(12)]
        await store(services, name, spans)
    question = ListQuestion(view="traces", filter=lift_to_traces(filter_from_params(given)), total="estimate")
    pages = [await list_spans(database, RowScope(("alpha",)), question) for database in (services.reads, apart)]
    assert pages[0].rows
    assert (pages[0].rows, pages[0].total) == (pages[1].rows, pages[1].total)
    # Over both, each branch names its own project.
    both = await list_spans(services.reads, RowScope(("alpha", "beta")), question)
    assert both.total is not None
    assert pages[0].total is not None
    assert both.total.value == 2 * pages[0].total.value


def test_arguments_become_settings_where_no_node_sees_them() -> None:
    """Citus then plans once. An argument that is a project, or is compared on a node, has to be in the statement."""
    steps = {name: steps_of(sql) for name, sql in load_statements().items()}
    assert {name for name, each in steps.items() if each.settings} == {"fold_trace_summaries"}
    told = steps["fold_trace_summaries"]
    assert told.settings == "SELECT set_config('app.argument_1', $1, true), set_config('app.argument_2', $2, true)"
    assert "$" not in told.text
    assert not steps["fold_session_and_user_summaries"].takes_project, "it would be planned each time"
