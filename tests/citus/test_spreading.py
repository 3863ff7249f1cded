"""``migrate`` on a cluster: what is where."""

from __future__ import annotations

from typing import Any

import asyncpg

from server.http.services import Services
from server.schema.distribution import TABLES, Place
from server.schema.migrate import load_migrations, migrate
from tests.citus.citus_cluster import NODES, on_node
from tests.citus.conftest import HOME
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

SPREAD = """
SELECT c.relname, d.colocationid FROM pg_dist_partition d JOIN pg_class c ON c.oid = d.logicalrelid
WHERE NOT c.relispartition
"""
LOGINS = ["observatory_api", "observatory_worker"]
"""The roles as which the coordinator is at a node."""
PLANNING = ["constraint_exclusion=off"]
PROJECTS = [f"project-{number}" for number in range(12)]


async def test_tables_are_spread_as_the_table_says_and_side_by_side(owner: asyncpg.Connection) -> None:
    spread = {row["relname"]: row["colocationid"] for row in await owner.fetch(SPREAD)}
    assert spread.keys() == {name for name, place in TABLES.items() if place is Place.BY_PROJECT}
    assert len(set(spread.values())) == 1


async def test_partitions_are_spread_with_their_parent(owner: asyncpg.Connection) -> None:
    made = await owner.fetchval("SELECT ensure_trace_partition('2031-05-05Z')")
    assert await owner.fetchval("SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = $1::text::regclass", made)


async def test_nodes_plan_as_servers_do(owner: asyncpg.Connection, owner_url: str) -> None:
    for node in NODES:
        there = await asyncpg.connect(on_node(owner_url, node))
        told = await there.fetch("SELECT rolname, rolconfig FROM pg_roles WHERE rolname = ANY ($1)", LOGINS)
        await there.close()
        assert [(row["rolname"], row["rolconfig"]) for row in told if row["rolconfig"] != PLANNING] == [], node
        assert len(told) == len(LOGINS)


async def test_the_plan_of_the_changes_of_traces_is_kept(services: Services, project: ProjectMaker) -> None:
    """Planning it takes the coordinator longer than following it; it has no arguments, which would prevent that."""
    name = await project("mine")
    for _ in range(3):
        await store(services, name, [make_span() for _ in range(3)])
    async with services.writes.write([name]) as connection:
        kept = await connection.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1",
            "WITH written AS (%INSERT INTO trace_summaries%jsonb_agg%",
        )
    assert kept, "the one connection for writes has none"
    assert all(row["generic_plans"] and not row["custom_plans"] for row in kept), kept


async def test_migrate_again_changes_nothing(owner_url: str, owner: asyncpg.Connection) -> None:
    before = await owner.fetch(SPREAD)
    assert await migrate(owner_url, distribution="citus") == []
    assert await owner.fetch(SPREAD) == before
    assert await owner.fetchval("SELECT count(*) FROM schema_migrations") == len(load_migrations())


async def test_each_project_is_on_one_node_and_no_project_sees_another(
    services: Services, owner: asyncpg.Connection, project: ProjectMaker
) -> None:
    homes: dict[Any, list[str]] = {}
    for name in PROJECTS:
        await project(name)
        homes.setdefault(await owner.fetchval(HOME, name), []).append(name)
    assert len(homes) == 2, "both workers hold projects"
    (mine, *_), (other, *_) = homes.values()
    assert await store(services, mine, [make_span() for _ in range(3)]) == 3
    assert await store(services, other, [make_span() for _ in range(2)]) == 2
    async with services.writes.write([mine]) as connection:
        rows = await connection.fetch("SELECT DISTINCT project_id FROM llm_traces")
    assert [row["project_id"] for row in rows] == [mine]
