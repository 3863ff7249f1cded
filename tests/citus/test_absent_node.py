"""A node that does not answer: whose projects notice it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from server.errors import DatabaseUnavailable
from server.http.services import Services
from server.ingest.mapping.mapping_result import SpanUpdate
from server.ingest.writing.text_index import TextIndexUpkeep
from server.ingest.writing.trace_deletion import delete_trace
from server.ingest.writing.unused_content import UnusedContent
from server.rollups.fold import fold_pending
from server.settings import Settings
from server.storage.row_scope import RowScope
from server.upkeep.housekeeping import Housekeeping
from server.upkeep.partition_statistics import PartitionStatistics
from server.upkeep.retention import apply_retention
from tests.citus.citus_cluster import let_in, shut_out
from tests.citus.conftest import AWAY
from tests.conftest import AppServer
from tests.span_factory import make_span, store

COUNT = "SELECT count(*) FROM llm_traces WHERE project_id = $1"
SUMS = """
SELECT (SELECT count(*) FROM llm_traces WHERE project_id = $1) AS spans,
       (SELECT sum(span_count) FROM trace_summaries WHERE project_id = $1) AS of_traces,
       (SELECT sum(span_count) FROM session_summaries WHERE project_id = $1) AS of_sessions,
       (SELECT sum(span_count) FROM user_summaries WHERE project_id = $1) AS of_users
"""
FOLDED = """
SELECT (SELECT count(*) FROM rollup_delta WHERE project_id = $1),
       (SELECT count(*) FROM actor_delta WHERE project_id = $1),
       (SELECT sum(spans) FROM rollup_1d WHERE project_id = $1)
