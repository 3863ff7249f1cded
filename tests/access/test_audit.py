"""The audit log: acts and refusals are on record, readable by admins, and never a flood."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest

from server.access.api_key import new_api_key
from server.access.audit import MANY, MAX_GROUPS, MAX_GROUPS_IN_ALL, AuditEvent, AuditLog
from server.http.services import Services
from tests.access.forge import own
from tests.conftest import AppServer, ProjectMaker

Headers = Callable[..., dict[str, str]]
AUDIT = "/api/v1/audit"


async def test_actions_are_on_record_with_actor_target_and_request_id(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    admin = bearer("admin", ["*"], subject="root")
    made = await client.post(
        "/api/v1/keys",
        headers={**bearer("developer", ["alpha"], subject="ann"), "X-Request-ID": "request-1234"},
        json={"label": "x", "kind": "ingest"},
    )
    key_id = made.json()["data"]["key_id"]
    await client.delete(f"/api/v1/keys/{key_id}", headers=admin)
    await client.post("/api/v1/projects", headers=admin, json={"project_id": "new"})
    await client.delete("/api/v1/projects/new", headers=admin)
    rows = (await client.get(AUDIT, headers=admin)).json()["data"]
    seen = [(row["action"], row["actor"], row["target_id"]) for row in reversed(rows)]
    assert seen == [
        ("api_key.create", "ann", key_id),
        ("api_key.revoke", "root", key_id),
        ("project.create", "root", "new"),
        ("project.delete", "root", "new"),
    ]
    assert rows[-1]["request_id"] == "request-1234"
    assert rows[-1]["client_address"] == "127.0.0.1"
    assert rows[-1]["project_id"] == "alpha"


async def test_admins_see_the_rows_of_their_projects_and_others_none(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    names = [await project(name) for name in ("alpha", "beta")]
    for name in names:
        key = {"label": "x", "kind": "ingest"}
        await client.post("/api/v1/keys", headers=bearer("developer", [name]), json=key)
    await client.get("/api/v1/keys", headers={"Authorization": f"Bearer {own(exp=1)}"})
    await app_server.services.access.audit.flush()
    everything = (await client.get(AUDIT, headers=bearer("admin", ["*"]))).json()["data"]
    assert {row["project_id"] for row in everything} == {"alpha", "beta", None}
    of_alpha = (await client.get(AUDIT, headers=bearer("admin", ["alpha"]))).json()["data"]
    assert [row["project_id"] for row in of_alpha] == ["alpha"]
    for role in ("developer", "viewer", "billing"):
        assert (await client.get(AUDIT, headers=bearer(role, ["alpha"]))).status_code == 403


async def test_pages_and_filters(
    services: Services, client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    for number in range(25):
        event = AuditEvent(
            action="export.create", actor=f"user-{number % 2}", projects=("alpha",), target_id=str(number)
        )
        await services.access.audit.record(event)
    admin = bearer("admin", ["*"])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 10, "action": "export.create", **({"cursor": cursor} if cursor else {})}
        page = (await client.get(AUDIT, headers=admin, params=params)).json()
        seen += [row["target_id"] for row in page["data"]]
        cursor = page["pagination"]["cursor"]
        assert page["pagination"]["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert seen == [str(number) for number in reversed(range(25))]
    one = (await client.get(AUDIT, headers=admin, params={"actor": "user-1", "outcome": "done"})).json()
    assert len(one["data"]) == 12
    assert (await client.get(AUDIT, headers=admin, params={"to": "now-1d"})).json()["data"] == []
    first = (await client.get(AUDIT, headers=admin, params={"limit": 10})).json()["pagination"]["cursor"]
    for params in (
        {"cursor": first, "actor": "user-1"},
        {"cursor": first[:-2] + "AA"},
        {"cursor": "eyJ0aW1lc3RhbXAiOjB9"},
        {"limit": 0},
        {"limit": 1001},
        {"outcome": "x"},
        {"from": "yesterday"},
        {"project": "alpha"},
        {"action": ""},
    ):
        assert (await client.get(AUDIT, headers=admin, params=params)).status_code == 400, params
    other = bearer("admin", ["*"], subject="somebody-else")
    assert (await client.get(AUDIT, headers=other, params={"cursor": first})).status_code == 400


async def test_flood_of_bad_tokens_is_counted_in_few_lines_and_rows(
    app_server: AppServer, client: httpx.AsyncClient, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": f"Bearer {own(exp=1)}"}
    with caplog.at_level(logging.INFO, logger="observatory.audit"):
        statuses = [(await client.get("/api/v1/keys", headers=headers)).status_code for _ in range(300)]
        await app_server.services.access.audit.flush()
    lines = [record for record in caplog.records if record.name == "observatory.audit"]
    assert 1 <= len(lines) <= 3
    row = await owner.fetchrow("SELECT reason, occurrences, client_address FROM audit_log WHERE outcome = 'refused'")
    assert tuple(row or ()) == ("expired", statuses.count(401), "127.0.0.1")


async def test_flood_from_many_addresses_stays_bounded_and_is_counted(
    services: Services, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(services.reads)
    with caplog.at_level(logging.INFO, logger="observatory.audit"):
        for number in range(10_000):
            address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
            log.refused(AuditEvent(action="request", outcome="refused", reason="expired", client_address=address))
        await log.flush()
    assert len(caplog.records) <= 100
    assert await owner.fetchval("SELECT count(*) FROM audit_log") == MAX_GROUPS + 1
    assert await owner.fetchval("SELECT sum(occurrences) FROM audit_log") == 10_000
    assert await owner.fetchval("SELECT occurrences FROM audit_log WHERE actor = $1", MANY) == 10_000 - MAX_GROUPS


async def test_refusals_are_kept_apart_by_reason_and_name_no_secret(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    key, token = new_api_key().text, own(sub="a:b")
    await client.get("/api/v1/keys", headers={"X-API-Key": key})
    await client.get("/api/v1/keys", headers={"X-API-Key": key[:-1] + ("0" if key[-1] != "0" else "1")})
    await client.get("/api/v1/keys", headers={"Authorization": f"Bearer {token}"})
    await client.get("/api/v1/keys", headers={"Authorization": "Bearer not,a,token"})
    await client.get("/api/v1/keys", headers=bearer("viewer", ["alpha"]))
    await client.post("/api/v1/keys", headers=bearer("developer", ["alpha"]),
                      json={"label": "x", "kind": "ingest", "projects": ["beta"]})  # fmt: skip
    await client.post(
        "/oauth/token", data={"grant_type": "client_credentials", "client_id": "x", "client_secret": "s3cret"}
    )
    await app_server.services.access.audit.flush()
    rows = await owner.fetch("SELECT *, audit_log::text AS whole FROM audit_log")
    assert {row["reason"] for row in rows} == {
        "unknown_key", "checksum", "claims", "insufficient_scope", "project_forbidden", "invalid_client",
        "invalid_token",
    }  # fmt: skip
    for row in rows:
        for secret in (key, key.split("_")[2], token, token.split(".")[2], "s3cret"):
            assert secret not in row["whole"]


async def test_lost_database_loses_refusals_into_a_count_and_raises_nothing() -> None:
    from server.storage.database import Database

    database = Database("postgresql://127.0.0.1:1/x", role=None, size=1, acquire_timeout=0.2, statement_timeout=1,
                        application_name="x")  # fmt: skip
    await database.open()
    log = AuditLog(database)
    log.refused(AuditEvent(action="request", outcome="refused", reason="expired"))
    log.refused(AuditEvent(action="request", outcome="refused", reason="expired"))
    await log.flush()
    assert log.lost_count == 2
    await database.close()


async def test_a_flood_of_one_project_hides_nothing_of_another(services: Services, owner: asyncpg.Connection) -> None:
    log = AuditLog(services.reads)

    def refused(project: str, number: int) -> None:
        event = AuditEvent(action="request", outcome="refused", reason="x", projects=(project,), actor=f"a{number}")
        log.refused(event)

    for number in range(MAX_GROUPS * 3):
        refused("alpha", number)
    refused("beta", 7)
    for number in range(MAX_GROUPS_IN_ALL + 5):
        refused(f"p{number}", 1)
    await log.flush()
    rows = await owner.fetch("SELECT actor, projects, occurrences FROM audit_log")
    assert [row["actor"] for row in rows if row["projects"] == ["beta"]] == ["a7"]
    of_alpha = {row["actor"]: row["occurrences"] for row in rows if row["projects"] == ["alpha"]}
    assert len(of_alpha) == MAX_GROUPS + 1
    assert of_alpha[MANY] == MAX_GROUPS * 2, "the admins of alpha see how many more there were"
    assert len(rows) == MAX_GROUPS_IN_ALL + 1
    assert sum(row["occurrences"] for row in rows) == MAX_GROUPS * 3 + 1 + MAX_GROUPS_IN_ALL + 5
