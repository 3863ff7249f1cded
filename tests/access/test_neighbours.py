"""Nothing that the admin of one project does changes what the principals of another can do."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from server.access import administration
from server.access.administration import NewClient, NewKey
from server.access.principal import Role
from server.schema.migrate import load_migrations, migrate
from tests.access.forge import own
from tests.access.test_oauth_server import GRANT, TOKEN, basic
from tests.conftest import AppServer, Cluster, ProjectMaker
from tests.ingest.otlp_payloads import JSON, as_json, export_request

Headers = Callable[..., dict[str, str]]
LATER = datetime.now(UTC) + timedelta(days=30)
SUBJECTS = ("cli", "root", "demo", "ann")


def authorization(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


class Neighbour:
    """Everybody who may come in at beta, and what each of them can do there."""

    def __init__(self, http: httpx.AsyncClient, owner: asyncpg.Connection, bearer: Headers) -> None:
        self._http, self._owner, self._bearer = http, owner, bearer
        self.credentials: dict[str, dict[str, str]] = {}
        self.names: list[str] = ["cli", "root", "demo", "ann", "beta", "*", "nobody"]

    async def move_in(self) -> None:
        for subject in SUBJECTS:
            for role, projects in ((Role.DEVELOPER, ["beta"]), (Role.ADMIN, ["beta"]), (Role.ADMIN, ["*"])):
                self.credentials[f"{subject} {role} {projects}"] = self._bearer(role, projects, subject=subject)
        for kind in ("ingest", "dashboard", "service"):
            new = NewKey(label=kind, kind=kind, projects=["beta"], expires_at=LATER, role=None)
            text, row = await administration.create_key(self._owner, new, created_by="cli")
            self._add(f"key {kind}", authorization(text), row["key_id"])
        await self._make_key("key of a key", self.credentials["key service"])
        await self._make_key("key of a token", self.credentials["ann developer ['beta']"])
        registered = NewClient(name="reports", role=Role.DEVELOPER, projects=["beta"], client_id="ann")
        secret, row = await administration.create_client(self._owner, registered, created_by="cli")
        self._basic = basic(row["client_id"], secret or "")
        answer = await self._http.post(TOKEN, data=GRANT, headers=self._basic)
        self._add("client", authorization(answer.json()["access_token"]), row["client_id"])
        await self._make_key("key of a client", self.credentials["client"])

    async def _make_key(self, name: str, maker: dict[str, str]) -> None:
        body = {"label": name, "kind": "service"}
        answer = await self._http.post("/api/v1/keys", headers=maker, json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()["data"]
        self._add(name, authorization(made["key"]), made["key_id"])

    def _add(self, name: str, headers: dict[str, str], identifier: str) -> None:
        self.credentials[name] = headers
        self.names += [identifier, *(f"{kind}{identifier}" for kind in ("key-", "key:", "client:", "idp:"))]

    async def abilities(self) -> dict[str, Any]:
        """Return the answers to each credential when it reads, writes and administers, and the rows of credentials."""
        found: dict[str, Any] = {}
        for name, headers in self.credentials.items():
            reads = await self._http.get("/api/v1/traces", headers=headers, params={"project_id": "beta"})
            sent = {**headers, "Content-Type": JSON, "X-Observatory-Project": "beta"}
            writes = await self._http.post("/v1/traces", headers=sent, content=as_json(export_request()))
            keys = await self._http.get("/api/v1/keys", headers=headers)
            found[name] = (reads.status_code, writes.status_code, keys.status_code)
        found["token endpoint"] = (await self._http.post(TOKEN, data=GRANT, headers=self._basic)).status_code
        for table, columns in {
            "api_keys": "key_id, owner, account, scopes, projects, expires_at, revoked_at, rate_limit_per_minute",
            "oauth_clients": "client_id, secret_hash, scopes, projects, disabled_at",
            "projects": "project_id, name, settings, deleted_at",
            "price_overrides": "*", "budgets": "*", "annotations": "*", "scores": "*",
        }.items():  # fmt: skip
            where = "'beta' = ANY (projects)" if "projects" in columns else "project_id = 'beta'"
            rows = await self._owner.fetch(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY 1, 2")
            found[table] = [tuple(row.values()) for row in rows]
        return found


def acts(dice: random.Random, names: list[str]) -> tuple[str, str, dict[str, Any]]:
    """Return one administrative act with names of the neighbour in it: method, path, and the rest of the request."""
    name, other = dice.choice(names), dice.choice(names)
    projects = dice.choice([["alpha"], ["beta"], ["alpha", "beta"], ["*"]])
    client = {"client_name": other, "role": dice.choice(["viewer", "admin"]), "projects": projects}
    key = {"label": name, "kind": "service", "projects": projects}
    possible: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/v1/clients", {"json": {**client, "client_id": name}}),
        ("POST", "/api/v1/clients", {"json": client}),
        ("DELETE", f"/api/v1/clients/{name}", {}),
        ("POST", f"/api/v1/clients/{name}/enable", {}),
        ("POST", "/api/v1/keys", {"json": key}),
        ("DELETE", f"/api/v1/keys/{name}", {}),
        ("PUT", f"/api/v1/budgets/beta/{name.lower()}", {"json": {"name": "b", "amount_usd": 1, "period": "day"}}),
        ("DELETE", "/api/v1/budgets/beta/unknown", {}),
        ("PUT", "/api/v1/projects/beta/ingest-settings", {"json": {"ingest": {"max_spans_per_minute": 1}}}),
        ("DELETE", "/api/v1/projects/beta", {}),
        ("POST", "/api/v1/projects", {"json": {"project_id": "beta"}}),
        ("POST", "/oauth/revoke", {"data": {"token": other}}),
        ("POST", "/api/v1/prices", {"params": {"project_id": "beta"}, "json": {
            "provider": "openai", "model": "gpt-4o", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}),
        ("DELETE", "/api/v1/scores/unknown", {"params": {"project_id": "beta"}}),
        ("DELETE", "/api/v1/annotations/unknown", {"params": {"project_id": "beta"}}),
    ]  # fmt: skip
    return dice.choice(possible)


async def test_random_acts_of_an_admin_change_nothing_next_door(
    client: httpx.AsyncClient, project: ProjectMaker, owner: asyncpg.Connection, bearer: Headers
) -> None:
    await project("alpha")
    await project("beta")
    neighbour = Neighbour(client, owner, bearer)
    await neighbour.move_in()
    before = await neighbour.abilities()
    assert before["key ingest"] == (403, 200, 403)
    assert before["cli developer ['beta']"] == before["key of a client"] == (200, 200, 200)
    # As the table says: a name in its own namespace, and in those that it might be taken for.
    new = NewKey(label="a", kind="service", projects=["alpha"], expires_at=LATER, role=Role.ADMIN)
    text, _ = await administration.create_key(owner, new, created_by="cli")
    admins = [*(bearer("admin", ["alpha"], subject=subject) for subject in SUBJECTS), authorization(text)]
    dice = random.Random(18)
    statuses = set()
    for _ in range(150):
        method, path, rest = acts(dice, neighbour.names)
        answer = await client.request(method, path, headers=dice.choice(admins), **rest)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, (method, path, rest, answer.text)
        if answer.status_code == 201 and path == "/api/v1/clients":  # its own clients come and go
            made = f"{path}/{answer.json()['data']['client_id']}"
            assert (await client.delete(made, headers=admins[0])).status_code == 200
    assert {201, 403, 404} <= statuses, "some acts are done and some refused"
    assert await neighbour.abilities() == before


async def test_a_client_of_any_name_is_nobody_else(
    client: httpx.AsyncClient, project: ProjectMaker, owner: asyncpg.Connection, bearer: Headers
) -> None:
    """Even an admin of everything, who may choose ids, ends only the client that is called so."""
    await project("alpha")
    await project("beta")
    neighbour = Neighbour(client, owner, bearer)
    await neighbour.move_in()
    before = await neighbour.abilities()
    root = bearer("admin", ["*"], subject="somebody-else")
    for name in [name for name in neighbour.names if name not in ("ann", "*", "beta") and ":" not in name]:
        body = {"client_id": name, "client_name": "x", "role": "admin", "projects": ["*"]}
        assert (await client.post("/api/v1/clients", headers=root, json=body)).status_code == 201
        assert (await client.delete(f"/api/v1/clients/{name}", headers=root)).status_code == 200
    after = await neighbour.abilities()
    del before["oauth_clients"], after["oauth_clients"]
    assert after == before


async def test_disabling_a_client_is_undone_by_enabling_it(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    admin = bearer("admin", ["alpha"])
    body = {"client_name": "nightly", "role": "developer"}
    made = (await client.post("/api/v1/clients", headers=admin, json=body)).json()["data"]
    secret, path = basic(made["client_id"], made["client_secret"]), f"/api/v1/clients/{made['client_id']}"
    token = authorization((await client.post(TOKEN, data=GRANT, headers=secret)).json()["access_token"])
    body = {"label": "k", "kind": "service"}
    key = authorization((await client.post("/api/v1/keys", headers=token, json=body)).json()["data"]["key"])

    async def statuses() -> list[int]:
        reads = [await client.get("/api/v1/traces", headers=headers) for headers in (token, key)]
        return [answer.status_code for answer in (*reads, await client.post(TOKEN, data=GRANT, headers=secret))]

    assert await statuses() == [200, 200, 200]
    assert (await client.delete(path, headers=admin)).status_code == 200
    assert await statuses() == [401, 401, 401]
    assert (await client.post(f"{path}/enable", headers=bearer("admin", ["beta"]))).status_code == 404
    enabled = await client.post(f"{path}/enable", headers=admin)
    assert (enabled.status_code, enabled.json()["data"]["disabled_at"]) == (200, None)
    assert await statuses() == [200, 200, 200]


async def test_what_a_key_makes_does_not_outdo_it(
    client: httpx.AsyncClient, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    soon = datetime.now(UTC) + timedelta(hours=1)
    new = NewKey(label="a", kind="service", projects=["alpha"], expires_at=soon, role=Role.ADMIN,
                 rate_limit_per_minute=100)  # fmt: skip
    text, row = await administration.create_key(owner, new, created_by="cli")

    async def make(path: str = "/api/v1/keys", key: str = text, **body: Any) -> httpx.Response:
        return await client.post(path, headers=authorization(key), json={"label": "b", "kind": "service", **body})

    child = (await make()).json()["data"]
    lower = (await make(rate_limit_per_minute=50)).json()["data"]
    grandchild = (await make(key=child["key"])).json()["data"]
    for made, limit in ((child, 100), (lower, 50), (grandchild, 100)):
        assert made["rate_limit_per_minute"] == limit
        assert datetime.fromisoformat(made["expires_at"]) <= soon
    accounts = await owner.fetch("SELECT DISTINCT account FROM api_keys")
    assert [row["account"] for row in accounts] == [f"key:{row['key_id']}"], "all draw on one budget"
    for body in ({"rate_limit_per_minute": 101}, {"expires_at": (soon + timedelta(seconds=2)).isoformat()}):
        refused = await make(**body)
        assert (refused.status_code, refused.json()["code"]) == (403, "grant_forbidden"), body
    as_client = {"client_name": "c", "role": "viewer"}
    answer = await client.post("/api/v1/clients", headers=authorization(text), json=as_client)
    assert answer.status_code == 403, "a client would have neither expiry nor limit"


async def test_a_narrowed_admin_registers_narrow_clients(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    narrow = bearer("admin", ["alpha"], scopes=["clients:manage", "metrics:read"])
    body = {"client_name": "c", "role": "admin"}
    made = (await client.post("/api/v1/clients", headers=narrow, json=body)).json()["data"]
    assert made["scopes"] == ["clients:manage", "metrics:read"]


async def test_tenants_with_tokens_of_one_subject_have_budgets_of_their_own(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
    left = []
    for name in ("alpha", "alpha", "beta"):
        answer = await client.get("/api/v1/projects", headers=bearer("viewer", [name], subject="cli"))
        left.append(int(answer.headers["x-ratelimit-remaining"]))
    assert left[2] == left[0] > left[1]


OLDER = 12
"""The last migration before subjects had namespaces."""
CLIENTS = {  # id: (projects, scopes, days since registered, days since disabled, was it ever used)
    "nightly": (["beta"], ["keys:manage"], 9, None, True),
    "ended": (["beta"], ["keys:manage"], 9, 2, True),
    "key-aaaaaaaaaaaa": (["alpha"], ["keys:manage"], 1, 1, False),
    "cli": (["alpha"], ["keys:manage"], 1, 1, True),
    "root": (["alpha"], ["keys:manage"], 1, 1, True),
    "reader": (["beta"], ["traces:read"], 9, None, True),
}
KEYS = {  # id: (owner, projects, days since made, limit, owner afterwards)
    "aaaaaaaaaaaa": ("key-aaaaaaaaaaaa", ["beta"], 5, None, "key:aaaaaaaaaaaa"),
    "bbbbbbbbbbbb": ("key-aaaaaaaaaaaa", ["beta"], 4, None, "key:aaaaaaaaaaaa"),
    "cccccccccccc": ("nightly", ["beta"], 4, None, "client:nightly"),
    "dddddddddddd": ("nightly", ["alpha"], 4, None, "nightly"),
    "eeeeeeeeeeee": ("nightly", ["beta"], 20, None, "nightly"),
    "ffffffffffff": ("ended", ["beta"], 4, None, "client:ended"),
    "gggggggggggg": ("ended", ["beta"], 1, None, "ended"),
    "hhhhhhhhhhhh": ("root", ["beta", "gamma"], 5, None, "root"),
    "iiiiiiiiiiii": ("idp:ann", ["beta"], 5, None, "idp:ann"),
    "jjjjjjjjjjjj": ("reader", ["beta"], 5, 10, "reader"),
}


async def test_older_databases_keep_who_may_come_in(cluster: Cluster) -> None:
    """Keys belong to the clients that can have made them, and to nobody who only took the name."""
    admin = await asyncpg.connect(cluster.url("postgres", "owner_url"))
    await admin.execute("CREATE DATABASE older_neighbours STRATEGY FILE_COPY")
    url = cluster.url("older_neighbours", "owner_url")
    try:
        await migrate(url, migrations=[item for item in load_migrations() if item.number <= OLDER])
        old = await asyncpg.connect(url)
        for name, (projects, scopes, made, ended, was_used) in CLIENTS.items():
            await old.execute(
                "INSERT INTO oauth_clients (client_id, client_name, token_endpoint_auth_method, secret_hash, role,"
                " scopes, projects, created_by, created_at, disabled_at, last_used_at) VALUES ($1, 'x',"
                " 'client_secret_basic', sha256('x'), 'admin', $2, $3, 'x', now() - make_interval(days => $4),"
                " now() - make_interval(days => $5), CASE WHEN $6 THEN now() END)",
                name, scopes, projects, made, ended, was_used,
            )  # fmt: skip
        for name, (key_owner, projects, days, limit, _) in KEYS.items():
            await old.execute(
                "INSERT INTO api_keys (key_id, secret_hash, label, kind, role, scopes, projects, owner,"
                " rate_limit_per_minute, expires_at, created_by, created_at) VALUES ($1, sha256('x'), 'x', 'service',"
                " 'developer', '{traces:read}', $2, $3, $5, now() + interval '1 day', 'x',"
                " now() - make_interval(days => $4))",
                name, projects, key_owner, days, limit,
            )  # fmt: skip
        version = await old.fetchval("SELECT version FROM access_version")
        await migrate(url)
        rows = await old.fetch("SELECT key_id, owner, account FROM api_keys")
        assert {row["key_id"]: row["owner"] for row in rows} == {name: key[4] for name, key in KEYS.items()}
        accounts = {row["key_id"]: row["account"] for row in rows}
        assert accounts["jjjjjjjjjjjj"] == "key:jjjjjjjjjjjj", "a limit of its own is a budget of its own"
        assert accounts["cccccccccccc"] == "client:nightly"
        assert accounts["hhhhhhhhhhhh"].startswith("root ")
        assert await old.fetchval("SELECT version FROM access_version") > version, "servers verify again"
        await old.close()
    finally:
        await admin.execute("DROP DATABASE older_neighbours WITH (FORCE)")
        await admin.close()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 401),
        ({"role": "developer", "scope": ...}, 200),
        ({"projects": ["beta"]}, 200),
        ({"sub": "bob"}, 200),
        ({"client_id": "bob"}, 200),
        ({"sub": "client:alice"}, 401),
        ({"sub": "client:bob"}, 401),
        ({"sub": "client:bob", "client_id": "bob"}, 200),
    ],
)
async def test_tokens_of_older_servers_end_with_their_client_and_no_others(
    app_server: AppServer,
    client: httpx.AsyncClient,
    project: ProjectMaker,
    owner: asyncpg.Connection,
    changes: dict[str, Any],
    status: int,
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
    new = NewClient(name="x", role=Role.VIEWER, projects=["alpha"], client_id="alice")
    await administration.create_client(owner, new, created_by="cli")
    await administration.disable_client(owner, "alice", disabled_by="cli")
    headers = authorization(own(**changes))
    await owner.execute("UPDATE oauth_clients SET bare_subject_until = now() + interval '1 day'")
    await app_server.services.access.state.refresh()
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == status


async def test_the_admin_of_a_project_gives_no_key_more_than_its_own_rate(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("alpha")
    for projects, limit, status in ((["alpha"], 100_000, 201), (["alpha"], 100_001, 403), (["*"], 100_001, 201)):
        body = {"label": "k", "kind": "service", "projects": ["alpha"], "rate_limit_per_minute": limit}
        answer = await client.post("/api/v1/keys", headers=bearer("admin", projects), json=body)
        assert answer.status_code == status, (projects, limit, answer.text)
