"""Headers that tell a caller the state of its limits.

``X-RateLimit-Limit`` is the sustained rate per minute. ``X-RateLimit-Remaining`` is the content of the bucket, which
after a rest is more than the rate, because a burst is allowed. ``RateLimit-Policy`` and ``RateLimit`` express the same
in the form of the IETF draft (draft-ietf-httpapi-ratelimit-headers): the quota with the seconds in which it refills,
and the remaining tokens with the seconds until the bucket is full.
"""

from __future__ import annotations

import math
from functools import lru_cache

from server.rate_limit.token_bucket import Verdict


def rate_limit_lines(verdict: Verdict) -> bytes:
    """Return the header lines of an answer to a request that ``verdict`` judged, without ``Retry-After``."""
    state = verdict.tightest
    bucket, left, wait = state.bucket, state.remaining, state.full_after
    lines = (
        f"{_policy_lines(bucket.name, bucket.per_minute, bucket.capacity)}X-RateLimit-Remaining: {left}\r\n"
        f"X-RateLimit-Reset: {math.ceil(state.now) + wait}\r\n"
        f'RateLimit: "{bucket.name}";r={left};t={wait}\r\n'
    )
    if verdict.is_degraded:
        lines += "X-RateLimit-Policy: degraded\r\n"
    return lines.encode("ascii")


def rate_limit_headers(verdict: Verdict) -> dict[str, str]:
    """Return the same headers by name, with ``Retry-After`` if the request was refused."""
    lines = rate_limit_lines(verdict).decode("ascii").splitlines()
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    if not verdict.allowed:
        headers["Retry-After"] = str(verdict.tightest.retry_after)
    return headers


@lru_cache(maxsize=1024)
def _policy_lines(name: str, per_minute: float, capacity: float) -> str:
    window = math.ceil(capacity * 60 / per_minute)
    return (
        f"X-RateLimit-Limit: {max(1, math.floor(per_minute))}\r\n"
        f'RateLimit-Policy: "{name}";q={math.floor(capacity)};w={window}\r\n'
    )
