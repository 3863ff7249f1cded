"""The guard of the token endpoint: it bounds guessing, and lets nobody use up the budget of another client.

A request counts against the budget of its client only after the client has proved its identity. Wrong proofs count
against the address that they come from. After a hundred in a minute, a further wrong proof gets the answer of a rate
limit, but proofs are still verified, because the next one may be right: the rightful client may have the same address.
Only far above that number, proofs from the address are no longer verified. A secret has 200 random bits, so even that
many guesses find none.
"""

from __future__ import annotations

from server.access.rate_policy import client_bucket, guess_buckets
from server.rate_limit.token_bucket import TokenBuckets, Verdict


class ClientGuard:
    """Judges requests to the token endpoint; one per process."""

    def __init__(self, buckets: TokenBuckets) -> None:
        self._buckets = buckets

    async def before(self, client_id: str, address: str) -> Verdict:
        """Return whether a proof of ``client_id`` from ``address`` may be verified. Takes nothing from any bucket."""
        _, guesses = guess_buckets(address)
        verdict, _ = await self._buckets.judge([client_bucket(client_id), guesses], take=False)
        return verdict

    async def was_right(self, client_id: str) -> Verdict:
        """Count a request of ``client_id``, which has proved its identity; return whether it is within its budget."""
        verdict, _ = await self._buckets.judge([client_bucket(client_id)])
        return verdict

    async def was_wrong(self, address: str) -> Verdict:
        """Count a wrong proof from ``address``; return whether the answer may say that it was wrong."""
        wrong, guesses = guess_buckets(address)
        verdict, _ = await self._buckets.judge([wrong])
        await self._buckets.judge([guesses])
        return verdict
