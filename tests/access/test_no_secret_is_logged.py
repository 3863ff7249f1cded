"""With every logger at DEBUG no credential shows up in the log, and a hot client is verified from memory."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable

import httpx
import pytest

from server.access.api_key import parse_api_key
from server.access.verified_cache import digest_of
from server.http.services import Services
from tests.conftest import JWT_SECRET, AppServer, ProjectMaker, TokenMaker

# The test's own client logs what it sends.
OWN_LOGGERS = ("httpx", "httpcore", "asyncio")


async def test_no_credential_reaches_the_log(
    app_server: AppServer,
    client: httpx.AsyncClient,
    project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await project("alpha")
    caplog.set_level(logging.DEBUG)
    admin = bearer("admin", ["*"])
    made = await client.post(
        "/api/v1/keys", headers=admin, json={"label": "x", "kind": "service", "projects": ["alpha"]}
    )
    key = made.json()["data"]["key"]
    body = {"client_name": "x", "role": "viewer", "projects": ["alpha"]}
    registered = (await client.post("/api/v1/clients", headers=admin, json=body)).json()["data"]
    pair = (registered["client_id"], registered["client_secret"])
    form = {"grant_type": "client_credentials"}
    token = (await client.post("/oauth/token", data=form, auth=pair)).json()["access_token"]
    await client.post("/oauth/token", data=form, auth=(pair[0], "a-wrong-secret"))
    await client.post("/oauth/introspect", data={"token": token}, auth=pair)
    await client.get("/api/v1/projects", headers={"X-API-Key": key})
    await client.get("/api/v1/projects", headers={"X-API-Key": key[:-1] + "x"})
    await client.get("/api/v1/keys", headers={"Authorization": f"Bearer {token}"})
    await client.get("/api/v1/projects", headers={"Authorization": f"Bearer {token}x"})
    await client.post("/oauth/revoke", data={"token": token}, auth=pair)
    await app_server.services.access.audit.flush()
    log = "\n".join(
        f"{record.getMessage()} {vars(record)}" for record in caplog.records if not record.name.startswith(OWN_LOGGERS)
    )
    parsed = parse_api_key(key)
    assert parsed is not None
    header = base64.b64encode(":".join(pair).encode()).decode()
    for secret in (key, parsed.secret, token, token.split(".")[2], pair[1], header, "a-wrong-secret", JWT_SECRET,
                   admin["Authorization"].split(".")[2]):  # fmt: skip
        assert secret not in log
    assert "audit" in log


async def test_a_hot_client_costs_microseconds(services: Services, token: TokenMaker) -> None:
    authenticator, mine = services.access.authenticator, token("viewer", ["alpha"])
    await authenticator.authenticate(mine, "192.0.2.1")
    started = time.process_time()
    for _ in range(2000):
        await authenticator.authenticate(mine, "192.0.2.1")
    assert (time.process_time() - started) / 2000 < 100e-6
    assert mine.encode() not in b"".join(authenticator._verified._entries), "only hashes are remembered"
    assert digest_of(mine) in authenticator._verified._entries
