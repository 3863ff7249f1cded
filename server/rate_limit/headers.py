"""The headers that tell a caller where it stands.

``X-RateLimit-Limit`` is the sustained rate a minute. ``X-RateLimit-Remaining`` is what the bucket
holds, which after a rest is more than the rate, because a burst is allowed. ``RateLimit-Policy`` and
``RateLimit`` say the same in the form of the IETF draft (draft-ietf-httpapi-ratelimit-headers): quota
and the seconds in which it refills, what is left and the seconds until it is whole.
"""

from __future__ import annotations

import math

from server.rate_limit.token_bucket import Verdict


def rate_limit_headers(verdict: Verdict) -> dict[str, str]:
    """Headers for an answer to a request that ``verdict`` judged, 429 included."""
    state = verdict.tightest
    bucket = state.bucket
    window = math.ceil(bucket.capacity * 60 / bucket.per_minute)
    headers = {
        "X-RateLimit-Limit": str(max(1, math.floor(bucket.per_minute))),
        "X-RateLimit-Remaining": str(state.remaining),
        "X-RateLimit-Reset": str(state.reset_at),
        "RateLimit-Policy": f'"{bucket.name}";q={math.floor(bucket.capacity)};w={window}',
        "RateLimit": f'"{bucket.name}";r={state.remaining};t={state.full_after}',
    }
    if not verdict.allowed:
        headers["Retry-After"] = str(state.retry_after)
    if verdict.is_degraded:
        headers["X-RateLimit-Policy"] = "degraded"
    return headers
