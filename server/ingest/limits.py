"""Bounds of incoming data: spans and bytes per minute and project.

Sizes of one request are bounded by the decoder (:class:`DecodeLimits`), of one span by the mapping
(:class:`MappingLimits`).
"""

from __future__ import annotations

from typing import Final

from server.errors import RateLimited
from server.ingest.project_settings import IngestSettings
from server.rate_limit.token_bucket import Bucket, TokenBuckets
from server.settings import Settings

BURST_SECONDS: Final = 60
"""A bucket holds as much as its rate adds in a minute, and at least one largest request."""


class ProjectRates:
    """Token buckets of spans and decoded bytes for each project, shared by all processes through Redis."""

    def __init__(self, buckets: TokenBuckets, settings: Settings) -> None:
        self._buckets = buckets
        self._settings = settings

    async def take(self, project_id: str, project: IngestSettings, *, spans: int, size: int) -> None:
        """Count a request. Raises RateLimited with a true Retry-After if the project has used its share."""
        wanted = [
            Bucket(f"ingest {what}\n{project_id}", rate, max(rate * BURST_SECONDS / 60, largest), cost, name=what)
            for what, rate, cost, largest in (
                (
                    "spans",
                    _chosen(project.spans_per_minute, self._settings.ingest_spans_per_minute),
                    spans,
                    self._settings.ingest_max_spans,
                ),
                (
                    "bytes",
                    _chosen(project.bytes_per_minute, self._settings.ingest_bytes_per_minute),
                    size,
                    self._settings.ingest_max_bytes,
                ),
            )
            if rate > 0 and cost > 0
        ]
        if not wanted:
            return
        verdict, _ = await self._buckets.judge(wanted)
        if not verdict.allowed:
            tightest = verdict.tightest
            raise RateLimited(
                f"the project may send {tightest.bucket.per_minute:.0f} {tightest.bucket.name} per minute",
                headers={"Retry-After": str(tightest.retry_after)},
            )


def _chosen(project: int | None, default: int) -> int:
    return default if project is None else project
