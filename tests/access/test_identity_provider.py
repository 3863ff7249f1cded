"""Tokens of an external provider, and Grafana's word about who looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from joserfc.jwk import ECKey, OctKey

from server.access import remote_keys
from server.access.identity_provider import IdentityProvider
from server.access.jwt_verifier import TokenRefused, parse_token
from server.access.principal import Principal, Role, role_scopes
from server.access.remote_keys import KeysUnavailable, RemoteKeys, check_issuer_url, usable_keys
from server.settings import Settings, SettingsError
from tests.access.issuer import Issuer
from tests.conftest import JWT_SECRET, AppFactory, AppServer, ProjectMaker

Changes = dict[str, Any]


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made.publish()
    yield made
    server.close()
    await made.close()


def provider(issuer: Issuer, **changes: Any) -> IdentityProvider:
    defaults: Changes = {
        "jwt_secret": JWT_SECRET,
        "oidc_issuer": issuer.base_url,
        "oidc_audience": ("observatory",),
        "oidc_algorithms": ("ES256",),
        "allow_http_issuers": True,
    }
    return IdentityProvider(Settings(**{**defaults, **changes}))


async def test_forwarded_identity_opens_the_api_with_the_mapped_role_and_projects(
    start_app: AppFactory, project: ProjectMaker, issuer: Issuer
) -> None:
    await project("alpha")
    await project("beta")
    server = await start_app(
        oidc_issuer=issuer.base_url,
        oidc_audience=("observatory",),
        oidc_algorithms=("ES256",),
        oidc_token_types=("JWT",),
        oidc_role_claim="realm_access.roles",
        oidc_role_map=("ops=admin", "dev=developer"),
        oidc_projects_claim="https://example.com/projects",
        oidc_default_projects=("alpha",),
        allow_http_issuers=True,
    )
    token = issuer.token(header={"typ": "JWT"}, role=..., projects=..., realm_access={"roles": ["x", "dev"]})
    async with httpx.AsyncClient(base_url=server.base_url, headers={"Authorization": f"Bearer {token}"}) as http:
        answer = await http.get("/api/v1/projects")
        assert [row["project_id"] for row in answer.json()["data"]] == ["alpha"]
        assert answer.headers["x-ratelimit-limit"] == "10000", "developer"
        made = await http.post("/api/v1/keys", json={"label": "x", "kind": "dashboard"})
        assert made.json()["data"]["owner"] == "idp:user-1", "no subject of ours can have that name"
    assert issuer.asked == {"/.well-known/openid-configuration": 1, "/jwks": 1}


async def test_what_a_provider_may_not_say(issuer: Issuer) -> None:
    idp = provider(issuer)
    assert (await idp.verify(parse_token(issuer.token())))[0].subject == "idp:user-1"
    stranger = ECKey.generate_key("P-256", {"kid": "first"})
    for case, token in {
        "signature of another key": issuer.token(key=stranger),
        "other audience": issuer.token(aud="other"),
        "no audience": issuer.token(aud=...),
        "expired": issuer.token(exp=1),
        "no iat": issuer.token(iat=...),
        "too long": issuer.token(exp=2_000_000_000),
        "type": issuer.token(header={"typ": "JWT"}),
        "two roles": issuer.token(role=["viewer", "admin"]),
        "unknown role": issuer.token(role="root"),
        "no role": issuer.token(role=...),
        "every project for a viewer": issuer.token(projects=["*"]),
        "control character": issuer.token(sub="a\nb"),
        "long subject": issuer.token(sub="a" * 300),
    }.items():
        try:
            await idp.verify(parse_token(token))
        except TokenRefused:
            continue
        pytest.fail(case)


async def test_roles_and_scopes_of_a_provider(issuer: Issuer) -> None:
    async def principal(settings: Changes, **claims: Any) -> Any:
        return (await provider(issuer, **settings).verify(parse_token(issuer.token(**claims))))[0]

    mapped = {"oidc_role_map": ("admins=admin", "all=viewer")}
    assert (await principal(mapped, role=["all", "admins"])).role == "admin", "the order of the settings counts"
    assert (await principal({**mapped, "oidc_default_role": "billing"}, role="nobody")).role == "billing"
    assert (await principal({}, scope="openid profile")).scopes == (await principal({})).scopes
    assert (await principal({}, scope="openid metrics:read audit:read")).scopes == {"metrics:read"}
    assert (await principal({}, projects=...)).projects == frozenset()
    assert (await principal({}, projects="alpha")).projects == {"alpha"}


async def test_unknown_kid_causes_one_fetch_a_minute_and_rotation_is_followed(issuer: Issuer) -> None:
    idp = provider(issuer)
    await idp.verify(parse_token(issuer.token()))
    for number in range(20):
        with pytest.raises(TokenRefused):
            await idp.verify(parse_token(issuer.token(key=ECKey.generate_key("P-256", {"kid": f"unknown{number}"}))))
    assert issuer.asked["/jwks"] == 1
    rotated = ECKey.generate_key("P-256", {"kid": "second"})
    issuer.publish(issuer.key, rotated)
    idp._remote._asked_at -= remote_keys.UNKNOWN_KEY_SECONDS  # a minute later
    await idp.verify(parse_token(issuer.token(key=rotated)))
    await idp.verify(parse_token(issuer.token()))
    assert issuer.asked["/jwks"] == 2


async def test_provider_that_fails_does_not_take_good_keys_away(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_keys, "FETCH_SECONDS", 0.2)
    idp = provider(issuer)
    await idp.verify(parse_token(issuer.token()))
    good = dict(issuer.answers)
    bad: Any
    for bad in (b"", b"{", b"[]", {"keys": []}, {"keys": "x"}, None, {"keys": [{"kty": "oct", "k": "AAAA"}]},
                b"[" * 100_000, b"x" * (2 << 20), f"{issuer.base_url}/elsewhere"):  # fmt: skip
        issuer.answers["/jwks"] = bad
        idp._remote._asked_at = idp._remote._read_at = float("-inf")
        idp._remote._read_at = asyncio.get_running_loop().time() - remote_keys.FRESH_SECONDS - 1
        assert (await idp.verify(parse_token(issuer.token())))[0].subject == "idp:user-1", bad
    assert "/elsewhere" not in issuer.asked, "redirects are not followed"
    issuer.answers = good
    issuer.delay = 1.0
    idp._remote._asked_at = float("-inf")
    assert (await idp.verify(parse_token(issuer.token())))[0].subject == "idp:user-1"
    idp._remote._read_at -= remote_keys.KEPT_SECONDS
    with pytest.raises(TokenRefused):
        await idp.verify(parse_token(issuer.token()))


async def test_discovery_that_speaks_for_another_issuer_or_leads_elsewhere_is_refused(issuer: Issuer) -> None:
    document: Any
    for document in (
        {"issuer": "https://evil.example", "jwks_uri": f"{issuer.base_url}/jwks"},
        {"issuer": f"{issuer.base_url}/", "jwks_uri": f"{issuer.base_url}/jwks"},
        {"issuer": issuer.base_url},
        {"issuer": issuer.base_url, "jwks_uri": "file:///etc/passwd"},
        {"issuer": issuer.base_url, "jwks_uri": 5},
        [],
    ):
        issuer.answers["/.well-known/openid-configuration"] = document
        with pytest.raises(TokenRefused):
            await provider(issuer).verify(parse_token(issuer.token()))
    assert issuer.asked["/jwks"] == 0


async def test_nothing_in_a_token_causes_a_connection(issuer: Issuer) -> None:
    canary = issuer.base_url
    for name in ("jku", "x5u"):
        token = issuer.token(header={name: f"{canary}/jwks"})
        with pytest.raises(TokenRefused):
            await provider(issuer).verify(parse_token(token))
    assert not issuer.asked


def test_addresses_of_keys_are_https_with_a_host_and_nothing_else() -> None:
    for url in ("http://idp.example", "ftp://idp.example", "file:///etc/passwd", "https://", "https://u@idp.example",
                "https://idp.example/#x", "//idp.example", ""):  # fmt: skip
        with pytest.raises(SettingsError):
            check_issuer_url(url, "OIDC_ISSUER", allow_http=False)
    check_issuer_url("https://idp.example/realms/x", "OIDC_ISSUER", allow_http=False)
    check_issuer_url("http://keycloak:8080/realms/x", "OIDC_ISSUER", allow_http=True)


def test_secrets_and_unknown_kinds_among_the_keys_are_left_out() -> None:
    key = ECKey.generate_key("P-256", {"kid": "good"})
    oct_key = OctKey.import_key("x" * 32).as_dict(private=True)
    entries = [oct_key, {"kty": "new"}, {"kty": "EC"}, 5, {**key.as_dict(private=False), "use": "enc"},
               {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, key.as_dict(private=False)]  # fmt: skip
    assert [found.kid for found in usable_keys({"keys": entries})] == ["good"]


async def test_keys_that_were_never_had_are_asked_for_again_after_seconds(issuer: Issuer) -> None:
    issuer.answers = {}

    async def locate(_: httpx.AsyncClient) -> str:
        return f"{issuer.base_url}/jwks"

    remote = RemoteKeys("test", locate)
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            await remote.keys(None)
    assert issuer.asked["/jwks"] == 1
    issuer.publish()
    remote._asked_at -= remote_keys.NO_KEYS_SECONDS
    assert len(await remote.keys(None)) == 1


class TestGrafanaViewer:
    """``X-Grafana-Id`` behind a data source credential."""

    def viewer_token(self, issuer: Issuer, **changes: Any) -> str:
        claims = {"aud": "org:1", "sub": "user:u1", "username": "ann", "role": "Viewer", "projects": ..., **changes}
        return issuer.token(header={"typ": "jwt"}, **claims)

    @pytest.fixture
    async def grafana(
        self, start_app: AppFactory, project: ProjectMaker, issuer: Issuer, bearer: Callable[..., dict[str, str]]
    ) -> AsyncIterator[tuple[AppServer, httpx.AsyncClient]]:
        """A server that trusts ``issuer`` as its Grafana, and a client with a dashboard key."""
        await project("alpha")
        server = await start_app(
            grafana_issuer=issuer.base_url, allow_http_issuers=True, grafana_viewers_see_content=False
        )
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            body = {"label": "grafana", "kind": "dashboard"}
            made = await http.post("/api/v1/keys", headers=bearer("developer", ["alpha"]), json=body)
            http.headers["X-API-Key"] = made.json()["data"]["key"]
            yield server, http

    async def test_each_viewer_has_a_budget_of_its_own(
        self, grafana: tuple[AppServer, httpx.AsyncClient], issuer: Issuer
    ) -> None:
        http = grafana[1]

        async def used(**headers: str) -> int:
            answer = await http.get("/api/v1/projects", headers=headers)
            assert answer.status_code == 200
            return 1200 - int(answer.headers["x-ratelimit-remaining"])

        ann, bob = self.viewer_token(issuer), self.viewer_token(issuer, sub="user:u2")
        assert [await used(**{"X-Grafana-Id": token}) for token in (ann, bob)] == [1, 1]
        stranger = ECKey.generate_key("P-256", {"kid": "first"})
        forged = [self.viewer_token(issuer, key=stranger, sub=f"user:f{number}") for number in range(30)]
        spent = [await used(**{"X-Grafana-Id": token}) for token in forged]
        assert spent[-1] > spent[0], "forged viewers share the credential's own budget"

    async def test_viewers_are_denied_content_when_so_set(
        self, grafana: tuple[AppServer, httpx.AsyncClient], issuer: Issuer
    ) -> None:
        authenticator = grafana[0].services.access.authenticator
        dashboard = Principal(
            "x", Role.VIEWER, role_scopes(Role.VIEWER), frozenset({"alpha"}), kind="api_key", key_kind="dashboard"
        )
        service = Principal("x", Role.DEVELOPER, role_scopes(Role.DEVELOPER), frozenset({"alpha"}))
        for principal, token, sees in (
            (dashboard, None, False),
            (dashboard, "junk", False),
            (dashboard, self.viewer_token(issuer), False),
            (dashboard, self.viewer_token(issuer, role="Editor"), True),
            (dashboard, self.viewer_token(issuer, role="Admin", exp=1), False),
            (dashboard, self.viewer_token(issuer, role="Admin", aud="org:2"), False),
            (dashboard, self.viewer_token(issuer, role="Root"), False),
            (service, None, True),
            (service, self.viewer_token(issuer), False),
        ):
            assert (await authenticator.with_viewer(principal, token)).may_read_content is sees, token

    async def test_audit_names_the_viewer(
        self, grafana: tuple[AppServer, httpx.AsyncClient], issuer: Issuer, owner: asyncpg.Connection
    ) -> None:
        server, http = grafana
        refused = await http.get("/api/v1/keys", headers={"X-Grafana-Id": self.viewer_token(issuer)})
        assert refused.status_code == 403
        await server.services.access.audit.flush()
        row = await owner.fetchrow("SELECT viewer, reason, target_id FROM audit_log WHERE outcome = 'refused'")
        assert tuple(row or ()) == ("user:u1", "insufficient_scope", "GET /api/v1/keys")
