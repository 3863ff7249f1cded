"""Background work of each project by itself; tests/citus loses nodes."""

from __future__ import annotations

import pytest

from server.errors import DatabaseUnavailable
from server.http.services import Services
from server.storage.living_nodes import each_project
from server.telemetry.observations import BackgroundWorkFailed
from tests.conftest import ProjectMaker


async def test_a_project_that_fails_is_reported_and_keeps_no_other_waiting(
    services: Services, project: ProjectMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BackgroundWorkFailed] = []
    monkeypatch.setattr("server.storage.living_nodes.observe", seen.append)

    async def work(project: str) -> str:
        if project == "beta":
            raise DatabaseUnavailable()
        async with services.worker.unscoped() as connection:
            if project == "gamma":
                await connection.execute("SELECT 1 / 0")
            return str(await connection.fetchval("SELECT $1::text", project))

    names = [await project(name) for name in ("alpha", "beta", "gamma", "delta")]
    done = await each_project(services.worker, "some work", names, work)
    assert done == ["alpha", "delta"]
    assert [(failed.task, failed.cause) for failed in seen] == [
        ("some work", "database_unavailable"),
        ("some work", "invalid_parameter"),
    ]
