"""The objects that decide about access and limits in one process, built and opened together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from server.access.audit import AuditLog
from server.access.authenticator import Authenticator
from server.access.client_guard import ClientGuard
from server.access.idempotency import IdempotencyKeys
from server.access.oauth_server import OAuthServer
from server.access.principal import Principal
from server.access.rate_policy import identifier_of
from server.access.revocations import AccessState
from server.access.signing_keys import SigningKeys
from server.errors import TooManyConcurrent
from server.periodic_task import PeriodicTask
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings
from server.storage.database import Database
from server.storage.redis_store import RedisStore
from server.upkeep.housekeeping import Housekeeping


class ConcurrencyLimit:
    """Limits how many requests of one principal run at the same time in this process.

    Held in memory, not in Redis: a slot of a dead process would never be released.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at_work: Counter[str] = Counter()

    def take(self, principal: Principal) -> str:
        """Take a slot for the time of one request, to be released by its name. Raises :class:`TooManyConcurrent`."""
        name = identifier_of(principal)
        if self._at_work[name] >= self._limit:
            raise TooManyConcurrent(
                f"At most {self._limit} requests may run at the same time.", headers={"Retry-After": "1"}
            )
        self._at_work[name] += 1
        return name

    def give_back(self, name: str) -> None:
        """Release the slot of a finished request."""
        self._at_work[name] -= 1
        if not self._at_work[name]:
            del self._at_work[name]


@dataclass(kw_only=True)
class AccessGate:
    """The parts; see :func:`build_access`."""

    keys: SigningKeys
    state: AccessState
    buckets: TokenBuckets
    concurrency: ConcurrencyLimit
    authenticator: Authenticator
    oauth: OAuthServer
    clients: ClientGuard
    audit: AuditLog
    idempotency: IdempotencyKeys
    housekeeping: Housekeeping

    async def open(self) -> None:
        """Read revocations and start the background work."""
        await self.state.task.run_once()  # a database that is away does not stop the start
        for task in self._tasks():
            task.start()

    async def close(self) -> None:
        """Stop the background work and write its remaining data."""
        for task in self._tasks():
            await task.stop()

    def _tasks(self) -> tuple[PeriodicTask, ...]:
        return self.housekeeping.task, self.audit.task, self.authenticator.task, self.state.task


def build_access(settings: Settings, database: Database, worker: Database, store: RedisStore) -> AccessGate:
    """Build the parts; ``worker`` runs as observatory_worker and removes expired rows.

    Raises :class:`~server.settings.SettingsError` for settings that are not safe: a short secret, no usable algorithm,
    an issuer over plain http.
    """
    keys = SigningKeys(settings)
    state = AccessState(database, keys, leeway=settings.jwt_leeway)
    buckets = TokenBuckets(store, instances=settings.rate_limit_instances or settings.workers)
    return AccessGate(
        keys=keys,
        state=state,
        buckets=buckets,
        concurrency=ConcurrencyLimit(settings.rate_limit_concurrency),
        authenticator=Authenticator(settings, database, keys, state, buckets),
        oauth=OAuthServer(settings, keys, state),
        clients=ClientGuard(buckets),
        audit=AuditLog(database),
        idempotency=IdempotencyKeys(database, settings.jwt_secret.encode()),
        housekeeping=Housekeeping(worker, audit_days=settings.audit_retention_days),
    )
