"""Storing spans: what is in the tables afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg

from server.services import Services
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store


async def test_a_span_becomes_a_row_with_its_summaries(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    span = make_span(session_id="s1", user_id="u1", total_tokens=30, prompt_tokens=20, completion_tokens=10)
    assert await store(services, "alpha", span) == 1
    row = await owner.fetchrow("SELECT * FROM llm_traces")
    assert row is not None
    assert row["ts"] == span.ts
    assert row["version"] == int((span.ts + timedelta(milliseconds=850)).timestamp() * 1_000_000)
    summary = await owner.fetchrow("SELECT * FROM trace_summaries")
    assert summary is not None
    assert summary["root_span_name"] == "chat gpt-4o"
    assert summary["total_tokens"] == 30
    session = await owner.fetchrow("SELECT * FROM session_summaries")
    assert session is not None
    assert (session["trace_count"], session["user_id"]) == (1, "u1")
    user = await owner.fetchrow("SELECT * FROM user_summaries")
    assert user is not None
    assert (user["session_count"], user["trace_count"]) == (1, 1)


async def test_a_replay_changes_nothing(services: Services, project: ProjectMaker, owner: asyncpg.Connection) -> None:
    await project("alpha")
    span = make_span(session_id="s1", user_id="u1", total_tokens=30)
    assert await store(services, "alpha", span) == 1
    before = await everything(owner)
    for _ in range(3):
        assert await store(services, "alpha", span) == 0
    assert await everything(owner) == before


async def everything(owner: asyncpg.Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows of the tables that the writer keeps."""
    found = {}
    for table in (
        "llm_traces",
        "trace_summaries",
        "session_summaries",
        "user_summaries",
        "user_sessions",
        "rollup_delta",
    ):
        found[table] = [dict(row) for row in await owner.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")]
    return found
