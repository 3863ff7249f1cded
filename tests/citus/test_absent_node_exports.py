"""Export jobs while a node is away: those of its projects wait for it, all others are done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from server.export.export_files import DirectoryFiles
from server.export.export_jobs import ExportJobs
from server.export.export_store import ExportStore
from tests.citus.citus_cluster import let_in, shut_out
from tests.citus.conftest import AWAY
from tests.conftest import AppServer
from tests.span_factory import make_span, store

JOBS = "/api/v1/exports"


async def test_jobs_of_other_projects_are_done_meanwhile(
    app_server: AppServer,
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    pair: tuple[str, str],
    owner_url: str,
    tmp_path: Path,
) -> None:
    here, away = pair
    client.headers.update(bearer("developer", list(pair)))
    services = app_server.services
    await services.exports.jobs.task.stop()
    jobs = ExportJobs(ExportStore(services.writes, services.worker), services.reads, DirectoryFiles(tmp_path))
    asked = {}
    for name in (away, here):  # the oldest job is taken first
        await store(services, name, [make_span() for _ in range(3)])
        answer = await client.post(JOBS, json={"format": "ndjson", "project_id": name})
        assert answer.status_code == 202, answer.text
        asked[name] = answer.json()["data"]["export_id"]

    async def states() -> list[tuple[str, int]]:
        found = [(await client.get(f"{JOBS}/{asked[name]}")).json()["data"] for name in pair]
        return [(export["state"], export["rows"]) for export in found]

    try:
        await shut_out(owner_url, AWAY)
        while await jobs.work():
            pass
        assert await states() == [("complete", 3), ("queued", 0)]
    finally:
        await let_in(owner_url, AWAY)
    jobs._resting.clear()
    assert await jobs.work()
    assert await states() == [("complete", 3), ("complete", 3)]
