"""Daily exports by setting: one job for each project and day, whole, and seen by those who see every project."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from server.export.daily_exports import CREATED_BY, daily_id, due_days
from tests.conftest import AppFactory
from tests.span_factory import make_span, store


def test_a_day_is_due_two_hours_after_its_end() -> None:
    midnight = datetime(2026, 11, 28, tzinfo=UTC)
    before, after = (due_days(midnight + timedelta(hours=hours))[0] for hours in (1.9, 2.1))
    assert before == datetime(2026, 11, 26, tzinfo=UTC)
    assert after == datetime(2026, 11, 27, tzinfo=UTC)


async def test_each_project_and_day_is_exported_once(start_app: AppFactory, project: Any, bearer: Any) -> None:
    await project("alpha")
    await project("beta")
    first, second = await start_app(export_daily="ndjson"), await start_app(export_daily="ndjson")
    day = due_days(datetime.now(UTC))[0]
    inside = [make_span(ts=day + timedelta(hours=hours), input_text="why?") for hours in (0, 23)]
    outside = [make_span(ts=day - timedelta(seconds=1)), make_span(ts=day + timedelta(days=1))]
    await store(first.services, "alpha", [*inside, *outside])
    for server in (first, second, first):
        await server.services.exports.daily.look()
    while await first.services.exports.jobs.work():
        pass
    admin = bearer("admin", ["*"])
    async with httpx.AsyncClient(base_url=first.base_url, timeout=20) as http:
        listed = (await http.get("/api/v1/exports", headers=admin)).json()["data"]
        assert len(listed) == 6
        assert {export["created_by"] for export in listed} == {CREATED_BY}
        export_id = daily_id("alpha", day, "ndjson")
        found = (await http.get(f"/api/v1/exports/{export_id}", headers=admin)).json()["data"]
        assert (found["state"], found["rows"], found["projects"]) == ("complete", 2, ["alpha"])
        for headers in (bearer("developer", ["alpha"]), bearer("admin", ["alpha"])):
            assert (await http.get("/api/v1/exports", headers=headers)).json()["data"] == []
            assert (await http.get(f"/api/v1/exports/{export_id}", headers=headers)).status_code == 404


async def test_without_the_setting_there_are_none(start_app: AppFactory, project: Any) -> None:
    await project("alpha")
    server = await start_app()
    await server.services.exports.daily.look()
    assert not await server.services.exports.jobs.work()
