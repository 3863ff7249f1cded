"""Group T of the abuse cases: the token endpoint and its companions."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.jwk import ECKey

from server.access import rate_policy
from server.access.access_services import build_access
from server.access.api_key import new_api_key
from server.access.authenticator import CredentialRefused
from server.access.rate_policy import TOKEN_ENDPOINT_PER_MINUTE
from server.errors import ApiError
from server.settings import Settings
from server.storage.database import Database
from server.storage.redis_store import RedisStore
from tests.access.forge import own
from tests.conftest import JWT_SECRET, AppFactory, AppServer, ProjectMaker

TOKEN = "/oauth/token"
GRANT = {"grant_type": "client_credentials"}
Client = dict[str, Any]
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
async def register(
    client: httpx.AsyncClient, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> Callable[..., Any]:
    """Registers clients of the project alpha."""
    await project("alpha")

    async def make(**body: Any) -> Client:
        sent = {"client_name": "test", "role": "developer", "projects": ["alpha"], **body}
        answer = await client.post("/api/v1/clients", headers=bearer("admin", ["*"]), json=sent)
        assert answer.status_code == 201, answer.text
        data: Client = answer.json()["data"]
        return data

    return make


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def credentials(registered: Client) -> dict[str, str]:
    return basic(registered["client_id"], registered["client_secret"])


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


async def test_token_is_an_rfc_9068_token_that_opens_the_api(client: httpx.AsyncClient, register: Any) -> None:
    registered = await register()
    answer = await client.post(TOKEN, data={**GRANT, "scope": "metrics:read"}, headers=credentials(registered))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert (body["expires_in"], body["scope"]) == (3600, "metrics:read")
    claims = claims_of(body["access_token"])
    assert set(claims) == {"iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope", "role", "projects"}
    assert claims["client_id"] == registered["client_id"]
    assert claims["sub"] == f"client:{registered['client_id']}", "RFC 9068, 5: a client id is no other subject"
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert (await client.get("/api/v1/projects", headers=headers)).json()["data"][0]["project_id"] == "alpha"
    assert (await client.get("/api/v1/keys", headers=headers)).status_code == 403


async def test_authlib_client_gets_and_uses_a_token(app_server: AppServer, register: Any) -> None:
    registered = await register()
    for method in ("client_secret_basic", "client_secret_post"):
        async with AsyncOAuth2Client(
            registered["client_id"], registered["client_secret"], token_endpoint_auth_method=method
        ) as http:
            await http.fetch_token(f"{app_server.base_url}{TOKEN}", **GRANT)
            assert (await http.get(f"{app_server.base_url}/api/v1/projects")).status_code == 200


async def test_go_client_tries_the_header_first_and_then_the_form(client: httpx.AsyncClient, register: Any) -> None:
    registered = await register(client_id="go.client-1")
    header = {**basic("go.client-1", registered["client_secret"]), "User-Agent": "Go-http-client/1.1"}
    first = await client.post(TOKEN, data={**GRANT, "scope": "traces:read metrics:read"}, headers=header)
    assert first.status_code == 200
    assert isinstance(first.json()["expires_in"], int)
    second = await client.post(
        TOKEN, data={**GRANT, "client_id": "go.client-1", "client_secret": registered["client_secret"]}
    )
    assert second.status_code == 200


@pytest.fixture
def es256() -> ECKey:
    return ECKey.generate_key("P-256", {"kid": "k1"})


def assertion(key: ECKey, client_id: str, audience: Any, **changes: Any) -> dict[str, str]:
    now = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + 60,
              "jti": uuid.uuid4().hex, **changes}  # fmt: skip
    kept = {name: value for name, value in claims.items() if value is not ...}
    signed = jwt.encode({"alg": "ES256", "kid": "k1"}, kept, key, algorithms=["ES256"])
    return {**GRANT, "client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


async def test_private_key_jwt_lets_in_once(
    app_server: AppServer, client: httpx.AsyncClient, register: Any, es256: ECKey
) -> None:
    registered = await register(jwks={"keys": [es256.as_dict(private=False)]})
    assert registered["client_secret"] is None
    client_id, audience = registered["client_id"], f"{app_server.services.settings.base_url}{TOKEN}"
    good = assertion(es256, client_id, audience)
    assert (await client.post(TOKEN, data=good)).status_code == 200
    assert (await client.post(TOKEN, data=good)).status_code == 401, "a used assertion"
    now = int(time.time())
    other = ECKey.generate_key("P-256", {"kid": "k1"})
    for form in (
        assertion(es256, client_id, audience, exp=now + 10 * 365 * 86400),
        assertion(es256, client_id, audience, exp=now - 100),
        assertion(es256, client_id, [audience]),
        assertion(es256, client_id, "https://elsewhere.example/token"),
        assertion(es256, client_id, audience, jti=...),
        assertion(es256, client_id, audience, iss="somebody"),
        assertion(es256, client_id, audience, iat=...),
        assertion(other, client_id, audience),
        {**GRANT, "client_assertion_type": ASSERTION_TYPE, "client_assertion": "a.b.c"},
    ):
        answer = await client.post(TOKEN, data=form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), form
    # A secret of a client that has keys is no way in.
    assert (await client.post(TOKEN, data=GRANT, headers=basic(client_id, "x"))).status_code == 401


async def test_jwks_of_a_client_must_be_public(
    client: httpx.AsyncClient, register: Any, es256: ECKey, bearer: Callable[..., dict[str, str]]
) -> None:
    del register
    jwks: Any
    for jwks in ({"keys": [es256.as_dict(private=True)]}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA"}]}, {}):
        body = {"client_name": "x", "role": "viewer", "projects": ["alpha"], "jwks": jwks}
        answer = await client.post("/api/v1/clients", headers=bearer("admin", ["*"]), json=body)
        assert answer.status_code == 400
        assert str(es256.as_dict(private=True)["d"]) not in answer.text


async def test_requests_that_are_wrong_get_the_errors_of_rfc_6749(client: httpx.AsyncClient, register: Any) -> None:
    registered = await register(scopes=["metrics:read"])
    headers = credentials(registered)
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    for case, sent, error in (
        ("password", {"data": {"grant_type": "password"}}, "unsupported_grant_type"),
        ("unknown", {"data": {"grant_type": "x y"}}, "unsupported_grant_type"),
        ("implicit", {"data": {"grant_type": "implicit"}}, "unsupported_grant_type"),
        ("none", {"data": {"x": "y"}}, "unsupported_grant_type"),
        ("twice", {"content": b"grant_type=client_credentials&grant_type=x", "headers": form}, "invalid_request"),
        ("JSON", {"json": GRANT}, "invalid_request"),
        ("no type", {"content": b"grant_type=client_credentials"}, "invalid_request"),
        ("long", {"content": b"a=" + b"x" * 20_000, "headers": form}, "invalid_request"),
        ("not UTF-8", {"content": b"grant_type=%ff", "headers": form}, "invalid_request"),
        ("in the address", {"data": GRANT, "params": {"client_id": "x"}}, "invalid_request"),
        ("two ways", {"data": {**GRANT, "client_secret": "x"}}, "invalid_request"),
        ("wider", {"data": {**GRANT, "scope": "metrics:read traces:read"}}, "invalid_scope"),
        ("unknown", {"data": {**GRANT, "scope": "root"}}, "invalid_scope"),
        ("audience", {"data": {**GRANT, "audience": "https://other.example"}}, "invalid_target"),
        ("resource", {"data": {**GRANT, "resource": "https://other.example"}}, "invalid_target"),
    ):
        answer = await client.post(TOKEN, **{"headers": headers, **sent})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]) == (400, error), case
        assert answer.headers["cache-control"] == "no-store", case
    assert (await client.post(TOKEN, content=b"x" * (2 << 20), headers=form)).status_code == 413


async def test_wrong_secret_and_unknown_client_get_one_answer(client: httpx.AsyncClient, register: Any) -> None:
    registered = await register()
    answers = [
        await client.post(TOKEN, data=GRANT, headers=basic(registered["client_id"], "wrong")),
        await client.post(TOKEN, data=GRANT, headers=basic("nobody", "wrong")),
        await client.post(TOKEN, data={**GRANT, "client_id": registered["client_id"], "client_secret": "wrong"}),
        await client.post(TOKEN, data={**GRANT, "client_id": "nobody", "client_secret": "wrong"}),
        await client.post(TOKEN, data={**GRANT, "client_id": registered["client_id"]}),
        await client.post(TOKEN, data=GRANT),
        await client.post(TOKEN, data=GRANT, headers=basic("\u00fc" * 100, "x")),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"error":"invalid_client","error_description":"Client authentication failed."}')
    }
    assert all(answer.headers["www-authenticate"].startswith("Basic ") for answer in answers)


async def test_guessing_is_limited_by_client_and_address(client: httpx.AsyncClient, register: Any) -> None:
    registered = await register()
    started = time.monotonic()
    answers = [
        await client.post(TOKEN, data=GRANT, headers=basic(registered["client_id"], f"guess{number}"))
        for number in range(110)
    ]
    refilled = (time.monotonic() - started) * TOKEN_ENDPOINT_PER_MINUTE / 60
    assert sum(answer.status_code == 401 for answer in answers) <= TOKEN_ENDPOINT_PER_MINUTE + 1 + refilled
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_wrong_secrets_lock_nobody_out(client: httpx.AsyncClient, register: Any) -> None:
    registered, other = await register(), await register()
    for number in range(TOKEN_ENDPOINT_PER_MINUTE + 40):
        answer = await client.post(TOKEN, data=GRANT, headers=basic(registered["client_id"], f"guess{number}"))
    assert answer.status_code == 429
    for right in (registered, other):  # neither was seen before, and all come from one address
        assert (await client.post(TOKEN, data=GRANT, headers=credentials(right))).status_code == 200


async def test_a_client_that_proved_who_it_is_draws_on_a_budget_of_its_own(
    app_server: AppServer, client: httpx.AsyncClient, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_policy, "TOKEN_ENDPOINT_PER_MINUTE", 3)
    registered, other = await register(), await register()
    statuses = [(await client.post(TOKEN, data=GRANT, headers=credentials(registered))).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert (await client.post(TOKEN, data=GRANT, headers=credentials(other))).status_code == 200


async def test_introspection_and_revocation_belong_to_the_client_of_the_token(
    client: httpx.AsyncClient, register: Any
) -> None:
    one, two = await register(), await register()
    token = (await client.post(TOKEN, data=GRANT, headers=credentials(one))).json()["access_token"]
    form = {"token": token}
    for path in ("/oauth/introspect", "/oauth/revoke"):
        assert (await client.post(path, data=form)).status_code == 401
    own = (await client.post("/oauth/introspect", data=form, headers=credentials(one))).json()
    assert own["active"] is True
    assert own["client_id"] == one["client_id"]
    foreign = await client.post("/oauth/introspect", data=form, headers=credentials(two))
    assert foreign.json() == {"active": False}
    for junk in ("x", "a.b.c", token[:-2]):
        answer = await client.post("/oauth/introspect", data={"token": junk}, headers=credentials(one))
        assert answer.json() == {"active": False}
        assert (await client.post("/oauth/revoke", data={"token": junk}, headers=credentials(one))).status_code == 200
    assert (await client.post("/oauth/introspect", headers=credentials(one), data={"x": "y"})).status_code == 400
    assert (await client.post("/oauth/revoke", data=form, headers=credentials(two))).status_code == 400
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == 200
    assert (await client.post("/oauth/revoke", data=form, headers=credentials(one))).status_code == 200
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == 401
    after = await client.post("/oauth/introspect", data=form, headers=credentials(one))
    assert after.json() == {"active": False}


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "pat", "x" * 100])
async def test_a_hint_at_the_type_of_a_token_changes_nothing(
    client: httpx.AsyncClient, register: Any, hint: str
) -> None:
    registered = await register()
    token = (await client.post(TOKEN, data=GRANT, headers=credentials(registered))).json()["access_token"]
    form = {"token": token, "token_type_hint": hint}
    told = await client.post("/oauth/introspect", data=form, headers=credentials(registered))
    assert told.json()["active"] is True
    assert (await client.post("/oauth/revoke", data=form, headers=credentials(registered))).status_code == 200
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == 401


async def test_revocation_tells_of_a_foreign_token_no_more_than_its_use_does(
    client: httpx.AsyncClient, register: Any, owner: asyncpg.Connection
) -> None:
    one, two = await register(), await register()
    token = (await client.post(TOKEN, data=GRANT, headers=credentials(one))).json()["access_token"]
    as_bearer = {"Authorization": f"Bearer {token}"}

    async def told() -> tuple[int, Any]:
        answer = await client.post("/oauth/revoke", data={"token": token}, headers=credentials(two))
        return answer.status_code, answer.json()

    status, refusal = await told()
    assert (status, refusal["error"]) == (400, "invalid_grant"), "RFC 7009, 2.1: the client is informed"
    assert not {*token.split("."), one["client_id"]} & {*str(refusal).split()}
    assert (await client.get("/api/v1/projects", headers=as_bearer)).status_code == 200, "it lives on"
    for _ in range(2):
        own = await client.post("/oauth/revoke", data={"token": token}, headers=credentials(one))
        assert own.status_code == 200
    assert (await client.get("/api/v1/projects", headers=as_bearer)).status_code == 401
    junk = await client.post("/oauth/revoke", data={"token": "x"}, headers=credentials(two))
    assert await told() == (junk.status_code, junk.json()) == (200, {})
    assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'token.revoke'") == 1


async def test_disabled_client_is_out_with_its_tokens(
    client: httpx.AsyncClient, register: Any, bearer: Callable[..., dict[str, str]]
) -> None:
    registered = await register()
    token = (await client.post(TOKEN, data=GRANT, headers=credentials(registered))).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == 200
    path = f"/api/v1/clients/{registered['client_id']}"
    assert (await client.delete(path, headers=bearer("admin", ["beta"]))).status_code == 404
    assert (await client.delete(path, headers=bearer("admin", ["alpha"]))).status_code == 200
    assert (await client.get("/api/v1/projects", headers=headers)).status_code == 401
    assert (await client.post(TOKEN, data=GRANT, headers=credentials(registered))).status_code == 401


async def test_revoked_token_is_out_in_every_process_within_seconds(
    start_app: AppFactory, register: Any, bearer: Callable[..., dict[str, str]]
) -> None:
    registered = await register()
    servers = [await start_app(), await start_app()]
    async with httpx.AsyncClient(base_url=servers[0].base_url) as here:
        token = (await here.post(TOKEN, data=GRANT, headers=credentials(registered))).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=servers[1].base_url) as there:
            for http in (here, there):
                assert (await http.get("/api/v1/projects", headers=headers)).status_code == 200
            await here.post("/oauth/revoke", data={"token": token}, headers=credentials(registered))
            deadline = time.monotonic() + 10
            while (await there.get("/api/v1/projects", headers=headers)).status_code != 401:
                assert time.monotonic() < deadline, "the other process still honours the token"
                await asyncio.sleep(0.1)
            assert (await there.get("/api/v1/projects", headers=bearer("viewer", ["alpha"]))).status_code == 200


async def test_process_starts_and_verifies_tokens_while_the_database_is_away() -> None:
    away = Database("postgresql://127.0.0.1:1/x", role=None, size=1, acquire_timeout=0.2, statement_timeout=1,
                    application_name="x")  # fmt: skip
    await away.open()
    access = build_access(Settings(jwt_secret=JWT_SECRET), away, away, RedisStore("", timeout=0.1))
    await access.open()
    assert (await access.authenticator.authenticate(own(), "192.0.2.1")).subject == "alice"
    with pytest.raises(CredentialRefused):
        await access.authenticator.authenticate(own(exp=1), "192.0.2.1")
    with pytest.raises(ApiError):  # 503: nobody can say whether a key is good
        await access.authenticator.authenticate(new_api_key().text, "192.0.2.1")
    await access.close()
    await away.close()


async def test_client_id_can_be_had_once(client: httpx.AsyncClient, register: Any, bearer: Any) -> None:
    await register(client_id="one")
    body = {"client_id": "one", "client_name": "x", "role": "viewer", "projects": ["alpha"]}
    answer = await client.post("/api/v1/clients", headers=bearer("admin", ["*"]), json=body)
    assert answer.status_code == 409


async def test_metadata_documents_name_every_endpoint_that_is_there(
    app_server: AppServer, client: httpx.AsyncClient
) -> None:
    base = app_server.services.settings.base_url
    server = (await client.get("/.well-known/oauth-authorization-server")).json()
    routes = {f"/{route.path}" for route in app_server.app.router.routes}
    for name, address in server.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert address.removeprefix(base) in routes, name
    resource = (await client.get("/.well-known/oauth-protected-resource")).json()
    assert resource["resource"] == base
    assert server["issuer"] in resource["authorization_servers"]
    refused = await client.get("/api/v1/projects")
    assert f'resource_metadata="{base}/.well-known/oauth-protected-resource"' in refused.headers["www-authenticate"]
    assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}, "HS256 has nothing to show"
