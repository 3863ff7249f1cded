"""Keys of our own tokens: safe ones only, rotated without a restart."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from server.access.access_services import build_access
from server.access.access_token import issue_token
from server.access.principal import Role
from server.access.signing_keys import SigningKeys, embedded_secret, read_key_file, rotate_key_file
from server.settings import Settings, SettingsError
from server.storage.database import Database
from server.storage.redis_store import RedisStore
from tests.conftest import JWT_SECRET, AppFactory, ProjectMaker

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"


def gate(settings: Settings) -> None:
    database = Database(
        "postgresql://x/x", role=None, size=1, acquire_timeout=1, statement_timeout=1, application_name="x"
    )
    build_access(settings, database, database, RedisStore("", timeout=0.1))


@pytest.mark.parametrize(
    "changes",
    [
        {"jwt_secret": ""},
        {"jwt_secret": "short-secret-of-31-bytes-000000"},
        {"jwt_secret": PEM},
        {"jwt_secret_previous": "short"},
        {"jwt_algorithm": "ES256"},
        {"jwt_algorithm": "ES256", "jwt_keys_file": Path("/nonexistent")},
        {"oidc_issuer": "https://idp.example"},
        {"oidc_issuer": "https://idp.example", "oidc_audience": ("x",), "oidc_algorithms": ()},
        {"oidc_issuer": "https://idp.example", "oidc_audience": ("x",), "oidc_algorithms": ("HS256",)},
        {"oidc_issuer": "https://idp.example", "oidc_audience": ("x",), "oidc_algorithms": ("none",)},
        {"oidc_issuer": "http://idp.example", "oidc_audience": ("x",)},
        {"oidc_issuer": "file:///etc/passwd", "oidc_audience": ("x",), "allow_http_issuers": True},
        {"oidc_issuer": "https://user@idp.example", "oidc_audience": ("x",)},
        {"oidc_issuer": "https://idp.example", "oidc_audience": ("x",), "oidc_role_map": ("admins=root",)},
        {"oidc_issuer": "llm-observatory", "oidc_audience": ("x",)},
        {"grafana_issuer": "http://grafana:3000"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_unsafe_settings_stop_the_start_and_show_no_secret(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        gate(replace(Settings(jwt_secret=JWT_SECRET), **changes))  # type: ignore[arg-type]
    for secret in (changes.get("jwt_secret"), changes.get("jwt_secret_previous")):
        assert not secret or str(secret) not in str(caught.value)


def test_server_process_ends_with_a_message_instead_of_starting() -> None:
    code = "from server.app import create_app; from server.settings import load_settings; create_app(load_settings())"
    environment = {**os.environ, "JWT_SECRET": "too short to be safe", "DATABASE_URL": "postgresql://x/x"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "JWT_SECRET: at least 32 bytes" in done.stderr
    assert "too short to be safe" not in done.stderr


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "Ed25519"])
def test_key_file_signs_with_the_first_key_and_is_private(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "keys.json"
    first = rotate_key_file(path, algorithm)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = rotate_key_file(path, algorithm)
    assert [key.kid for key in read_key_file(path, algorithm)] == [second, first]
    third = rotate_key_file(path, algorithm)
    assert [key.kid for key in read_key_file(path, algorithm)] == [third, second], "one older key is kept"
    keys = SigningKeys(Settings(jwt_secret=JWT_SECRET, jwt_algorithm=algorithm, jwt_keys_file=path))
    public = json.dumps(keys.public_jwks())
    assert third in public
    assert not {"d", "p", "q", "k"} & set(keys.public_jwks()["keys"][0])
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


@pytest.mark.parametrize(
    "content", ["", "{}", '{"keys":[]}', '{"keys":[{"kty":"oct","k":"AAAA"}]}', "[1]", '{"keys":[1]}']
)
def test_key_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="JWT_KEYS_FILE"):
        SigningKeys(Settings(jwt_secret=JWT_SECRET, jwt_algorithm="ES256", jwt_keys_file=path))


async def test_key_counts_until_it_is_taken_out_and_then_no_more_in_any_process(
    tmp_path: Path, start_app: AppFactory, project: ProjectMaker
) -> None:
    await project("alpha")
    path = tmp_path / "keys.json"
    rotate_key_file(path, "ES256")
    changes = {"jwt_algorithm": "ES256", "jwt_keys_file": path}
    one, two = await start_app(**changes), await start_app(**changes)

    def fresh() -> dict[str, str]:
        token = issue_token(one.services.settings, role=Role.VIEWER, projects=["alpha"])
        return {"Authorization": f"Bearer {token}"}

    async with httpx.AsyncClient(base_url=one.base_url) as first, httpx.AsyncClient(base_url=two.base_url) as second:
        old = fresh()
        for http in (first, second):
            assert (await http.get("/api/v1/projects", headers=old)).status_code == 200
        rotate_key_file(path, "ES256", keep=1)
        new = fresh()
        for http in (first, second):  # a new kid is looked for at once
            assert (await http.get("/api/v1/projects", headers=new)).status_code == 200
            assert (await http.get("/api/v1/projects", headers=old)).status_code == 200
        assert len((await first.get("/.well-known/jwks.json")).json()["keys"]) == 2
        rotate_key_file(path, "ES256", keep=0)
        deadline = time.monotonic() + 5
        for http in (first, second):
            while (await http.get("/api/v1/projects", headers=old)).status_code != 401:
                assert time.monotonic() < deadline, "the memory of verified tokens outlives the key"
                await asyncio.sleep(0.1)


def test_secret_being_replaced_verifies_and_does_not_sign() -> None:
    former = Settings(jwt_secret="former-secret-0123456789-0123456789")
    present = Settings(jwt_secret=JWT_SECRET, jwt_secret_previous=former.jwt_secret)
    keys = SigningKeys(present).keys
    assert keys[1].kid == SigningKeys(former).keys[0].kid
    assert keys[0].kid != keys[1].kid


def test_embedded_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    secret = embedded_secret(folder)
    assert len(secret) == 64
    assert embedded_secret(folder) == secret
    assert stat.S_IMODE((folder / "jwt_secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("role", "projects", "scopes", "ttl", "subject"),
    [
        (Role.VIEWER, ["*"], None, 60, "x"),
        (Role.ADMIN, [], None, 60, "x"),
        (Role.ADMIN, ["Not A Project"], None, 60, "x"),
        (Role.VIEWER, ["alpha"], ["traces:write"], 60, "x"),
        (Role.VIEWER, ["alpha"], ["nope"], 60, "x"),
        (Role.VIEWER, ["alpha"], None, 10**9, "x"),
        (Role.VIEWER, ["alpha"], None, 0, "x"),
        (Role.VIEWER, ["alpha"], None, 60, "a:b"),
    ],
)
def test_issue_token_refuses_what_the_verifier_would(
    role: Role, projects: list[str], scopes: list[str] | None, ttl: int, subject: str
) -> None:
    with pytest.raises(ValueError):
        issue_token(
            Settings(jwt_secret=JWT_SECRET), role=role, projects=projects, scopes=scopes, ttl=ttl, subject=subject
        )
