"""The tenant wall: one place that decides, and row-level security behind it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from server.access.principal import Principal, Role, role_scopes
from server.errors import InternalError, ProjectForbidden
from server.http.services import Services
from server.ingest.writing.copy_rows import copy_rows
from server.ingest.writing.prepared_span import COLUMNS, prepare_span
from server.ingest.writing.span_changes import ensure_change_tables
from server.storage.row_scope import RowScope
from tests.conftest import AppFactory, ProjectMaker
from tests.span_factory import make_span

EXISTING = ("alpha", "beta", "gamma")
Headers = Callable[..., dict[str, str]]

# Tables that hold rows of projects and are read by the API: each has the wall round it.
ISOLATED = (
    "llm_traces", "trace_summaries", "session_summaries", "user_summaries", "scores", "price_overrides",
    "span_dimensions", "rollup_delta",
)  # fmt: skip


def principal(role: Role = Role.VIEWER, *projects: str) -> Principal:
    return Principal("someone", role, role_scopes(role), frozenset(projects))


def test_without_a_request_the_scope_is_all_that_is_granted_and_exists() -> None:
    assert principal(Role.VIEWER, "alpha", "beta", "deleted").scope((), EXISTING).projects == ("alpha", "beta")
    assert principal(Role.ADMIN, "*").scope((), EXISTING).projects == EXISTING
    assert principal(Role.ADMIN).scope((), EXISTING).projects == ()
    assert principal(Role.VIEWER, "alpha").scope(["alpha"], EXISTING).projects == ("alpha",)
    assert principal(Role.VIEWER, "alpha", "beta").scope(["beta", "beta"], EXISTING).projects == ("beta",)


@pytest.mark.parametrize(
    "requested", [["beta"], ["alpha", "beta"], ["unknown"], ["*"], ["Alpha"], ["alpha\0beta"], ["alpha,beta"], [""]]
)
def test_other_and_unknown_projects_are_refused_alike(requested: list[str]) -> None:
    messages = set()
    for asked in (requested, ["no-such-project"]):
        with pytest.raises(ProjectForbidden) as caught:
            principal(Role.ADMIN, "alpha").scope(asked, EXISTING)
        messages.add((caught.value.detail, str(caught.value.errors), str(caught.value.headers)))
    assert len(messages) == 1


def test_content_follows_role_and_scope() -> None:
    assert principal(Role.VIEWER, "alpha").scope((), EXISTING).may_read_content
    assert not principal(Role.BILLING, "alpha").scope((), EXISTING).may_read_content
    forged = Principal("x", Role.BILLING, frozenset({"content:read", "traces:read"}), frozenset({"alpha"}))
    assert not forged.scope((), EXISTING).may_read_content, "not even with the scope"
    narrowed = Principal("x", Role.ADMIN, frozenset({"traces:read"}), frozenset({"alpha"}))
    assert not narrowed.scope((), EXISTING).may_read_content


# Other modules that make a RowScope, and why they open nothing: each narrows a scope that was decided before, or works
# for the server itself on one project that a verified credential named.
NARROWINGS = {
    "server/rest/price_routes.py": "the projects of the caller's scope, to read prices",
    "server/rest/score_routes.py": "one project out of the caller's scope",
    "server/reports/budget_report.py": "the project of one budget out of the caller's scope",
    "server/ingest/writing/dimensions.py": "the project that spans are being written to",
    "server/ingest/pricing/price_books.py": "the project that spans are being written to",
    "server/ingest/span_updates.py": "the project whose spans change",
    "server/ingest/writing/user_erasure.py": "the project of which a caller may delete traces",
    "server/live/live_feed.py": "the projects of a stream's caller, to find what changed; each stream reads by its own",
    "server/queries/lists/change_reader.py": "no project: it counts the values that a filter binds",
    "server/export/export_store.py": "the projects of the caller's scope when the export was asked for",
    "server/ingest/writing/reprice.py": "the project that is priced again",
    "server/semantic/stored_walk.py": "the project whose spans are looked at for vectors",
    "server/semantic/vector_writer.py": "the project whose spans get vectors",
}


def test_scopes_of_callers_are_made_in_one_place_and_others_only_narrow_them() -> None:
    root = Path(__file__).parents[2]
    makers = {
        str(path.relative_to(root))
        for package in ("server", "datasource")
        for path in (root / package).rglob("*.py")
        if re.search(r"(?<!class )RowScope\(", path.read_text(encoding="utf-8"))
    }
    assert "server/access/principal.py" in makers
    unexplained = makers - {"server/access/principal.py"} - NARROWINGS.keys()
    assert not unexplained, "say in NARROWINGS why this opens nothing"


async def fill(owner: asyncpg.Connection) -> None:
    """Insert, as the owner, one row of alpha and one of beta into every table with a tenant wall."""
    await owner.execute("SELECT ensure_trace_partition(now())")
    for table in ISOLATED:
        columns = await owner.fetch(
            "SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,"
            " pg_get_expr(d.adbin, d.adrelid) AS filler, a.attnotnull AS needed"
            " FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) ="
            " (a.attrelid, a.attnum) WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped"
            " AND a.attgenerated = ''",
            table,
        )
        for project in ("alpha", "beta"):
            values = {
                row["name"]: SPECIAL.get(row["name"], FILLERS.get(row["type"], "NULL"))
                for row in columns
                if row["needed"] and row["filler"] is None
            }
            if table == "scores":
                values["value"] = "1"
            values["project_id"] = f"'{project}'"
            await owner.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})")


FILLERS = {"text": "'x'", "bigint": "1", "integer": "1", "smallint": "1", "numeric": "1", "double precision": "1",
           "boolean": "true", "timestamp with time zone": "now()", "bytea": "''", "jsonb": "'{}'",
           "text[]": "'{}'"}  # fmt: skip
SPECIAL = {"cost_source": "'none'", "status_code": "'OK'", "data_type": "'numeric'", "source": "'api'"}


async def test_without_any_where_there_is_still_nothing_foreign(
    services: Services, owner: asyncpg.Connection, project: ProjectMaker
) -> None:
    await project("alpha")
    await project("beta")
    await fill(owner)
    for table in ISOLATED:
        assert await owner.fetchval(f"SELECT count(DISTINCT project_id) FROM {table}") == 2, table
        question = f"SELECT DISTINCT project_id FROM {table}"
        async with services.reads.read(RowScope(("alpha",))) as connection:
            assert [row[0] for row in await connection.fetch(question)] == ["alpha"], table
        async with services.reads.plain() as connection:
            assert await connection.fetch(question) == [], f"{table}: no project was named"
        async with services.writes.write(("alpha",)) as connection:
            assert (
                await connection.execute(f"UPDATE {table} SET project_id = project_id WHERE project_id = 'beta'")
                == "UPDATE 0"
            )
            assert await connection.execute(f"DELETE FROM {table} WHERE project_id = 'beta'") == "DELETE 0"
    with pytest.raises(InternalError):  # 42501: the policy's WITH CHECK
        async with services.writes.write(("alpha",)) as connection:
            await connection.execute("UPDATE scores SET project_id = 'beta'")
    assert await owner.fetchval("SELECT count(*) FROM scores WHERE project_id = 'beta'") == 1


async def test_every_table_with_a_project_column_has_the_wall_or_a_reason(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS walled FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped"
        " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
    )
    open_tables = {row["relname"] for row in rows if not row["walled"]}
    # projects is the list itself; audit_log is read through its own statement, for admins.
    assert open_tables <= {"projects", "audit_log"}, open_tables
    # A partition asked for directly would go round its parent's policies: the API role may only add to it.
    open_to_all = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relispartition AND NOT relrowsecurity AND ("
        " has_any_column_privilege('observatory_api', oid, 'SELECT, UPDATE')"
        " OR has_table_privilege('observatory_api', oid, 'DELETE, TRUNCATE, TRIGGER'))"
    )
    assert open_to_all == []


@pytest.mark.one_postgresql("the wall of copied spans is that of their summaries: partitions on nodes have no triggers")
async def test_what_is_copied_into_a_partition_for_a_project_that_was_not_named_is_refused(
    services: Services, owner: asyncpg.Connection, project: ProjectMaker
) -> None:
    """Partitions have no policies of their own, and keep those of llm_traces by a trigger."""
    await project("alpha")
    await project("beta")
    span = prepare_span("beta", make_span())
    partition = await owner.fetchval("SELECT ensure_trace_partition($1)", span.ts)
    span.values.append(1)

    async def copy_into_alphas_transaction() -> None:
        async with services.writes.write(["alpha"]) as connection:
            await ensure_change_tables(connection)
            await copy_rows(connection, partition, [span.values], columns=COLUMNS)

    with pytest.raises(InternalError) as caught:
        await copy_into_alphas_transaction()
    assert isinstance(caught.value.__cause__, asyncpg.InsufficientPrivilegeError)
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 0


ATTEMPTS = (
    "SET ROLE pg_read_all_data",
    "CREATE TABLE own (x int)",
    "CREATE EXTENSION dblink",
    "ALTER TABLE llm_traces DISABLE ROW LEVEL SECURITY",
    "DROP POLICY project_isolation ON llm_traces",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "DELETE FROM audit_log",
    "UPDATE audit_log SET actor = 'nobody'",
    "DELETE FROM api_keys",
    "UPDATE api_keys SET scopes = '{}'",
    "UPDATE api_keys SET projects = '{*}'",
    "UPDATE oauth_clients SET role = 'admin'",
    "DELETE FROM revoked_tokens",
    "UPDATE access_version SET version = 0",
    "DELETE FROM projects",
)


async def test_the_server_s_role_cannot_step_over_the_wall(services: Services) -> None:
    async with services.reads._pool.borrow() as loan:
        connection = loan.connection
        role = await connection.fetchrow("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert role is not None
        assert (role["rolsuper"], role["rolbypassrls"]) == (False, False)
        for attempt in ATTEMPTS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attempt)


async def test_deleted_project_is_gone_for_everybody_and_its_name_stays_taken(
    start_app: AppFactory, project: ProjectMaker, bearer: Headers
) -> None:
    await project("beta")
    one, two = await start_app(), await start_app()
    admin = bearer("admin", ["*"])
    async with httpx.AsyncClient(base_url=one.base_url) as here, httpx.AsyncClient(base_url=two.base_url) as there:
        body = {"project_id": "alpha", "name": "Alpha"}
        assert (await here.post("/api/v1/projects", headers=admin, json=body)).status_code == 201
        viewer = bearer("viewer", ["alpha"])
        deadline = time.monotonic() + 5
        while (await there.get("/api/v1/projects?", headers=viewer)).json()["data"] == []:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert (await here.post("/api/v1/projects", headers=bearer("admin", ["alpha"]), json=body)).status_code == 403
        assert (await here.post("/api/v1/projects", headers=admin, json=body)).status_code == 409
        assert (await here.delete("/api/v1/projects/alpha", headers=bearer("admin", ["alpha"]))).status_code == 403
        assert (await here.delete("/api/v1/projects/alpha", headers=admin)).status_code == 200
        assert (await here.delete("/api/v1/projects/alpha", headers=admin)).status_code == 403
        assert (await here.get("/api/v1/projects", headers=viewer)).json()["data"] == []
        deadline = time.monotonic() + 5
        while (await there.get("/api/v1/projects", headers=viewer)).json()["data"] != []:
            assert time.monotonic() < deadline, "the other process still shows the project after 5 s"
            await asyncio.sleep(0.1)
        assert (await here.post("/api/v1/projects", headers=admin, json=body)).status_code == 409
        for bad in ("", "A", "a b", "-a", "a" * 64, "a/b", "a,b", "*", "ä"):
            refused = await here.post("/api/v1/projects", headers=admin, json={"project_id": bad})
            assert refused.status_code == 400, bad


async def test_rows_of_a_deleted_project_go_a_day_later_and_no_others(
    services: Services, owner: asyncpg.Connection, project: ProjectMaker
) -> None:
    await project("alpha")
    await project("beta")
    await fill(owner)
    await owner.execute("UPDATE projects SET deleted_at = now() - interval '2 hours' WHERE project_id = 'beta'")
    await services.access.housekeeping.tidy()
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 2, "there is time to think again"
    await owner.execute("UPDATE projects SET deleted_at = now() - interval '2 days' WHERE project_id = 'beta'")
    for _ in range(2):
        await services.access.housekeeping.tidy()
        for table in ISOLATED:
            assert [row[0] for row in await owner.fetch(f"SELECT project_id FROM {table}")] == ["alpha"], table
    assert await owner.fetchval("SELECT purged_at IS NOT NULL FROM projects WHERE project_id = 'beta'")


async def test_revocations_and_audit_rows_that_are_over_are_removed(
    services: Services, owner: asyncpg.Connection
) -> None:
    for days in (0, 1000):
        await owner.execute(
            "INSERT INTO audit_log (action, outcome, ts) VALUES ('x', 'done', now() - make_interval(days => $1))", days
        )
        await owner.execute(
            "INSERT INTO revoked_tokens (issuer, jti, expires_at, revoked_by)"
            " VALUES ('i', $1::text, now() - make_interval(days => $2), 'x')", str(days), days,
        )  # fmt: skip
    await services.access.housekeeping.tidy()
    assert await owner.fetchval("SELECT count(*) FROM audit_log") == 1
    assert await owner.fetchval("SELECT jti FROM revoked_tokens") == "0"
