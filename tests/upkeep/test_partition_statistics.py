"""The planner learns of a partition before PostgreSQL would analyze it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from server.http.services import Services
from server.upkeep.partition_statistics import PartitionStatistics
from tests.datasource.seed import ACME
from tests.span_factory import make_span, store


@pytest.mark.one_postgresql("a cluster counts the nodes that have looked, and keeps statistics there")
async def test_a_partition_is_analyzed_when_it_has_grown_and_not_again(
    services: Services, owner: asyncpg.Connection
) -> None:
    start = datetime.now(UTC) - timedelta(minutes=10)
    await store(services, ACME, [make_span(ts=start + timedelta(milliseconds=number)) for number in range(600)])
    # A session that stays open may keep its row counts to itself for ten seconds; one that ends tells them.
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1",
        urlsplit(services.settings.database_url).username,
    )
    statistics = PartitionStatistics(services.worker)
    analyzed = 0
    for _ in range(100):
        analyzed = await statistics.renew()
        if analyzed:
            break
        await asyncio.sleep(0.1)
    assert analyzed == 1
    known = await owner.fetch("SELECT tablename, attname FROM pg_stats WHERE tablename LIKE 'llm_traces_2%'")
    assert {"trace_id", "project_id"} <= {row["attname"] for row in known}
    assert await statistics.renew() == 0
