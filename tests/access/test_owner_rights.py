"""Functions that run with the rights of the tables' owner, whom row-level security does not hold.

Each is a door in the tenant wall, so each says here why nobody gets through it, and a new one fails until it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import pytest

from server.http.services import Services
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import Writer, call, message

pytestmark = pytest.mark.one_postgresql("a cluster shares no content, and replaces some of these functions")

API, WORKER = "observatory_api", "observatory_worker"

REASONS: dict[str, tuple[set[str], str]] = {
    "bump_access_version()": (set(), "a trigger: adds one to a number, and reads no row"),
    "ensure_trace_partition(timestamp with time zone)": ({API, WORKER}, "makes an empty partition; returns its name"),
    "ensure_vector_partition(timestamp with time zone)": ({API, WORKER}, "makes an empty partition; returns its name"),
    "resource_is_used(timestamp with time zone,uuid)": (
        {API, WORKER}, "tells of an id whether a span has it; nobody can make the id of another project's resource"
    ),
    "week_parts_with_term(regclass,text[],integer,tsquery,tsquery,text)": (
        {API}, "reads for words, and refuses any project that the caller's transaction does not see"
    ),
    "analyze_young_partitions()": ({WORKER}, "for the role that sees every project: statistics"),
    "drop_content_partitions(timestamp with time zone)": ({WORKER}, "for the role that sees every project: retention"),
    "drop_trace_partitions(timestamp with time zone)": ({WORKER}, "for the role that sees every project: retention"),
    "drop_vector_partitions(timestamp with time zone)": ({WORKER}, "for the role that sees every project: retention"),
    "settle_text_index()": ({WORKER}, "for the role that sees every project: moves entries within an index"),
}  # fmt: skip
"""The roles that may call each, and why it opens nothing."""

WITH_OWNERS_RIGHTS = """
SELECT p.oid::regprocedure::text AS name, coalesce(p.proconfig::text, '') AS settings,
       ARRAY(SELECT CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END
             FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee <> p.proowner) AS callers
FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
"""
# A view reads with its owner's rights, unless it says otherwise.
VIEWS = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')
                               AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)
"""


async def test_whoever_may_call_a_function_with_the_owners_rights_is_said_with_the_reason(
    owner: asyncpg.Connection,
) -> None:
    found = {row["name"]: row for row in await owner.fetch(WITH_OWNERS_RIGHTS)}
    assert found.keys() == REASONS.keys(), "say in REASONS why this opens nothing"
    for name, row in found.items():
        assert set(row["callers"]) == REASONS[name][0], name
        # Else whoever calls it decides which tables and functions its names mean.
        assert "search_path=" in row["settings"], name
    assert await owner.fetch(VIEWS) == []


async def test_the_words_of_parts_are_read_for_visible_projects_alone(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
        talk = [call([message("user", f"a question of {name}")], [message("assistant", "yes")])]
        await Writer(services).store(name, talk)
    part = await owner.fetchval("SELECT tableoid::regclass FROM content_parts LIMIT 1")
    asked = "SELECT cardinality(week_parts_with_term($1::text::regclass, $2, 500, 'question', 'question', 'question'))"

    async def number(role: str, visible: str, projects: Sequence[str | None]) -> int:
        async with owner.transaction():
            await owner.execute(f"SET LOCAL ROLE {role}")
            await owner.execute("SELECT set_config('app.projects', $1, true)", visible)
            return int(await owner.fetchval(asked, part, projects))

    assert await number(API, "alpha", ["alpha"]) == 1
    assert await number(API, "alpha,beta", ["alpha", "beta"]) == 2
    assert await number(API, "alpha", []) == 0
    unseen: list[tuple[str, list[str | None]]] = [
        ("alpha", ["beta"]), ("alpha", ["alpha", "beta"]), ("", ["alpha"]), ("alpha", [None])
    ]  # fmt: skip
    for visible, projects in unseen:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="visible"):
            await number(API, visible, projects)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await number(WORKER, "alpha", ["alpha"])
