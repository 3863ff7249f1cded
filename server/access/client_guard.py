"""The guard of the token endpoint: guessing is bounded, and nobody else can use up what a client may do.

What a client may do is counted once it has proved who it is. Wrong proofs are counted by the address that they come
from. After a hundred in a minute each further one is answered like a limit, but it is still looked at, because the next
proof from there may be right: of a client behind the same address, or of one whose id somebody knows. Only far above
that nothing from the address is looked at. A secret has 200 random bits, so that even this many guesses find none.
"""

from __future__ import annotations

from server.access.rate_policy import client_bucket, guess_buckets
from server.rate_limit.token_bucket import TokenBuckets, Verdict


class ClientGuard:
    """Judges requests to the token endpoint; one per process."""

    def __init__(self, buckets: TokenBuckets) -> None:
        self._buckets = buckets

    async def before(self, client_id: str, address: str) -> Verdict:
        """Return whether the proof of ``client_id`` is looked at. Takes nothing from any bucket."""
        _, guesses = guess_buckets(address)
        verdict, _ = await self._buckets.judge([client_bucket(client_id), guesses], take=False)
        return verdict

    async def was_right(self, client_id: str) -> Verdict:
        """Count a request of ``client_id``, which proved who it is; return whether it may have its answer."""
        verdict, _ = await self._buckets.judge([client_bucket(client_id)])
        return verdict

    async def was_wrong(self, address: str) -> Verdict:
        """Count a wrong proof from ``address``; return whether it may be told so."""
        wrong, guesses = guess_buckets(address)
        verdict, _ = await self._buckets.judge([wrong])
        await self._buckets.judge([guesses])
        return verdict
