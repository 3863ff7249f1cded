"""Authentication: from a credential to a principal, cheapest check first.

cache of verified credentials → budget of wrong ones from this address → form and checksum → signature or key row →
claims → revocations. A credential that fails takes no database connection, except for a key whose checksum is right.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from server.access.access_token import own_rules, parse_projects, principal_of
from server.access.api_key import KEY_KINDS, UNKNOWN_HASH, is_api_key, parse_api_key
from server.access.grafana_viewer import GrafanaViewers
from server.access.identity_provider import IdentityProvider
from server.access.jwt_verifier import TokenRefused, UnverifiedToken, parse_token, seconds_left, verify_token
from server.access.principal import Principal, Role, Viewer, role_scopes
from server.access.rate_policy import failed_authentication_bucket
from server.access.revocations import AccessState
from server.access.signing_keys import SigningKeys
from server.access.verified_cache import VerifiedMemory, digest_of
from server.errors import InvalidToken, RateLimited
from server.periodic_task import PeriodicTask
from server.rate_limit.headers import rate_limit_headers
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings
from server.storage.database import Database
from server.storage.statements import statement

LAST_USED_SECONDS: Final = 30.0


class CredentialRefused(InvalidToken):
    """The credential is not valid."""

    def __init__(self, refusal: TokenRefused) -> None:
        """The reason in ``refusal`` is for logs only: every refused credential gets the same answer."""
        self.reason = refusal.reason
        self.projects = refusal.projects
        self.credential_id = refusal.credential_id
        super().__init__("The credential is not valid: it has expired, was revoked, or is not of this server.")


class Authenticator:
    """Verifies tokens and keys; one per process."""

    def __init__(
        self, settings: Settings, database: Database, keys: SigningKeys, state: AccessState, buckets: TokenBuckets
    ) -> None:
        """Raises :class:`~server.settings.SettingsError` for settings that are not safe."""
        self._settings = settings
        self._database = database
        self._keys = keys
        self._state = state
        self._buckets = buckets
        self._rules = own_rules(settings)
        self._provider = IdentityProvider(settings) if settings.oidc_issuer else None
        self._viewers = GrafanaViewers(settings) if settings.grafana_issuer else None
        self._verified: VerifiedMemory[Principal] = VerifiedMemory()
        self._verified_viewers: VerifiedMemory[Viewer] = VerifiedMemory()
        self._last_used: dict[str, datetime] = {}
        self.task = PeriodicTask("last uses of keys", self.note_use, pause=LAST_USED_SECONDS, runs_at_stop=True)
        state.on_change(self._verified.clear)

    def remembered(self, digest: bytes) -> Principal | None:
        """Return the caller behind the credential with this ``digest`` if it was verified a moment ago."""
        principal = self._verified.get(digest)
        if principal is not None and principal.kind == "api_key":
            self._last_used[principal.credential_id] = datetime.now(UTC)
        return principal

    async def authenticate(self, credential: str, address: str) -> Principal:
        """Return the caller that ``credential``, sent from ``address``, identifies.

        Raises :class:`CredentialRefused` for one that is not valid, :class:`RateLimited` if too many of those came from
        there, and the database's error if a key cannot be looked up.
        """
        digest = digest_of(credential)
        principal = self.remembered(digest)
        if principal is None:
            principal = await self._verify(credential, digest, address)
            if principal.kind == "api_key":
                self._last_used[principal.credential_id] = datetime.now(UTC)
        return principal

    @property
    def knows_viewers(self) -> bool:
        """Whether the people behind a data source can be told apart."""
        return self._viewers is not None

    async def with_viewer(self, principal: Principal, token: str | None) -> Principal:
        """Return ``principal`` with the viewer that Grafana's identity ``token`` names, if it names one.

        A viewer never widens anything. If viewers are not to see content, a dashboard key shows it only to a verified
        Editor or Admin, so that leaving the header out gains nothing.
        """
        if self._viewers is None:
            return principal
        viewer = None
        if token is not None:
            digest = digest_of(token)
            viewer = self._verified_viewers.get(digest)
            if viewer is None:
                with suppress(TokenRefused):
                    viewer, seconds = await self._viewers.verify(token)
                    self._verified_viewers.put(digest, viewer, seconds)
        scopes = principal.scopes
        if not self._settings.grafana_viewers_see_content:
            may_see = viewer.role in ("Editor", "Admin") if viewer is not None else False
            if not may_see and (token is not None or principal.key_kind == "dashboard"):
                scopes -= {"content:read"}
        if viewer is None and scopes == principal.scopes:
            return principal
        return replace(principal, viewer=viewer, scopes=scopes)

    async def _verify(self, credential: str, digest: bytes, address: str) -> Principal:
        failures = failed_authentication_bucket(address, self._settings.rate_limit_failed_auth)
        # One bad neighbour behind the same address must not lock out those who were admitted before.
        if not self._verified.was_good(digest):
            verdict, _ = await self._buckets.judge([failures], take=False)
            if not verdict.allowed:
                raise RateLimited(
                    "Too many failed authentications from this address.", headers=rate_limit_headers(verdict)
                )
        try:
            if is_api_key(credential):
                principal, seconds = await self._verify_key(credential)
            else:
                principal, seconds = await self._verify_token(parse_token(credential))
        except TokenRefused as error:
            await self._buckets.judge([failures])
            raise CredentialRefused(error) from error
        self._verified.put(digest, principal, seconds)
        return principal

    async def _verify_token(self, token: UnverifiedToken) -> tuple[Principal, float]:
        # The issuer that the token names only chooses among those that the settings name.
        issuer = token.claims.get("iss")
        if self._provider is not None and issuer == self._provider.issuer:
            principal, claims = await self._provider.verify(token)
            rules = self._provider.rules
        else:
            if token.key_id is not None and all(key.kid != token.key_id for key in self._keys.keys):
                self._state.reload_keys()  # another process may have seen a rotation earlier
            rules = self._rules
            claims = verify_token(token, self._keys.keys, rules)
            principal = principal_of(claims)
        reason = self._state.taken_back.reason_against(principal.subject, claims)
        if reason is not None:
            raise TokenRefused(reason, projects=principal.projects, credential_id=principal.credential_id)
        return principal, seconds_left(claims, rules)

    async def _verify_key(self, text: str) -> tuple[Principal, float]:
        key = parse_api_key(text)
        if key is None:
            raise TokenRefused("checksum")
        async with self._database.plain() as connection:
            row = await connection.fetchrow(statement("find_api_key"), key.key_id)
        is_right = key.matches(row["secret_hash"] if row is not None else UNKNOWN_HASH)
        if row is None:
            raise TokenRefused("unknown_key")
        seconds = (row["expires_at"] - datetime.now(UTC)).total_seconds()
        reasons = {
            "unknown_key": not is_right,
            "revoked": row["revoked_at"] is not None,
            "expired": seconds <= 0,
            "client_disabled": row["owner"] in self._state.taken_back.subjects,
        }
        for reason, is_so in reasons.items():
            if is_so:
                raise TokenRefused(reason, projects=row["projects"], credential_id=key.key_id)
        role = Role(row["role"])
        principal = Principal(
            subject=row["owner"],
            role=role,
            # Intersected here and not only when the key was made: a role may hold less today.
            scopes=role_scopes(role) & KEY_KINDS[row["kind"]].scopes & frozenset(row["scopes"]),
            projects=parse_projects(list(row["projects"]), role),
            kind="api_key",
            key_kind=row["kind"],
            credential_id=key.key_id,
            rate_limit_per_minute=row["rate_limit_per_minute"],
            account=row["account"] or "",
            expires_at=row["expires_at"],
        )
        return principal, seconds

    async def note_use(self) -> None:
        """Store when keys were last used. A lost note is not worth a retry."""
        used, self._last_used = self._last_used, {}
        if not used:
            return
        # Sorted, so that two processes lock the rows in the same order.
        ids = sorted(used)
        async with self._database.plain() as connection:
            await connection.execute(statement("touch_api_keys"), ids, [used[key_id] for key_id in ids])