"""

NOTE_OF_YESTERDAY = """
INSERT INTO response_notes (project_id, response, traces, noted_at)
VALUES ($1, 7, '{t}', now() - interval '2 days')
"""
COUNT_OF_NOTES = "SELECT count(*) FROM response_notes WHERE project_id = $1"
COUNT_OF_5M = "SELECT count(DISTINCT bucket) FROM rollup_5m WHERE project_id = $1"


@pytest.fixture
async def node(owner_url: str) -> AsyncIterator[_Node]:
    """The second worker, and the way to lose it."""
    made = _Node(owner_url)
    yield made
    await made.come_back()


class _Node:
    def __init__(self, url: str) -> None:
        self._url = url

    async def go(self) -> None:
        await shut_out(self._url, AWAY)

    async def come_back(self) -> None:
        await let_in(self._url, AWAY)


async def test_writers_of_other_projects_do_not_notice_an_absent_node(
    services: Services, owner: asyncpg.Connection, pair: tuple[str, str], node: _Node
) -> None:
    here, away = pair
    said = {"user_id": "kim", "session_id": "s"}
    first = [make_span(trace_id=f"{number % 2:032x}", **said) for number in range(4)]
    for name in pair:
        assert await store(services, name, first) == 4
    await node.go()
    with pytest.raises(DatabaseUnavailable) as refused:
        await store(services, away, [make_span()])
    assert refused.value.absent == (away,)
    # New traces, pieces of known ones, later versions with the same start and with another one.
    assert await store(services, here, [make_span(**said) for _ in range(2)]) == 2
    assert await store(services, here, [make_span(trace_id=f"{0:032x}", **said)]) == 1
    later = datetime.now(UTC) - timedelta(minutes=8)
    again = [
        make_span(ts=first[0].ts, trace_id=first[0].trace_id, span_id=first[0].span_id, duration_ms=900.0, **said),
        make_span(ts=later, trace_id=first[1].trace_id, span_id=first[1].span_id, duration_ms=900.0, **said),
    ]
    assert await store(services, here, again) == 2
    assert [tuple(row) for row in await owner.fetch(SUMS, here)] == [(7, 7, 7, 7)]
    assert await delete_trace(services.writes, services.freshness, here, first[0].trace_id) == 3
    assert [tuple(row) for row in await owner.fetch(SUMS, here)] == [(4, 4, 4, 4)]
    async with services.reads.read(RowScope((here,))) as connection:
        assert await connection.fetchval(COUNT, here) == 4
    await node.come_back()
    assert await owner.fetchval(COUNT, away) == 4
    assert await store(services, away, [make_span()]) == 1


async def test_requests_name_the_projects_that_are_away(
    app_server: AppServer,
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    pair: tuple[str, str],
    node: _Node,
) -> None:
    here, away = pair
    limits = itertools.count(10)
    for name in pair:
        await store(app_server.services, name, [make_span()])

    async def ask(*projects: str) -> tuple[int, Any]:
        headers = bearer("viewer", list(projects))
        # A limit of its own: an answer that is cached would be right, and say nothing of the node.
        params = {"project_id": ",".join(projects), "limit": str(next(limits))}
        answer = await client.get("/api/v1/traces", params=params, headers=headers)
        return answer.status_code, answer.json()

    status, both = await ask(here, away)
    assert (status, both["meta"]["one_snapshot"]) == (200, False)
    await node.go()
    status, mine = await ask(here)
    assert (status, len(mine["data"])) == (200, 1)
    assert mine["meta"].get("one_snapshot", True)
    # Nor do filters that look at other spans of a trace.
    for asked in ("view=traces&min_prompt_tokens=0", "view=traces&model=gpt-4o&total=estimate"):
        path = f"/api/v1/traces?project_id={here}&limit={next(limits)}&{asked}"
        answer = await client.get(path, headers=bearer("viewer", [here]))
        assert answer.status_code == 200, answer.text
    for projects in ((away,), (here, away)):
        status, problem = await ask(*projects)
        assert (status, problem["code"]) == (503, "database_unavailable")
        assert away in problem["detail"]
        assert here not in problem["detail"]


async def test_deltas_of_all_other_projects_are_folded_meanwhile(
    services: Services, owner: asyncpg.Connection, pair: tuple[str, str], node: _Node
) -> None:
    here, away = pair
    for name in pair:
        await store(services, name, [make_span(user_id="kim", session_id="s") for _ in range(3)])
    await node.go()
    assert await fold_pending(services.worker) > 0
    assert [tuple(row) for row in await owner.fetch(FOLDED, here)] == [(0, 0, 3)]
    await node.come_back()
    assert [tuple(row) for row in await owner.fetch(FOLDED, away)] != [(0, 0, 3)], "waits for its node"
    await fold_pending(services.worker)
    assert [tuple(row) for row in await owner.fetch(FOLDED, away)] == [(0, 0, 3)]


async def test_deleted_projects_and_old_notes_of_other_nodes_go_meanwhile(
    services: Services, owner: asyncpg.Connection, pair: tuple[str, str], node: _Node
) -> None:
    here, away = pair
    for name in pair:
        await store(services, name, [make_span() for _ in range(3)])
        await owner.execute(NOTE_OF_YESTERDAY, name)
    await owner.execute("UPDATE projects SET deleted_at = now() - interval '2 days'")
    await node.go()
    housekeeping = Housekeeping(services.worker, audit_days=30)
    await housekeeping.tidy()
    assert [await owner.fetchval(sql, here) for sql in (COUNT, COUNT_OF_NOTES)] == [0, 0]
    await node.come_back()
    assert [await owner.fetchval(sql, away) for sql in (COUNT, COUNT_OF_NOTES)] == [3, 1]
    await housekeeping.tidy()
    assert [await owner.fetchval(sql, away) for sql in (COUNT, COUNT_OF_NOTES)] == [0, 0]


async def test_rollups_of_other_projects_expire_meanwhile_and_partitions_wait(
    services: Services, settings: Settings, owner: asyncpg.Connection, pair: tuple[str, str], node: _Node
) -> None:
    here, away = pair
    settings = replace(settings, rollup_5m_days=1, retention_days=8)
    now = datetime.now(UTC)
    for name in pair:
        await store(services, name, [make_span(ts=now - timedelta(days=days)) for days in (0, 3, 20)])
    await fold_pending(services.worker)
    await node.go()
    with pytest.raises(DatabaseUnavailable):
        await apply_retention(services.worker, settings, now)
    assert [await owner.fetchval(sql, here) for sql in (COUNT, COUNT_OF_5M)] == [3, 1]
    await node.come_back()
    assert [await owner.fetchval(sql, away) for sql in (COUNT, COUNT_OF_5M)] == [3, 3]
    assert await apply_retention(services.worker, settings, now)
    for name in pair:
        assert [await owner.fetchval(sql, name) for sql in (COUNT, COUNT_OF_5M)] == [2, 1]
        (sums,) = await owner.fetch(SUMS, name)
        assert sums["of_traces"] == 2


async def test_the_text_index_and_unused_content_of_other_nodes_are_looked_after_meanwhile(
    services: Services, pair: tuple[str, str], node: _Node
) -> None:
    upkeep = TextIndexUpkeep(services.worker, written=lambda: 0, pending=lambda: 0)
    await upkeep.settle()
    await store(services, pair[0], [make_span(output_text=" ".join(f"word{number}" for number in range(50)))])
    await node.go()
    assert await upkeep.settle() > 0
    assert await UnusedContent(services.worker).collect() == 0
    await PartitionStatistics(services.worker).renew()


async def test_content_held_for_spans_of_other_projects_is_added_meanwhile(
    services: Services, owner: asyncpg.Connection, pair: tuple[str, str], node: _Node
) -> None:
    here, away = pair
    updates = services.ingestion.updates
    spans = {name: make_span(output_text=None) for name in pair}
    for name, span in spans.items():
        update = SpanUpdate(ts=span.ts, trace_id=span.trace_id, span_id=span.span_id, columns={"output_text": "late"})
        await updates.take(name, [update])
    await store(services, here, [spans[here]])
    await node.go()
    assert await updates.apply_held() == 1
    assert await owner.fetchval("SELECT output_text FROM llm_traces WHERE project_id = $1", here) == "late"
    await node.come_back()
    held = await owner.fetch("SELECT project_id FROM span_updates")
    assert [row["project_id"] for row in held] == [away]
