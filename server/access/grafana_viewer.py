"""The person behind a data source credential, named by Grafana's signed ``X-Grafana-Id`` header.

Grafana adds the header to requests that its data source proxy forwards. A browser can send one of its own, and
``X-Grafana-User`` is not signed at all: only a token that verifies against the keys of the configured Grafana counts.
It never opens anything; it names the viewer for audit and limits, and may close content.
"""

from __future__ import annotations

import re
from typing import Final

import httpx

from server.access.jwt_verifier import TokenRefused, TokenRules, parse_token, seconds_left, verify_token
from server.access.principal import Viewer
from server.access.remote_keys import KeysUnavailable, RemoteKeys, check_issuer_url
from server.settings import Settings

HEADER: Final = "x-grafana-id"
_SUBJECT: Final = re.compile(r"[A-Za-z0-9:._@+=-]{1,255}")
_LOGIN: Final = re.compile(r"[\x20-\x7e]{1,255}")
_LEEWAY_SECONDS: Final = 60
_MAX_LIFETIME_SECONDS: Final = 3600
GRAFANA_ROLES: Final = frozenset({"Viewer", "Editor", "Admin", "None"})


class GrafanaViewers:
    """Verifies ``X-Grafana-Id`` of one Grafana."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`~server.settings.SettingsError` for an address whose keys must not be trusted."""
        issuer = settings.grafana_issuer.rstrip("/")
        self._url = settings.grafana_jwks_url or f"{issuer}/api/signing-keys/keys"
        check_issuer_url(self._url, "GRAFANA_ISSUER", allow_http=settings.allow_http_issuers)
        self._rules = TokenRules(
            # root_url is written with and without a slash at its end; the token has it as configured.
            issuer=settings.grafana_issuer,
            audiences=settings.grafana_audience,
            algorithms=("ES256",),
            types=frozenset({"jwt", ""}),
            max_lifetime=_MAX_LIFETIME_SECONDS,
            leeway=_LEEWAY_SECONDS,
        )
        self._remote = RemoteKeys(issuer, self._locate)

    async def verify(self, text: str) -> tuple[Viewer, float]:
        """Return the viewer that the token ``text`` names, and for how many seconds. Raises :class:`TokenRefused`."""
        token = parse_token(text)
        try:
            keys = await self._remote.keys(token.key_id)
        except KeysUnavailable as error:
            raise TokenRefused("issuer_keys") from error
        claims = verify_token(token, keys, self._rules)
        subject, login, role = claims["sub"], claims.get("username", ""), claims.get("role", "")
        if not _SUBJECT.fullmatch(subject):
            raise TokenRefused("claims")
        viewer = Viewer(
            subject=subject,
            login=login if type(login) is str and _LOGIN.fullmatch(login) else "",
            # An unknown role counts as the least one.
            role=role if type(role) is str and role in GRAFANA_ROLES else "Viewer",
        )
        return viewer, seconds_left(claims, self._rules)

    async def _locate(self, _: httpx.AsyncClient) -> str:
        return self._url
