"""Sessions and users: sums, order, pages, isolation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from server.errors import Conflict, SessionNotFound, UserNotFound
from server.http.services import Services
from server.queries.filters.time_range import TimeRange
from server.queries.lists.session_reader import (
    SESSIONS,
    USERS,
    SummaryQuestion,
    list_summaries,
    list_traces_of,
    read_summary,
)
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

NOW = datetime.now(UTC).replace(microsecond=0)
ALPHA = RowScope(("alpha",))
BOTH = RowScope(("alpha", "beta"))


@pytest.fixture
async def data(services: Services, project: ProjectMaker) -> Services:
    """Sessions s0 to s9 of alpha, one an hour, session n having n + 1 traces; s0 and s1 also in beta."""
    await project("alpha")
    await project("beta")
    for name, sessions in (("alpha", 10), ("beta", 2)):
        spans = [
            make_span(
                session_id=f"s{session}",
                user_id=f"u{session % 3}",
                ts=NOW - timedelta(hours=session, minutes=trace),
                total_tokens=10,
                total_cost_usd=Decimal("0.5"),
                cost_source="computed",
                status_code="ERROR" if trace == 0 else "OK",
            )
            for session in range(sessions)
            for trace in range(session + 1)
        ]
        await store(services, name, spans)
    return services


async def walk(services: Services, scope: RowScope, **question: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    position = None
    while True:
        asked = SummaryQuestion(**{"kind": SESSIONS, "limit": 3, **question, "position": position})
        page = await list_summaries(services.reads, scope, asked)
        assert len(page.rows) <= 3
        rows += page.rows
        position = page.next_position
        if position is None:
            return rows


async def test_a_session_sums_its_traces(data: Services) -> None:
    session = await read_summary(data.reads, ALPHA, SESSIONS, "s4")
    assert (session["trace_count"], session["total_tokens"], session["error_count"]) == (5, 50, 1)
    assert session["total_cost_usd"] == Decimal("2.5")
    assert session["user_id"] == "u1"
    assert session["duration_ms"] == pytest.approx(4 * 60_000 + 850)


async def test_a_user_sums_sessions_and_traces(data: Services) -> None:
    user = await read_summary(data.reads, ALPHA, USERS, "u0")
    assert (user["session_count"], user["trace_count"]) == (4, 1 + 4 + 7 + 10)


@pytest.mark.parametrize("sort_by", SESSIONS.sort_keys)
@pytest.mark.parametrize("descending", [True, False])
async def test_every_sort_key_pages_through_every_row_once(data: Services, sort_by: str, descending: bool) -> None:
    rows = await walk(data, BOTH, sort_by=sort_by, descending=descending)
    assert len(rows) == 12
    keys = [(row[sort_by], row["project_id"], row["session_id"]) for row in rows]
    assert keys == sorted(keys, reverse=descending)


@pytest.mark.parametrize("sort_by", USERS.sort_keys)
async def test_users_sort_by_every_key(data: Services, sort_by: str) -> None:
    rows = await walk(data, BOTH, kind=USERS, sort_by=sort_by)
    assert len(rows) == 5


async def test_the_last_full_page_has_no_successor(data: Services) -> None:
    page = await list_summaries(data.reads, ALPHA, SummaryQuestion(kind=SESSIONS, limit=10))
    assert (len(page.rows), page.next_position) == (10, None)
    page = await list_summaries(data.reads, ALPHA, SummaryQuestion(kind=SESSIONS, limit=9))
    assert page.next_position is not None


async def test_the_window_asks_for_overlap(data: Services) -> None:
    window = TimeRange(NOW - timedelta(hours=3, minutes=30), NOW - timedelta(hours=2, minutes=1, seconds=30))
    names = {row["session_id"] for row in await walk(data, ALPHA, window=window)}
    assert names == {"s2", "s3"}


async def test_sessions_of_a_user(data: Services) -> None:
    rows = await walk(data, ALPHA, user_ids=("u1", "u2"))
    assert {row["session_id"] for row in rows} == {"s1", "s2", "s4", "s5", "s7", "s8"}
    assert await walk(data, ALPHA, user_ids=("nobody",)) == []


async def test_named_ones(data: Services) -> None:
    assert {row["session_id"] for row in await walk(data, ALPHA, names=("s3", "s0", "x"))} == {"s3", "s0"}


async def test_other_projects_stay_out(data: Services) -> None:
    assert await walk(data, RowScope(("gamma",))) == []
    assert await walk(data, RowScope(())) == []
    assert {row["project_id"] for row in await walk(data, RowScope(("beta",)))} == {"beta"}
    for kind, missing in ((SESSIONS, SessionNotFound), (USERS, UserNotFound)):
        for name in ("s5", "u2", "unknown"):
            with pytest.raises(missing):
                await read_summary(data.reads, RowScope(("beta",)), kind, name)
        with pytest.raises(missing):
            await read_summary(data.reads, RowScope(()), kind, "s1")


async def test_a_scope_of_very_many_projects_is_one_branch(data: Services) -> None:
    many = RowScope(("alpha", "beta", *(f"p{n}" for n in range(40))))
    assert await walk(data, many) == await walk(data, BOTH)


async def test_an_id_of_two_projects_needs_a_project(data: Services) -> None:
    with pytest.raises(Conflict):
        await read_summary(data.reads, BOTH, SESSIONS, "s1")


@pytest.mark.parametrize("descending", [True, False])
async def test_the_traces_of_a_session_page_by_start(data: Services, descending: bool) -> None:
    session = await read_summary(data.reads, ALPHA, SESSIONS, "s9")
    found: list[datetime] = []
    position = None
    while True:
        page = await list_traces_of(
            data.reads, ALPHA, SESSIONS, session, descending=descending, limit=4, position=position
        )
        found += [row["start_ts"] for row in page.rows]
        position = page.next_position
        if position is None:
            break
    assert len(found) == 10
    assert found == sorted(found, reverse=descending)
