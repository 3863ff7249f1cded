"""A database whose owner is no superuser, as managed services give it out: everything works as elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from server.app import build_services, close_services, open_services
from server.http.services import Services
from server.ingest.writing.text_index import TextIndexUpkeep
from server.ingest.writing.trace_deletion import delete_trace
from server.ingest.writing.unused_content import UnusedContent
from server.queries.filters.filter_params import GivenParameter, filter_from_params
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.rollups.fold import fold_pending
from server.rollups.rebuild import rebuild_rollups
from server.schema.migrate import load_migrations, migrate
from server.schema.safeguards import LEAKPROOF
from server.settings import Settings
from server.storage.row_scope import RowScope
from server.storage.statements import statement
from server.upkeep.housekeeping import Housekeeping
from server.upkeep.partition_statistics import PartitionStatistics
from server.upkeep.retention import apply_retention
from tests.conftest import Cluster, make_partitions
from tests.span_factory import make_span, store

pytestmark = pytest.mark.one_postgresql("the owner of a cluster has to be a superuser, for CREATE EXTENSION citus")

NOW = datetime.now(UTC)
LEFT = """
SELECT (SELECT count(*) FROM llm_traces), (SELECT count(*) FROM trace_summaries), (SELECT count(*) FROM content_parts),
       (SELECT count(*) FROM content_garbage), (SELECT count(*) FROM rollup_delta), (SELECT sum(spans) FROM rollup_1d),
       (SELECT count(*) FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass)
"""


@pytest.fixture
async def plain(cluster: Cluster, settings: Settings) -> AsyncIterator[Settings]:
    """Settings of a server on a database that a plain owner has migrated."""
    name = f"plain_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(cluster.url("postgres", "owner_url"))
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE")
        await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        yield replace(
            settings,
            database_url=cluster.url(name),
            database_worker_url=cluster.url(name, "worker_url"),
            database_owner_url=cluster.url(name, "owner_url").replace("//postgres@", f"//{name}@"),
        )
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
    finally:
        await admin.close()


async def _live(services: Services, looker: asyncpg.Connection) -> list[Any]:
    """Do everything once; return what came out of it."""
    seen: list[Any] = []
    scope = RowScope(("alpha",))
    await looker.execute(statement("create_project"), "alpha", "alpha")
    await looker.execute(statement("create_project"), "beta", "beta")
    text = " ".join(f"word{number}" for number in range(400))
    spans = [
        make_span(
            ts=NOW - timedelta(days=12 * number),
            trace_id=f"{number:032x}",
            span_id=f"{number + 1:016x}",
            output_text=f"{text} number{number}",
            tags=["red"],
            total_cost_usd="0.25",
        )
        for number in range(3)
    ]
    seen.append(await store(services, "alpha", spans))
    seen.append(await store(services, "beta", [make_span(ts=NOW)]))
    seen.append(await fold_pending(services.worker) > 0)
    for given in (("search", "number1"), ("tags", "red"), ("min_cost", "0.2")):
        found = await list_spans(
            services.reads, scope, ListQuestion(filter=filter_from_params([GivenParameter(given[0], (given[1],))]))
        )
        seen.append(sorted(row["span_id"] for row in found.rows))
    question = MetricQuestion(
        measures=(parse_measure("spans"), parse_measure("cost")), start=NOW - timedelta(days=30), end=NOW
    )
    answer = await query_metrics(services.reads, scope, question)
    seen.append([(group.values["spans"], group.values["cost"]) for group in answer.groups])
    seen.append(await rebuild_rollups(services.worker, ["alpha"], NOW - timedelta(days=1), NOW))
    upkeep = TextIndexUpkeep(services.worker, written=lambda: 0, pending=lambda: 0)
    seen.append(await upkeep.settle() >= 0)
    seen.append(await PartitionStatistics(services.worker).renew())
    seen.append(await delete_trace(services.writes, services.freshness, "alpha", spans[0].trace_id))
    await UnusedContent(services.worker).collect()
    seen.append(tuple((await looker.fetch(LEFT))[0]))
    seen.append(len(await apply_retention(services.worker, replace(services.settings, retention_days=16), NOW)) > 0)
    await looker.execute("UPDATE projects SET deleted_at = now() - interval '2 days' WHERE project_id = 'beta'")
    await Housekeeping(services.worker, audit_days=30).tidy()
    seen.append(tuple((await looker.fetch(LEFT))[0]))
    return seen


@pytest.mark.parametrize("layout", ["inline", "shared"])
async def test_everything_works_for_an_owner_who_is_no_superuser(
    plain: Settings, settings: Settings, owner: asyncpg.Connection, cluster: Cluster, layout: str
) -> None:
    said: list[str] = []
    assert plain.database_owner_url is not None
    assert len(await migrate(plain.database_owner_url, warn=said.append)) == len(load_migrations())
    marks = [line for line in said if "LEAKPROOF" in line or "ask a superuser" in line]
    assert marks == said, "nothing else is missing"
    assert await migrate(plain.database_owner_url, warn=said.append) == []
    assert sum("LEAKPROOF" in line for line in said) >= len(LEAKPROOF)
    await make_partitions(plain.database_owner_url)
    seen = []
    for place in (plain, settings):
        services = build_services(replace(place, content_layout=layout))
        looker = await asyncpg.connect(place.database_url.replace("//observatory_app@", "//postgres@"))
        await open_services(services)
        try:
            seen.append(await _live(services, looker))
        finally:
            await looker.close()
            await close_services(services)
    assert seen[0] == seen[1]
