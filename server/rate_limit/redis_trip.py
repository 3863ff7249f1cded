"""A request's one round trip to Redis, which judges the caller's rate limit and reads the keys of the cache."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import RateLimited
from server.rate_limit.headers import rate_limit_lines
from server.rate_limit.token_bucket import Bucket, TokenBuckets
from server.storage.redis_store import RedisStore, RedisUnavailable
from server.telemetry.observations import RateLimitHit, observe


class RedisTrip:
    """A request's business with Redis.

    The guard puts the limits into it. If the handler reads a cache, :meth:`read` sends the keys with them; otherwise
    the guard sends the limits alone, by :meth:`judge`.
    """

    __slots__ = ("_buckets", "_limits", "_store", "is_judged", "limit_lines")

    def __init__(self, buckets: TokenBuckets, store: RedisStore, limits: Sequence[Bucket]) -> None:
        """``limits``: the buckets that the request takes from."""
        self._buckets = buckets
        self._store = store
        self._limits = limits
        self.is_judged = False
        self.limit_lines = b""
        """The headers of the rate limit, once it is judged, as they are sent: lines, each with its line break."""

    async def judge(self) -> None:
        """Judge the limit unless it has been judged. Raises :class:`RateLimited`."""
        if not self.is_judged:
            await self._send()

    async def read(
        self, names: Sequence[str], known: bytes = b"", lock: tuple[str, int] | None = None
    ) -> list[bytes | None]:
        """Return the values of the keys ``names``, and judge the limit unless it has been judged; see
        :class:`~server.cache.result_cache.KeyReader` for ``known`` and ``lock``.

        Raises :class:`RateLimited`, and :class:`RedisUnavailable` if ``names`` is not empty and Redis did not answer.
        """
        if not self.is_judged:
            values = await self._send(names, known, lock)
            if values is None and names:
                raise RedisUnavailable
            return values or []
        if not names:
            return []
        found = await self._store.values(names)
        return found if lock is None else [*found, None]

    async def _send(
        self, names: Sequence[str] = (), known: bytes = b"", lock: tuple[str, int] | None = None
    ) -> list[bytes | None] | None:
        verdict, values = await self._buckets.judge(self._limits, lookup=names, known=known, lock=lock)
        self.is_judged = True
        self.limit_lines = rate_limit_lines(verdict)
        if not verdict.allowed:
            observe(RateLimitHit(verdict.tightest.bucket.name))
            wait = verdict.tightest.retry_after
            raise RateLimited(f"Too many requests; try again in {wait} s.", headers={"Retry-After": str(wait)})
        return values
