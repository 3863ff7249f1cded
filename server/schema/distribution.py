"""How tables are spread over the nodes of a Citus cluster: the second step of ``migrate``, after the migrations.

:data:`TABLES` has the place of each table. Migrations know nothing of nodes: on one PostgreSQL they are all that runs.
Here ``citus.sql`` first replaces the few objects that Citus refuses; then each table that is not spread yet is spread.
Every run does all of it again, because a later migration may have added a table or redefined one of those objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from typing import Final

import asyncpg

from server.distribution_settings import CITUS
from server.schema.sql_statements import split_statements


class Place(StrEnum):
    """Where the rows of a table are."""

    BY_PROJECT = "by project"
    """On the node of their project, beside all other rows of that project."""
    EVERYWHERE = "everywhere"
    """A copy on every node: few rows, which statements over projects join."""
    COORDINATOR = "coordinator"
    """On the coordinator alone."""


_BY_PROJECT: Final = (
    "llm_traces", "trace_summaries", "session_summaries", "user_sessions", "user_summaries", "scores",
    "price_overrides", "span_dimensions", "rollup_delta", "actor_delta", "rollup_5m", "rollup_1h", "rollup_1d",
    "slice_1h", "actor_pack", "actor_names", "annotations", "first_sightings", "budgets", "span_updates",
    "agent_figures", "agent_counters", "span_vectors", "vector_counts",
    "content_keys", "content_parts", "content_garbage", "span_resources", "resource_garbage", "response_notes",
)  # fmt: skip
_COORDINATOR: Final = (
    "projects", "rollup_state", "access_version", "api_keys", "oauth_clients", "revoked_tokens", "used_assertions",
    "audit_log", "idempotency_keys", "exports", "export_parts", "expired_exports",
    "embedding_models", "embedding_lease",
    # Its transaction numbers are those of one server.
    "span_feed",
    "schema_migrations", "schema_safeguards",
)  # fmt: skip

TABLES: Final[Mapping[str, Place]] = {
    **dict.fromkeys(_BY_PROJECT, Place.BY_PROJECT),
    **dict.fromkeys(_COORDINATOR, Place.COORDINATOR),
}
"""Every table, partitions aside: they go with their parent."""

FIRST: Final = "llm_traces"
"""All others are co-located with it."""

_SPREAD: Final[Mapping[Place, str]] = {
    Place.BY_PROJECT: (
        "SELECT create_distributed_table($1::text::regclass, 'project_id', colocate_with => "
        f"CASE WHEN $1::text = '{FIRST}' THEN 'none' ELSE '{FIRST}' END)"
    ),
    Place.EVERYWHERE: "SELECT create_reference_table($1::text::regclass)",
}

_PRESENT: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
_ALREADY_SPREAD: Final = "SELECT c.relname FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid"
_NODES: Final = "SELECT count(*) FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards"


class DistributionError(Exception):
    """The database cannot be spread; the message says what to do."""


async def distribute(connection: asyncpg.Connection, distribution: str) -> None:
    """Spread what the migrations have made, as ``distribution`` says. Raises :class:`DistributionError`."""
    if distribution != CITUS:
        return
    if await connection.fetchval("SELECT to_regclass('pg_dist_node')") is None:
        raise DistributionError(
            "DATABASE_DISTRIBUTION is citus, and the database has no extension citus: CREATE EXTENSION citus there and "
            "on every node, then add the nodes with citus_add_node()"
        )
    if not await connection.fetchval(_NODES):
        raise DistributionError(
            "DATABASE_DISTRIBUTION is citus, and no node takes tables: add nodes with citus_add_node()"
        )
    present = {row[0] for row in await connection.fetch(_PRESENT)}
    async with connection.transaction():
        await connection.execute("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
        await connection.execute("SET LOCAL client_min_messages = warning")
        for text in split_statements((files("server.schema") / "citus.sql").read_text(encoding="utf-8")):
            await connection.execute(text)
        done = {row[0] for row in await connection.fetch(_ALREADY_SPREAD)}
        for table, place in TABLES.items():
            if place in _SPREAD and table in present - done:
                await connection.execute("CALL prepare_for_nodes($1::text::regclass)", table)
                await connection.execute(_SPREAD[place], table)
