"""Erasure of a user: nothing names it any more, and everybody's sums are what they would be without it."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from server.embedded.binaries import POSTGRES, find_program
from server.http.services import Services
from server.ingest.writing import user_erasure
from server.ingest.writing.trace_deletion import delete_traces
from server.ingest.writing.user_erasure import erase_user
from server.rollups.fold import fold_pending
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.shared_talks import Writer, call, message
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]
USER = "ada-lovelace-1815"


async def spans_of_two_users(server: AppServer) -> None:
    now = datetime.now(UTC)

    def span(user: str, trace: int, number: int, **more: Any) -> Any:
        given = {"ts": now - timedelta(hours=trace), "trace_id": f"{trace:032x}", "span_id": f"{number:016x}"}
        cost = {"total_cost_usd": Decimal("0.5"), "cost_source": "computed"}
        return make_span(**{**given, **cost, "user_id": user, "session_id": f"session-of-{user}", **more})

    spans = [span(USER, trace, trace) for trace in (1, 2, 3)]
    # In a trace of somebody else a span names the user.
    spans += [span("grace", 4, 40), span(USER, 4, 41, parent_span_id=f"{40:016x}"), span("grace", 5, 50)]
    await store(server.services, "alpha", spans)


async def fold_everything(server: AppServer, owner: asyncpg.Connection) -> None:
    """Fold until nothing is pending: while the server's own folder is at it, a fold leaves the project to that one."""
    while await owner.fetchval("SELECT count(*) FROM actor_delta") or await owner.fetchval(
        "SELECT count(*) FROM rollup_delta"
    ):
        await fold_pending(server.services.worker)
        await asyncio.sleep(0.02)


async def everything(owner: asyncpg.Connection) -> str:
    """Return all rows of all tables as one text: whatever a dump would have."""
    tables = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    rows = [await owner.fetch(f'SELECT t::text FROM "{table["relname"]}" AS t') for table in tables]
    return "\n".join(row[0] for found in rows for row in found)


@pytest.mark.parametrize("folded_before", [True, False])
async def test_nothing_names_an_erased_user(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer,
    owner: asyncpg.Connection, folded_before: bool,
) -> None:  # fmt: skip
    await project("alpha")
    await spans_of_two_users(app_server)
    admin = bearer("admin", ["alpha"])
    score = {"score_id": str(uuid.uuid4()), "trace_id": f"{1:032x}", "name": "tone", "value": 1, "comment": USER}
    assert (await client.post("/api/v1/scores", json=score, headers=admin)).status_code == 201
    if folded_before:
        await fold_everything(app_server, owner)
    assert USER in await everything(owner)

    answer = await client.delete(f"/api/v1/users/{USER}", headers=admin)
    assert answer.status_code == 200, answer.text
    erased = answer.json()["data"]
    assert (erased["deleted_traces"], erased["deleted_spans"], erased["is_complete"]) == (4, 5, True)
    await fold_everything(app_server, owner)
    assert USER not in await everything(owner)

    grouped = await client.get(
        "/api/v1/metrics", params={"metric": "cost", "group_by": "user", "from": "now-1d"}, headers=admin
    )
    assert {row["user"]: row["value"] for row in grouped.json()["data"]} == {"grace": 0.5}
    assert (await client.get(f"/api/v1/users/{USER}", headers=admin)).status_code == 404
    assert (await client.delete(f"/api/v1/users/{USER}", headers=admin)).status_code == 404
    audited = await client.get("/api/v1/audit", params={"action": "user.erase"}, headers=admin)
    assert [row["outcome"] for row in audited.json()["data"]] == ["done", "done"]


