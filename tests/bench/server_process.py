"""The environment of a server under load, on private services of the benchmark's own."""

from __future__ import annotations

from server.embedded import EmbeddedUrls


def serve_environment(urls: EmbeddedUrls, **more: str) -> dict[str, str]:
    """Return the settings of ``serve`` on ``urls`` and a free port; ``more`` are further environment variables."""
    return {
        "DATABASE_URL": urls.database_url,
        "DATABASE_OWNER_URL": urls.owner_url,
        "DATABASE_WORKER_URL": urls.worker_url,
        "REDIS_URL": urls.redis_url,
        "JWT_SECRET": urls.jwt_secret,
        "OBSERVATORY_PORT": "0",
        **more,
    }
