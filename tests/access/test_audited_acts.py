"""Each act of administration, and each refusal, is on record where the admins of the project can read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from server.access import administration
from server.access.administration import NewKey, latest_expiry
from server.http.guard import access_policy
from tests.access.test_oauth_server import GRANT, TOKEN, basic
from tests.access.test_route_matrix import ROUTES
from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Headers = Callable[..., dict[str, str]]
AUDIT = "/api/v1/audit"
TRACE = "a" * 32


@dataclass(frozen=True)
class Act:
    """A request that changes something; ``{name}`` in it is replaced by what an earlier act left under that name."""

    method: str
    path: str
    action: str
    sent: dict[str, Any] = field(default_factory=dict)
    keeps: str = ""
    """Name of the member of the answer that later acts need."""


PRICE = {"provider": "openai", "model": "gpt-x", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
ACTS = (
    Act("POST", "/api/v1/keys", "api_key.create", {"label": "x", "kind": "ingest", "projects": ["alpha"]}, "key_id"),
    Act("DELETE", "/api/v1/keys/{key_id}", "api_key.revoke"),
    Act("POST", "/api/v1/clients", "client.create",
        {"client_name": "x", "role": "viewer", "projects": ["alpha"]}, "client_id"),
    Act("DELETE", "/api/v1/clients/{client_id}", "client.disable"),
    Act("POST", "/api/v1/clients/{client_id}/enable", "client.enable"),
    Act("PUT", "/api/v1/budgets/alpha/month", "budget.set", {"name": "b", "amount_usd": 1, "period": "month"}),
    Act("DELETE", "/api/v1/budgets/alpha/month", "budget.delete"),
    Act("PUT", "/api/v1/projects/alpha/ingest-settings", "project.ingest_settings", {"ingest": {}}),
    Act("POST", "/api/v1/prices?project_id=alpha", "price.set", PRICE),
    Act("DELETE", "/api/v1/prices?project_id=alpha&provider=openai&model=gpt-x", "price.delete"),
    Act("POST", "/api/v1/costs/reprice?project_id=alpha", "costs.reprice", {"from": "now-1h", "dry_run": False}),
    Act("POST", "/api/v1/annotations", "annotation.create", {"title": "x", "project_id": "alpha"}, "annotation_id"),
    Act("DELETE", "/api/v1/annotations/{annotation_id}", "annotation.delete"),
    Act("POST", "/api/v1/exports", "export.create", {"project_id": ["alpha"], "format": "ndjson"}, "export_id"),
    Act("DELETE", "/api/v1/exports/{export_id}", "export.cancel"),
    Act("DELETE", "/api/v1/scores/s1?project_id=alpha", "score.delete"),
    Act("DELETE", f"/api/v1/traces/{TRACE}?project_id=alpha", "trace.delete"),
    Act("DELETE", "/api/v1/users/u1?project_id=alpha", "user.erase"),
    Act("POST", "/api/v1/projects", "project.create", {"project_id": "gamma"}),
    Act("DELETE", "/api/v1/projects/gamma", "project.delete"),
)  # fmt: skip

# Routes that write without administering (telemetry, scores), ask with a body, or have a test of their own.
OTHERS = re.compile(
    r"v1/(traces|logs|metrics|traces/explain)|api/v1/scores(/batch)?|api/v1/(traces/search|metrics/query)"
    r"|grafana/.*|prometheus/.*|mcp|oauth/(token|revoke|introspect)"
)


def test_every_route_that_changes_something_is_among_the_acts() -> None:
    for route in ROUTES:
        template = re.compile("/" + re.sub(r"<[^>]*>", "[^/]+", route.path))
        for method in route.methods & {"POST", "PUT", "PATCH", "DELETE"}:
            if access_policy(route.handler) is not None and not OTHERS.fullmatch(route.path):
                paths = [act.path.partition("?")[0] for act in ACTS if act.method == method]
                assert any(template.fullmatch(path) for path in paths), f"{method} {route.path} is not audited here"


async def test_every_act_is_on_record_and_the_admin_of_the_project_reads_it(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", make_span(trace_id=TRACE, ts=datetime.now(UTC)))
    await store(app_server.services, "alpha", make_span(trace_id="b" * 32, ts=datetime.now(UTC), user_id="u1"))
    every = bearer("admin", ["*"], subject="root")
    score = {"score_id": "s1", "trace_id": TRACE, "name": "n", "value": 1}
    await client.post("/api/v1/scores?project_id=alpha", headers=every, json=score)
    kept: dict[str, Any] = {}
    for act in ACTS:
        answer = await client.request(act.method, act.path.format_map(kept), headers=every, json=act.sent or None)
        assert answer.status_code in (200, 201, 202), (act.path, answer.text)
        if act.keeps:
            kept.update(answer.json()["data"])
        if act.action == "client.enable":
            pair = basic(kept["client_id"], kept["client_secret"])
            token = (await client.post(TOKEN, data=GRANT, headers=pair)).json()["access_token"]
            assert (await client.post("/oauth/revoke", data={"token": token}, headers=pair)).status_code == 200
    expected = {act.action for act in ACTS} | {"token.issue", "token.revoke"}
    rows = (await client.get(AUDIT, headers=bearer("admin", ["alpha"]))).json()["data"]
    assert {row["action"] for row in rows} == expected - {"project.create", "project.delete"}
    assert {row["actor"] for row in rows} == {"root", f"client:{kept['client_id']}"}
    assert {row["project_id"] for row in rows} == {"alpha"}
    everything = (await client.get(AUDIT, headers=every)).json()["data"]
    assert {row["action"] for row in everything} == expected
    assert (await client.get(AUDIT, headers=bearer("admin", ["beta"]))).json()["data"] == []


async def test_refusals_are_shown_to_the_admins_of_the_projects_that_the_credential_opens(
    app_server: AppServer,
    client: httpx.AsyncClient,
    project: ProjectMaker,
    bearer: Headers,
    owner: asyncpg.Connection,
) -> None:
    for name in ("alpha", "beta", "gamma"):
        await project(name)
    new = NewKey(label="k", kind="ingest", projects=["alpha"], expires_at=latest_expiry(30))
    key, row = await administration.create_key(owner, new, created_by="cli")
    await administration.revoke_key(owner, row["key_id"], revoked_by="cli")
    sent = {"client_name": "x", "role": "viewer", "projects": ["alpha"]}
    registered = (await client.post("/api/v1/clients", headers=bearer("admin", ["*"]), json=sent)).json()["data"]

    await client.get(AUDIT, headers=bearer("viewer", ["alpha", "beta"], subject="ann"))
    await client.get("/api/v1/traces?project_id=gamma", headers=bearer("viewer", ["beta"], subject="bob"))
    await client.get("/api/v1/keys", headers={"X-API-Key": key})
    await client.post(TOKEN, data=GRANT, headers=basic(registered["client_id"], "wrong"))
    await client.post(TOKEN, data=GRANT, headers=basic("nobody", "wrong"))
    await app_server.services.access.audit.flush()

    async def seen(name: str) -> list[tuple[str, str | None, str | None]]:
        answer = await client.get(AUDIT, headers=bearer("admin", [name]), params={"outcome": "refused"})
        return sorted((row["reason"], row["actor"], row["target_id"]) for row in answer.json()["data"])

    scope = ("insufficient_scope", "ann", "GET /api/v1/audit")
    forbidden = ("project_forbidden", "bob", "GET /api/v1/traces")
    alpha = {scope[0]: scope, "revoked": ("revoked", None, "GET /api/v1/keys"),
             "invalid_client": ("invalid_client", None, registered["client_id"])}  # fmt: skip
    assert await seen("alpha") == sorted(alpha.values())
    assert await seen("beta") == sorted([scope, forbidden])
    assert await seen("gamma") == [], "who was turned away there is none of its business"
