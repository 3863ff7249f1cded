"""Group K of the abuse cases: API keys."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from server.access import administration
from server.access.api_key import KEY_KINDS, ApiKey, new_api_key, parse_api_key
from server.access.principal import SCOPES, Role
from tests.conftest import AppFactory, AppServer, ProjectMaker, TokenMaker

Headers = Any
KEYS = "/api/v1/keys"


@pytest.fixture
async def alpha(project: ProjectMaker) -> str:
    await project("beta")
    return await project("alpha")


async def make_key(client: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = await client.post(KEYS, headers=headers, json={"label": "test", "kind": "dashboard", **body})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_a_key_has_prefix_id_secret_and_checksum_and_160_random_bits() -> None:
    made = {new_api_key().text for _ in range(200)}
    assert len(made) == 200
    for text in made:
        match = re.fullmatch(r"llmo_([a-z2-7]{12})_([a-z2-7]{32})_[0-9a-f]{8}", text)
        assert match is not None
        assert parse_api_key(text) == ApiKey(match[1], match[2])
        assert len(match[2]) * 5 == 160


def test_a_changed_character_or_another_form_is_no_key() -> None:
    text = new_api_key().text
    for place in range(5, len(text)):
        replaced = "a" if text[place] != "a" else "b"
        assert parse_api_key(text[:place] + replaced + text[place + 1 :]) is None
    for other in ("", "llmo_", text.upper(), text + " ", text + "\n", text[:-1], text.replace("_", "-"), "\udcff"):
        assert parse_api_key(other) is None


def test_repr_of_a_key_hides_its_secret() -> None:
    key = new_api_key()
    assert key.secret not in repr(key)


async def test_wrong_checksum_is_refused_without_a_database(start_app: AppFactory) -> None:
    server = await start_app(database_pool_size=1, acquire_timeout=20.0)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as http, server.services.reads.plain():
        started = time.perf_counter()
        answer = await http.get(KEYS, headers={"X-API-Key": new_api_key().text[:-8] + "00000000"})
        assert answer.status_code == 401
        assert time.perf_counter() - started < 10  # a connection would be waited for twice as long


async def test_only_the_hash_is_stored_and_the_key_is_shown_once(
    client: httpx.AsyncClient, alpha: str, bearer: Headers, owner: asyncpg.Connection
) -> None:
    headers = bearer("developer", [alpha])
    made = await make_key(client, headers)
    secret = made["key"].split("_")[2]
    row = await owner.fetchrow("SELECT * FROM api_keys WHERE key_id = $1", made["key_id"])
    assert row is not None
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).digest()
    for answer in (
        await client.get(KEYS, headers=headers),
        await client.get(f"{KEYS}/{made['key_id']}", headers=headers),
    ):
        assert answer.status_code == 200
        assert "no-store" in answer.headers["cache-control"]
        assert secret not in answer.text
        assert row["secret_hash"].hex() not in answer.text
    dump = await owner.fetchval("SELECT string_agg(a::text, ' ') FROM audit_log a")
    assert secret not in dump


async def test_list_holds_the_same_fields_for_every_key_and_never_a_secret(
    client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    headers = bearer("developer", [alpha])
    await make_key(client, headers)
    await make_key(client, headers, kind="ingest")
    rows = (await client.get(KEYS, headers=headers)).json()["data"]
    assert [set(row) for row in rows] == [set(rows[0])] * 2
    assert not {"key", "secret", "secret_hash"} & set(rows[0])


async def test_revoked_key_is_out_at_once_here_and_within_seconds_in_another_process(
    start_app: AppFactory, alpha: str, bearer: Headers
) -> None:
    first, second = await start_app(), await start_app()
    async with httpx.AsyncClient(base_url=first.base_url) as one, httpx.AsyncClient(base_url=second.base_url) as two:
        key = await make_key(one, bearer("developer", [alpha]))
        headers = {"X-API-Key": key["key"]}
        for http in (one, two):  # both remember it now
            assert (await http.get("/api/v1/projects", headers=headers)).status_code == 200
        revoked = await one.delete(f"{KEYS}/{key['key_id']}", headers=bearer("developer", [alpha]))
        assert revoked.json()["data"]["revoked_at"] is not None
        assert (await one.get("/api/v1/projects", headers=headers)).status_code == 401
        deadline = time.monotonic() + 5
        while (await two.get("/api/v1/projects", headers=headers)).status_code != 401:
            assert time.monotonic() < deadline, "the other process still takes the key after 5 s"
            await asyncio.sleep(0.1)


async def test_expired_key_and_wrong_secret_are_refused(
    client: httpx.AsyncClient, alpha: str, bearer: Headers, owner: asyncpg.Connection
) -> None:
    made = await make_key(client, bearer("developer", [alpha]))
    key = parse_api_key(made["key"])
    assert key is not None
    wrong = ApiKey(key.key_id, "a" * 32).text
    assert (await client.get("/api/v1/projects", headers={"X-API-Key": wrong})).status_code == 401
    await owner.execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")
    assert (await client.get("/api/v1/projects", headers={"X-API-Key": made["key"]})).status_code == 401


async def test_two_credentials_are_ambiguous(client: httpx.AsyncClient, token: TokenMaker) -> None:
    headers = {"X-API-Key": new_api_key().text, "Authorization": f"Bearer {token()}"}
    answer = await client.get(KEYS, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_credentials")


FAR = f"{datetime.now(UTC).year + 20}-01-01T00:00:00Z"


async def test_nobody_gives_away_more_than_it_has(client: httpx.AsyncClient, alpha: str, bearer: Headers) -> None:
    headers = bearer("developer", [alpha])
    for body in (
        {"role": "admin"},
        {"projects": ["beta"]},
        {"projects": ["alpha", "beta"]},
        {"projects": ["unknown"]},
        {"projects": ["*"]},
        {"kind": "service", "scopes": ["audit:read"], "role": "admin"},
        {"kind": "ingest", "rate_limit_per_minute": 5},
        {"expires_at": FAR},
    ):
        answer = await client.post(KEYS, headers=headers, json={"label": "x", "kind": "dashboard", **body})
        assert answer.status_code == 403, (body, answer.text)
    for member in ("projects", "scopes"):
        answer = await client.post(KEYS, headers=headers, json={"label": "x", "kind": "dashboard", member: []})
        assert answer.status_code == 400, "an empty list is not the default"


async def test_a_narrowed_token_makes_narrow_keys(client: httpx.AsyncClient, alpha: str, bearer: Headers) -> None:
    headers = bearer("developer", [alpha], scopes=["keys:manage", "metrics:read"])
    made = await make_key(client, headers)
    assert made["scopes"] == ["metrics:read"]
    wide = {"label": "x", "kind": "dashboard", "scopes": ["metrics:read", "content:read"]}
    assert (await client.post(KEYS, headers=headers, json=wide)).status_code == 403
    nothing = {"label": "x", "kind": "ingest"}
    assert (await client.post(KEYS, headers=headers, json=nothing)).status_code == 403


@pytest.mark.parametrize(
    ("kind", "forbidden"),
    [
        ("ingest", set(SCOPES) - {"traces:write"}),
        ("dashboard", {name for name in SCOPES if not name.endswith(":read")}),
    ],
)
def test_kind_limits_the_scopes(kind: str, forbidden: set[str]) -> None:
    assert not KEY_KINDS[kind].scopes & forbidden
    for scope in sorted(forbidden):
        with pytest.raises(ValueError, match=r"kind|unknown"):
            administration.NewKey(label="x", kind=kind, projects=["*"], role=Role.ADMIN, scopes=[scope],
                                  expires_at=datetime.now(UTC) + timedelta(days=1))  # fmt: skip


async def test_ingest_key_cannot_read_and_dashboard_key_cannot_write(
    client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    headers = bearer("developer", [alpha])
    ingest, dashboard = await make_key(client, headers, kind="ingest"), await make_key(client, headers)
    reading = await client.get("/api/v1/projects", headers={"X-API-Key": ingest["key"]})
    assert (reading.status_code, reading.json()["code"]) == (403, "insufficient_scope")
    writing = await client.post(KEYS, headers={"Authorization": f"Bearer {dashboard['key']}"}, json={})
    assert (writing.status_code, writing.json()["code"]) == (403, "insufficient_scope")


async def test_key_in_the_address_or_a_cookie_is_not_taken(
    client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    key = (await make_key(client, bearer("developer", [alpha])))["key"]
    assert (await client.get(f"/api/v1/projects?api_key={key}")).status_code == 401
    assert (await client.get("/api/v1/projects", headers={"Cookie": f"x-api-key={key}"})).status_code == 401


async def test_flood_of_bad_keys_is_stopped_and_the_good_key_goes_on(
    app_server: AppServer, client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    good = {"X-API-Key": (await make_key(client, bearer("developer", [alpha])))["key"]}
    assert (await client.get("/api/v1/projects", headers=good)).status_code == 200
    began = time.monotonic()
    statuses = [
        (await client.get("/api/v1/projects", headers={"X-API-Key": new_api_key().text})).status_code
        for _ in range(100)
    ]
    assert statuses.count(401) <= 61 + (time.monotonic() - began), "60 at once, and one for each second"
    last = await client.get("/api/v1/projects", headers={"X-API-Key": new_api_key().text})
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1
    assert (await client.get("/api/v1/projects", headers=good)).status_code == 200
    app_server.services.access.authenticator._verified.clear()  # and when it has to be verified again, too
    assert (await client.get("/api/v1/projects", headers=good)).status_code == 200


async def test_last_use_is_noted(
    app_server: AppServer, client: httpx.AsyncClient, alpha: str, bearer: Headers, owner: asyncpg.Connection
) -> None:
    made = await make_key(client, bearer("developer", [alpha]))
    assert made["last_used_at"] is None
    await client.get("/api/v1/projects", headers={"X-API-Key": made["key"]})
    version = await owner.fetchval("SELECT version FROM access_version")
    await app_server.services.access.authenticator.note_use()
    assert await owner.fetchval("SELECT last_used_at > now() - interval '1 min' FROM api_keys")
    assert await owner.fetchval("SELECT version FROM access_version") == version, "noting a use empties no memory"


async def test_keys_are_listed_to_their_owner_and_to_admins_of_their_projects(
    client: httpx.AsyncClient, alpha: str, bearer: Headers
) -> None:
    made = await make_key(client, bearer("developer", [alpha], subject="ann"))
    path = f"{KEYS}/{made['key_id']}"
    for headers, status in (
        (bearer("developer", [alpha], subject="ann"), 200),
        (bearer("developer", [alpha], subject="bob"), 404),
        (bearer("admin", [alpha], subject="bob"), 200),
        (bearer("admin", ["beta"], subject="bob"), 404),
        (bearer("admin", ["*"], subject="bob"), 200),
        (bearer("viewer", [alpha], subject="ann"), 403),
    ):
        assert (await client.get(path, headers=headers)).status_code == status
    assert (await client.delete(path, headers=bearer("developer", [alpha], subject="bob"))).status_code == 404


BAD_BODIES = [
    b"", b"null", b"[]", b'"x"', b"{", b'{"label":"a","label":"b"}', b'{"label":NaN}', b'{"label":"a"}', b"[" * 60_000,
    b'{"label":"a","kind":"dashboard","admin":true}', b'{"label":"a\\u0000","kind":"dashboard"}',
    b'{"label":"\\ud800","kind":"dashboard"}', b'{"label":1,"kind":"dashboard"}', b'{"label":"a","kind":"root"}',
    b'{"label":"a","kind":"dashboard","role":"root"}', b'{"label":"a","kind":"dashboard","scopes":["nope"]}',
    b'{"label":"a","kind":"dashboard","expires_at":"2020-01-01T00:00:00Z"}',
    b'{"label":"a","kind":"dashboard","expires_at":"tomorrow"}', b'{"label":"a","kind":"dashboard","owner":"root"}',
]  # fmt: skip


async def test_bodies_are_read_strictly(client: httpx.AsyncClient, alpha: str, bearer: Headers) -> None:
    headers = {**bearer("admin", [alpha]), "Content-Type": "application/json"}
    for content in BAD_BODIES:
        answer = await client.post(KEYS, headers=headers, content=content)
        assert answer.status_code == 400, (content[:60], answer.text)
    assert (await client.post(KEYS, headers=headers, content=b"x" * 100_000)).status_code == 413
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post(KEYS, headers=form, content=b"label=x")).status_code == 415
