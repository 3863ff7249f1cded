"""The size of a body that each route accepts."""

from __future__ import annotations

from typing import Final

KIBIBYTE: Final = 1024
DEFAULT_BODY_LIMIT: Final = 64 * KIBIBYTE

# Largest body in bytes by path prefix; the first match counts. Other paths have DEFAULT_BODY_LIMIT.
BODY_LIMITS: Final[tuple[tuple[str, int], ...]] = (
    ("/v1/", 16 * 1024 * KIBIBYTE),
    ("/api/v1/traces", 1024 * KIBIBYTE),
    ("/api/v1/scores", 1024 * KIBIBYTE),
    ("/api/v1/metrics", 256 * KIBIBYTE),
    ("/grafana/", 1024 * KIBIBYTE),
)


def body_limit(path: str) -> int:
    """Return the largest body in bytes that a route under ``path`` accepts."""
    return next((limit for prefix, limit in BODY_LIMITS if path.startswith(prefix)), DEFAULT_BODY_LIMIT)
