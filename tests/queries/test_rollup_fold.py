"""Folding changes no answer; concurrent writers, folders and rebuilds neither double nor lose anything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.queries.metrics.metric_interval import Interval
from server.queries.metrics.metric_question import MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.rollups import rebuild
from server.rollups.fold import RollupFolder, fold_pending
from server.rollups.rebuild import rebuild_rollups
from server.rollups.sketch import pack
from server.storage.row_scope import RowScope
from server.upkeep.partitions import WEEKS_AHEAD, ensure_partitions
from server.upkeep.retention import apply_retention
from tests.conftest import ProjectMaker
from tests.queries.metric_oracle import Traffic
from tests.span_factory import make_span, store

START = (datetime.now(UTC) - timedelta(days=5)).replace(hour=3, minute=0, second=0, microsecond=0)
LENGTH = timedelta(days=2)
SCOPE = RowScope(("alpha",))
GRAINS = ("rollup_5m", "rollup_1h", "rollup_1d", "slice_1h", "actor_pack", "actor_names")
COUNTED = ("spans", "calls", "errors", "total_tokens", "cost", "traces", "duration_sum")

# A span counts once in the deltas and grains together, whatever moment the snapshot is of. That of one project is one
# on a cluster too.
BALANCE = """
SELECT (SELECT count(*) FROM llm_traces WHERE project_id = 'alpha'),
       (SELECT coalesce(sum(spans), 0) FROM rollup_delta WHERE project_id = 'alpha')
       + (SELECT coalesce(sum(spans), 0) FROM {grain} WHERE project_id = 'alpha'),
       (SELECT coalesce(sum(total_cost_usd) FILTER (WHERE is_generation), 0)
        FROM llm_traces WHERE project_id = 'alpha'),
       (SELECT coalesce(sum(total_cost), 0) FROM rollup_delta WHERE project_id = 'alpha')
       + (SELECT coalesce(sum(total_cost), 0) FROM {grain} WHERE project_id = 'alpha')
"""


async def check_balance(owner: asyncpg.Connection, grain: str) -> None:
    """Check that deltas and ``grain`` together hold each span and its cost once."""
    row = await owner.fetchrow(BALANCE.format(grain=grain))
    assert row is not None
    spans, counted, cost, summed = row
    assert (spans, cost) == (counted, summed)


def traffic_of(services: Services, seed: int) -> Traffic:
    return Traffic(services, "alpha", random.Random(seed), START, LENGTH)


async def contents(owner: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return all grains, comparable: rows as tuples, in order."""
    found = {}
    for grain in GRAINS:
        rows = await owner.fetch(f"SELECT * FROM {grain}")
        found[grain] = sorted((tuple(row.values()) for row in rows), key=repr)
    return found


async def ask(services: Services, keys: Sequence[str], **more: object) -> list[object]:
    values = {"start": START, "end": START + LENGTH, **more}
    question = MetricQuestion(measures=tuple(map(parse_measure, keys)), **values)  # type: ignore[arg-type]
    answer = await query_metrics(services.reads, SCOPE, question)
    return [(dict(group.labels), dict(group.values)) for group in answer.groups]


@pytest.mark.parametrize("grain", ["rollup_5m", "rollup_1h", "rollup_1d"])
async def test_deltas_and_grain_together_equal_the_raw_rows_after_any_fold(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection, grain: str
) -> None:
    await project("alpha")
    traffic = traffic_of(services, 5)
    for step in range(8):
        await traffic.step()
        if step % 2:
            await fold_pending(services.worker)
        await check_balance(owner, grain)