async def test_sums_outlive_the_spans_without_the_name_and_a_returning_user_has_it_again(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Bearer, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await spans_of_two_users(app_server)
    await fold_everything(app_server, owner)
    # As if retention had dropped the weeks: spans and summaries are gone, aggregates are not.
    for table in ("llm_traces", "trace_summaries", "session_summaries", "user_summaries", "user_sessions"):
        await owner.execute(f"DELETE FROM {table}")
    admin = bearer("admin", ["alpha"])
    erased = (await client.delete(f"/api/v1/users/{USER}", headers=admin)).json()["data"]
    assert (erased["deleted_spans"], erased["is_complete"]) == (0, True)
    names = {row["actor"] for row in await owner.fetch("SELECT actor FROM actor_names WHERE kind = 'user'")}
    assert USER not in names
    assert "grace" in names
    assert sum(name.startswith("erased:") for name in names) == 1

    await store(app_server.services, "alpha", [make_span(user_id=USER)])
    await fold_everything(app_server, owner)
    names = {row["actor"] for row in await owner.fetch("SELECT actor FROM actor_names WHERE kind = 'user'")}
    assert {USER, "grace"} <= names


async def test_only_who_may_delete_erases_and_only_in_its_projects(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    await project("beta")
    await spans_of_two_users(app_server)
    assert (await client.delete(f"/api/v1/users/{USER}", headers=bearer("developer", ["alpha"]))).status_code == 403
    assert (await client.delete(f"/api/v1/users/{USER}", headers=bearer("admin", ["beta"]))).status_code == 404
    assert (await client.delete(f"/api/v1/users/{USER}", headers=bearer("admin", ["alpha", "beta"]))).status_code == 400
    kept = await client.get(f"/api/v1/users/{USER}", headers=bearer("admin", ["alpha"]))
    assert kept.json()["data"]["trace_count"] == 3


def many_traces(user: str, number: int, spans: int) -> list[Any]:
    """Return traces of one user, each with its name in all that a sender can put it into."""
    now = datetime.now(UTC)
    return [
        call(
            [message("system", "Be kind."), message("user", f"I am {user}, question {trace}")],
            [message("assistant", f"Dear {user}")],
            ts=now - timedelta(hours=3 * trace),
            trace_id=f"{trace + 1:032x}",
            span_id=f"{trace * 100 + place + 1:016x}",
            user_id=user,
            attributes={"note": f"said {user}"},
            resource_attributes={"host.name": f"desk of {user}"},
        )
        for trace in range(number)
        for place in range(spans)
    ]


@pytest.mark.one_postgresql("content stored once is refused on a cluster; counts the transactions of one server")
async def test_many_traces_go_in_few_transactions(
    app_server: AppServer, project: ProjectMaker, owner: asyncpg.Connection, owner_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each transaction costs plans over all weeks and sums of the user, so their number is what an erasure costs.

    Proved by a dump: whatever a restore would bring back.
    """
    await project("alpha")
    services: Services = app_server.services
    await Writer(services).store("alpha", many_traces(USER, 60, 3))
    await Writer(services).store("alpha", [make_span(user_id="grace")])
    dump = [str(find_program(POSTGRES).with_name("pg_dump")), "--inserts", owner_url]

    async def dumped() -> str:
        done = await asyncio.to_thread(subprocess.run, dump, capture_output=True, text=True, check=True)
        return done.stdout

    assert USER in await dumped()
    commits: list[int] = []
    monkeypatch.setattr(services.writes, "on_commit", lambda projects: commits.append(len(projects)))
    erased = await erase_user(services.writes, services.freshness, "alpha", USER)
    assert (erased.traces, erased.spans, erased.is_complete) == (60, 180, True)
    # The deletion, what it leaves unused (asked until there is no more), and the name.
    assert len(commits) <= 5
    await fold_everything(app_server, owner)
    text = await dumped()
    assert USER not in text
    assert "Dear" not in text
    assert "grace" in text


async def test_a_transaction_of_an_erasure_has_so_many_spans(
    app_server: AppServer, project: ProjectMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers of the same traces wait for it; a trace that has more is deleted alone."""
    await project("alpha")
    await spans_of_two_users(app_server)
    monkeypatch.setattr(user_erasure, "_MOST_SPANS", 2)
    sizes: list[list[str]] = []

    async def noted(database: Any, freshness: Any, project_id: str, traces: list[str]) -> Any:
        sizes.append(traces)
        return await delete_traces(database, freshness, project_id, traces)

    monkeypatch.setattr(user_erasure, "delete_traces", noted)
    services: Services = app_server.services
    # Its time is up at once, and another request goes on.
    first = await erase_user(services.writes, services.freshness, "alpha", USER, seconds=0.000001)
    assert (first.traces, first.is_complete) == (0, False)
    erased = await erase_user(services.writes, services.freshness, "alpha", USER)
    assert (erased.traces, erased.spans, erased.is_complete) == (4, 5, True)
    # Trace 4 has two spans.
    assert all(len(traces) == 1 if f"{4:032x}" in traces else len(traces) <= 2 for traces in sizes)
    assert len(sizes) >= 3
