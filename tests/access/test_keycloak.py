"""Tokens of a real Keycloak with the realm of the page, and the settings of the page.

``make test-keycloak`` fetches and starts it; ``KEYCLOAK_URL`` names one that runs (admin and admin, as its own start
for development is told). Skipped without.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.access import remote_keys
from server.settings import load_settings
from tests.conftest import AppFactory, AppServer, ProjectMaker

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
URL = os.environ.get("KEYCLOAK_URL", "")
PASSWORD = "correct horse battery staple"
SECONDS = 600
TOKENS = "/realms/{}/protocol/openid-connect/token"
PEOPLE = {"ada": (["llm-devs"], ["shop"]), "grace": (["llm-viewers", "llm-admins"], ["*"]), "eve": ([], ["shop"])}

pytestmark = [
    pytest.mark.skipif(not URL, reason="needs Keycloak: make test-keycloak"),
    pytest.mark.timeout(SECONDS),
]


@pytest.fixture
async def keycloak() -> AsyncIterator[httpx.AsyncClient]:
    """Keycloak's administrator, who has made the realm of the page and three people."""
    async with httpx.AsyncClient(base_url=URL, timeout=SECONDS / 4) as http:
        await sign_in(http)
        await http.delete("/admin/realms/main")
        realm = json.loads((HOW_TO / "samples" / "keycloak-realm.json").read_text())
        realm["users"] += [
            {
                "username": name,
                "enabled": True,
                "email": f"{name}@example.com",
                "credentials": [{"type": "password", "value": PASSWORD}],
                "realmRoles": roles,
                "attributes": {"llm_projects": projects},
            }
            for name, (roles, projects) in PEOPLE.items()
        ]
        (await http.post("/admin/realms", json=realm)).raise_for_status()
        yield http


async def sign_in(administrator: httpx.AsyncClient) -> None:
    """Give Keycloak's administrator a token; it lives a minute."""
    form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
    answer = await administrator.post(TOKENS.format("master"), data=form)
    administrator.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"


def page_settings() -> dict[str, str]:
    """Return the settings that the page has an operator make for Keycloak."""
    page = (HOW_TO / "connect-an-identity-provider.md").read_text()
    block = page.partition("## Keycloak")[2].partition("```bash\n")[2].partition("```")[0]
    found = dict(re.findall(r"^(\w+)=(\S+)", block, re.MULTILINE))
    return {**found, "OIDC_ISSUER": f"{URL}/realms/main", "OBSERVATORY_ALLOW_HTTP_ISSUERS": "true"}


@pytest.fixture
async def server(start_app: AppFactory, project: ProjectMaker) -> AppServer:
    """The server as the page sets it up, with two projects."""
    for name in ("shop", "other"):
        await project(name)
    given = load_settings(page_settings())
    changes = {item.name: getattr(given, item.name) for item in fields(given) if item.name.startswith("oidc_")}
    return await start_app(**changes, allow_http_issuers=given.allow_http_issuers)


async def token_of(**form: str) -> str:
    """Return a token as its holder gets it."""
    async with httpx.AsyncClient(base_url=URL, timeout=SECONDS / 4) as http:
        answer = await http.post(TOKENS.format("main"), data=form)
        return str(answer.raise_for_status().json()["access_token"])


async def person(name: str) -> str:
    """Return the token of a person."""
    return await token_of(grant_type="password", client_id="notebook", username=name, password=PASSWORD)


async def seen(server: AppServer, token: str) -> tuple[int, Any]:
    """Return the projects of a caller, and its limit, from which the role follows; or the status."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.base_url, headers=headers, timeout=60) as http:
        answer = await http.get("/api/v1/projects")
    if answer.status_code != 200:
        return answer.status_code, answer.json()["code"]
    return 200, {row["project_id"] for row in answer.json()["data"]}


async def test_roles_projects_types_audiences_and_rotation(
    keycloak: httpx.AsyncClient, server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person("ada")
    assert await seen(server, ada) == (200, {"shop"})
    assert await seen(server, await person("grace")) == (200, {"shop", "other"})
    assert await seen(server, await person("eve")) == (401, "invalid_token"), "she has no role"
    program = await token_of(grant_type="client_credentials", client_id="nightly-report", client_secret="change-me")
    assert await seen(server, program) == (200, {"shop"}), "its type is at+jwt"
    elsewhere = await token_of(grant_type="password", client_id="admin-cli", username="ada", password=PASSWORD)
    assert await seen(server, elsewhere) == (401, "invalid_token"), "it is for another audience"

    await sign_in(keycloak)
    realm = (await keycloak.get("/admin/realms/main")).raise_for_status().json()
    key = {
        "name": "next",
        "providerId": "rsa-generated",
        "providerType": "org.keycloak.keys.KeyProvider",
        "parentId": realm["id"],
        "config": {"priority": ["500"], "keySize": ["2048"], "algorithm": ["RS256"]},
    }
    (await keycloak.post("/admin/realms/main/components", json=key)).raise_for_status()
    rotated = await person("ada")
    assert key_id(rotated) != key_id(ada)
    monkeypatch.setattr(remote_keys, "UNKNOWN_KEY_SECONDS", 0.0)  # as if the keys had been read a minute ago
    assert await seen(server, rotated) == (200, {"shop"})
    assert await seen(server, ada) == (200, {"shop"}), "tokens of the key before go on until they expire"


def key_id(token: str) -> str:
    """Return the id of the key that signed a token."""
    head = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])