async def test_two_writers_a_folder_and_a_rebuild_at_once_never_double_or_lose(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    # On a busy machine a rebuild holds its lock for longer than a writer waits before it answers 503.
    for database in (services.writes, services.worker):
        pool: Any = database.raw_pool
        pool._connect_kwargs["server_settings"]["lock_timeout"] = "30000"
    running = True
    checks = 0

    async def write(seed: int) -> Traffic:
        traffic = traffic_of(services, seed)
        for _ in range(12):
            await traffic.step()
        return traffic

    async def fold() -> None:
        while running:
            await fold_pending(services.worker)
            await asyncio.sleep(0.01)

    async def rebuild() -> None:
        for _ in range(2):
            await rebuild_rollups(services.worker, ["alpha"], START, START + LENGTH)

    async def check() -> None:
        nonlocal checks
        while running:
            # One statement is one snapshot.
            await check_balance(owner, "rollup_1h")
            checks += 1
            await asyncio.sleep(0.02)

    folding, checking = asyncio.create_task(fold()), asyncio.create_task(check())
    # Trace numbers of both writers overlap, so they also delete what the other one stored.
    await asyncio.gather(write(1), write(2), rebuild())
    running = False
    await asyncio.gather(folding, checking)
    assert checks > 5
    await fold_pending(services.worker)
    await check_balance(owner, "rollup_1d")
    assert await owner.fetchval("SELECT count(*) FROM rollup_delta") == 0


@pytest.mark.parametrize("most_spans", [1, 40, rebuild.MOST_SPANS])
async def test_a_rebuild_gives_what_folding_step_by_step_gave(
    services: Services,
    project: ProjectMaker,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    most_spans: int,
) -> None:
    """Value for value, and byte for byte where a value is packed; in windows of any size."""
    monkeypatch.setattr(rebuild, "MOST_SPANS", most_spans)
    await project("alpha")
    traffic = traffic_of(services, 9)
    for _ in range(15):
        await traffic.step()
        await fold_pending(services.worker)
    folded = await contents(owner)
    days: list[datetime] = []
    count = await rebuild_rollups(
        services.worker, ["alpha"], START, START + LENGTH, progress=lambda _, day: days.append(day)
    )
    await fold_pending(services.worker)
    assert count == len(days) == 3
    assert await contents(owner) == folded


async def test_days_without_5_minute_rows_are_rebuilt_from_hours(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    traffic = traffic_of(services, 10)
    for _ in range(10):
        await traffic.step()
    await fold_pending(services.worker)
    async with services.worker.unscoped() as connection:
        await connection.execute("UPDATE rollup_state SET rollup_5m_since = $1", START.replace(hour=0) + LENGTH / 2)
        await connection.execute("DELETE FROM rollup_5m WHERE bucket < $1", START.replace(hour=0) + LENGTH / 2)
    folded = await contents(owner)
    assert folded["rollup_5m"]
    await rebuild_rollups(services.worker, ["alpha"], START, START + LENGTH)
    assert await contents(owner) == folded


async def test_a_rebuild_waits_for_the_folder_that_holds_the_lock(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await store(services, "alpha", make_span(ts=START))
    key = "SELECT {}(1819045746, hashtext('alpha'))"
    await owner.execute(key.format("pg_advisory_lock"))
    rebuilding = asyncio.create_task(rebuild_rollups(services.worker, ["alpha"], START, START + LENGTH))
    # Longer than a lock is waited for in the database.
    await asyncio.sleep(1.2)
    assert not rebuilding.done()
    await owner.execute(key.format("pg_advisory_unlock"))
    assert await rebuilding == 3
    assert await owner.fetchval("SELECT sum(spans) FROM rollup_1h") == 1


async def test_a_rebuild_makes_rollups_of_rows_that_came_past_the_writer(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await store(services, "alpha", [make_span(ts=START + timedelta(minutes=n)) for n in range(5)])
    for table in (*GRAINS, "rollup_delta", "actor_delta"):
        await owner.execute(f"DELETE FROM {table}")
    assert await ask(services, ["calls"]) == [({}, {"calls": (None,)})]
    await rebuild_rollups(services.worker, ["alpha"], START, START + LENGTH)
    assert await ask(services, ["calls"]) == [({}, {"calls": (5,)})]


async def test_rows_that_deletes_have_emptied_are_removed(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    traffic = traffic_of(services, 3)
    for _ in range(6):
        await traffic.step()
    await fold_pending(services.worker)
    for trace_id in {trace_id for trace_id, _ in traffic.spans}:
        await traffic.delete(trace_id)
    await fold_pending(services.worker)
    # Names stay until retention forgets them.
    assert await contents(owner) | {"actor_names": []} == {grain: [] for grain in GRAINS}


async def test_a_project_that_fails_does_not_keep_the_others_waiting(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await project("zeta")
    for name in ("alpha", "zeta"):
        await store(services, name, [make_span(ts=START)])
    # More tokens than a bigint of the grain holds: the sum overflows when it is folded.
    for _ in range(2):
        await owner.execute(
            "INSERT INTO rollup_delta SELECT project_id, bucket, dim_id, 1, 0, 0, 9000000000000000000, 0, 0, 0, 0, 0,"
            " 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '', '' FROM rollup_delta WHERE project_id = 'alpha' LIMIT 1"
        )
    await fold_pending(services.worker)
    waiting = await owner.fetch("SELECT DISTINCT project_id FROM rollup_delta")
    assert [row["project_id"] for row in waiting] == ["alpha"]


async def test_the_background_folder_folds_and_stops(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await store(services, "alpha", [make_span()])
    folder = RollupFolder(services.worker, interval=0.01)
    folder.task.start()
    async with asyncio.timeout(10):
        while await owner.fetchval("SELECT count(*) FROM rollup_delta"):
            await asyncio.sleep(0.02)
    await folder.task.stop()
    assert await owner.fetchval("SELECT sum(spans) FROM rollup_1h") == 1


async def test_metrics_outlive_the_spans_that_retention_drops(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    old = (datetime.now(UTC) - timedelta(days=24)).replace(hour=10, minute=7, second=0, microsecond=0)
    await store(services, "alpha", [make_span(ts=old, user_id="ann"), make_span(user_id="bob")])
    await fold_pending(services.worker)
    whole = {"start": old.replace(hour=0, minute=0), "end": datetime.now(UTC)}
    before = await ask(services, ["calls", "users"], **whole)
    settings = replace(services.settings, retention_days=7)
    dropped = await apply_retention(services.worker, settings, datetime.now(UTC))
    assert dropped
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 1
    assert await ask(services, ["calls", "users"], **whole) == before == [({}, {"calls": (2,), "users": (2,)})]
    # A rebuild leaves alone what it could not make again.
    await rebuild_rollups(services.worker, ["alpha"], old, datetime.now(UTC))
    assert await ask(services, ["calls"], **whole) == [({}, {"calls": (2,)})]
    # An answer that needs the dropped rows says that they are gone.
    question = MetricQuestion(measures=(parse_measure("calls"),), group_by=("tag",), **whole)  # type: ignore[arg-type]
    answer = await query_metrics(services.reads, SCOPE, question)
    assert any("dropped by retention" in notice for notice in answer.meta.notices)


async def test_rollups_have_their_own_retention(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    old = datetime.now(UTC) - timedelta(days=24)
    await store(services, "alpha", [make_span(ts=old, user_id="ann"), make_span(user_id="bob")])
    await fold_pending(services.worker)
    settings = replace(services.settings, retention_days=7, rollup_retention_days=10, rollup_5m_days=2)
    await apply_retention(services.worker, settings, datetime.now(UTC))
    for grain in ("rollup_5m", "rollup_1h", "rollup_1d", "actor_names"):
        assert await owner.fetchval(f"SELECT count(*) FROM {grain}") == 1, grain


async def test_partitions_are_made_for_the_past_and_ahead_and_not_dropped_again(services: Services) -> None:
    now = datetime.now(UTC)
    settings = replace(services.settings, retention_days=30)
    await apply_retention(services.worker, settings, now)
    names = await ensure_partitions(services.worker, now, 30)
    ends = [datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=7) for name in names]
    assert ends[0] <= now - timedelta(days=30 - 7)
    assert ends[-1] > now + timedelta(weeks=WEEKS_AHEAD)
    assert await ensure_partitions(services.worker, now, 30) == names
    assert await apply_retention(services.worker, settings, now) == []


async def test_half_hour_days_use_hours_inside_and_finer_parts_at_the_ends(
    services: Services, project: ProjectMaker
) -> None:
    await project("alpha")
    traffic = traffic_of(services, 11)
    for _ in range(5):
        await traffic.step()
    await fold_pending(services.worker)
    days = {"interval": Interval(days=1), "time_zone": "Asia/Kolkata"}
    with_rollups = await ask(services, COUNTED, **days)
    async with services.worker.unscoped() as connection:
        await connection.execute("UPDATE rollup_state SET rollup_5m_since = now()")
        await connection.execute("DELETE FROM rollup_5m")
    assert await ask(services, COUNTED, **days) == with_rollups


async def test_sql_and_python_put_a_value_into_the_same_bin(owner: asyncpg.Connection) -> None:
    values = [0.0, 0.001, 0.5, 1.0, 1.01, 12.5, 999.999, 86_400_000.0, 1e12, 1e15]
    for value in values:
        for sign in (1, -1):
            assert await owner.fetchval("SELECT sketch_entry($1, $2)", value, sign) == pack([value], sign)
