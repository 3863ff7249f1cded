"""Every setting of the program, as one table.

A setting is a field of :class:`Settings`: environment variable, default, help text, parser. The table feeds loading,
``llm-observatory config``, and docs/reference/configuration.md (a test compares them). Values come from the environment
alone; an unusable one stops the program with a message that names the variable and never shows a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from server.content_settings import SHARED, ContentSettings
from server.distribution_settings import CITUS, DistributionSettings
from server.embedding_settings import EmbeddingSettings
from server.grafana_settings import GrafanaSettings
from server.text.setting_values import (
    between,
    each,
    flag,
    names,
    one_of,
    path,
    postgresql_address,
    redis_address,
    setting,
    storage_address,
    whole,
)  # fmt: skip


class SettingsError(Exception):
    """The configuration cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Settings(ContentSettings, EmbeddingSettings, GrafanaSettings, DistributionSettings):
    """Effective configuration. Durations are in seconds unless the name says otherwise."""

    # Location of the data.
    database_url: str = setting(
        "DATABASE_URL",
        "",
        "PostgreSQL 18 or newer, as `postgresql://user:password@host/database`. Empty: a private one is started.",
        parse=postgresql_address,
        secret=True,
    )
    database_owner_url: str = setting(
        "DATABASE_OWNER_URL",
        "",
        "The same database as its owner: used by `migrate`. Empty: `DATABASE_URL`.",
        parse=postgresql_address,
        secret=True,
    )
    database_worker_url: str = setting(
        "DATABASE_WORKER_URL",
        "",
        "The same database for background work (rollups, partitions, retention). Empty: `DATABASE_OWNER_URL`.",
        parse=postgresql_address,
        secret=True,
    )
    database_read_urls: tuple[str, ...] = setting(
        "DATABASE_READ_URLS",
        (),
        "Streaming replicas of the database that take reads, as the role of `DATABASE_URL`; separated by commas.",
        parse=each(postgresql_address),
        secret=True,
    )
    database_read_staleness: float = setting(
        "DATABASE_READ_STALENESS",
        0.0,
        "Seconds by which what replicas tell may lag behind commits of other server processes. 0: not at all.",
        parse=between(0, 300),
    )
    redis_url: str = setting(
        "REDIS_URL",
        "",
        "Redis or Valkey, as `redis://`, `redis+sentinel://` or `redis+cluster://…`. Empty: a private one is started.",
        parse=redis_address,
        secret=True,
    )
    data_dir: Path = setting(
        "OBSERVATORY_DATA_DIR",
        Path(".observatory"),
        "Folder of the private PostgreSQL and Valkey and of the secrets made for them.",
        parse=path,
    )
    # Addresses of the server.
    host: str = setting("OBSERVATORY_HOST", "127.0.0.1", "Address to listen on.")
    port: int = setting("OBSERVATORY_PORT", 8080, "Port to listen on.", parse=whole(0, 65535))
    admin_port: int = setting(
        "OBSERVATORY_ADMIN_PORT",
        0,
        "Port for /metrics alone, which the main port then no longer has; the page may name what tenants call their "
        "providers, so let only Prometheus reach it. 0: /metrics is on the main port and names nobody.",
        parse=whole(0, 65535),
    )
    public_url: str = setting(
        "OBSERVATORY_PUBLIC_URL",
        "",
        "The address under which callers reach the server, used in links. Empty: taken from host and port.",
    )
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS",
        (),
        "Origins of web pages that may call the API, as `https://app.example,https://other.example`; `*` for all.",
        parse=names,
    )
    workers: int = setting("OBSERVATORY_WORKERS", 1, "Server processes of `serve`.", parse=whole(1, 64))
    drain_delay: float = setting(
        "OBSERVATORY_DRAIN_DELAY",
        0.0,
        "When told to stop: seconds to keep serving while `/ready` answers no, so that load balancers notice.",
        parse=between(0, 300),
    )
    drain_timeout: float = setting(
        "OBSERVATORY_DRAIN_TIMEOUT",
        15.0,
        "When told to stop: seconds that running requests get to finish.",
        parse=between(0, 300),
    )
    # Credentials.
    jwt_secret: str = setting(
        "JWT_SECRET",
        "",
        "Secret of HS256 access tokens and of cursors: at least 32 bytes. No default; embedded mode makes one.",
        secret=True,
    )
    jwt_secret_previous: str = setting(
        "JWT_SECRET_PREVIOUS",
        "",
        "The former secret: still verifies while `JWT_SECRET` is replaced.",
        secret=True,
    )
    jwt_algorithm: str = setting(
        "JWT_ALGORITHM",
        "HS256",
        "Signature of our tokens: `HS256` with `JWT_SECRET`, or `RS256`, `ES256`, `Ed25519` with `JWT_KEYS_FILE`.",
        parse=one_of("HS256", "RS256", "ES256", "Ed25519"),
    )
    jwt_keys_file: Path | None = setting(
        "JWT_KEYS_FILE",
        None,
        "JWK Set of private keys: the first signs, all verify; watched for changes.",
        parse=path,
    )
    jwt_issuer: str = setting(
        "JWT_ISSUER", "", "`iss` of our tokens. Empty: `OBSERVATORY_PUBLIC_URL`, or `llm-observatory` without one."
    )
    jwt_audience: str = setting("JWT_AUDIENCE", "llm-observatory-api", "`aud` of the access tokens.")
    jwt_leeway: int = setting(
        "JWT_LEEWAY", 30, "Tolerated difference of clocks in seconds, for exp, nbf and iat alike.", parse=whole(0, 60)
    )
    token_lifetime: int = setting(
        "TOKEN_LIFETIME", 3600, "Lifetime in seconds of tokens from /oauth/token.", parse=whole(60, 86400)
    )
    token_max_lifetime: int = setting(
        "TOKEN_MAX_LIFETIME", 86400, "Longest lifetime in seconds of any token accepted.", parse=whole(60, 2592000)
    )
    api_key_max_days: int = setting(
        "API_KEY_MAX_DAYS", 365, "Longest life of an API key in days.", parse=whole(1, 3650)
    )
    public_analytics_projects: tuple[str, ...] = setting(
        "PUBLIC_ANALYTICS_PROJECTS",
        (),
        "Projects whose metrics and costs, never traces, everybody may read without a credential; separated by commas.",
        parse=names,
    )
    audit_retention_days: int = setting(
        "AUDIT_RETENTION_DAYS", 400, "Days that the audit log is kept.", parse=whole(1, 3650)
    )
    # An external identity provider.
    oidc_issuer: str = setting("OIDC_ISSUER", "", "`iss` of an identity provider whose tokens count. Empty: none.")
    oidc_audience: tuple[str, ...] = setting(
        "OIDC_AUDIENCE", (), "`aud` that its tokens must hold; several separated by commas.", parse=names
    )
    oidc_jwks_url: str = setting("OIDC_JWKS_URL", "", "Its keys. Empty: found by OpenID Connect discovery.")
    oidc_algorithms: tuple[str, ...] = setting(
        "OIDC_ALGORITHMS", ("RS256",), "Signature algorithms its tokens may use.", parse=names
    )
    oidc_token_types: tuple[str, ...] = setting(
        "OIDC_TOKEN_TYPES",
        ("at+jwt", "application/at+jwt"),
        "`typ` headers its access tokens may have; many providers say `JWT`.",
        parse=names,
    )
    oidc_role_claim: str = setting("OIDC_ROLE_CLAIM", "role", "Claim that names the role; dots lead into objects.")
    oidc_role_map: tuple[str, ...] = setting(
        "OIDC_ROLE_MAP",
        (),
        "Meaning of values of that claim, as `value=role`; the first match counts.",
        parse=names,
    )
    oidc_default_role: str = setting(
        "OIDC_DEFAULT_ROLE",
        "",
        "Role of its users when the claim names none. Empty: they are refused.",
        parse=one_of("admin", "developer", "viewer", "billing"),
    )
    oidc_projects_claim: str = setting(
        "OIDC_PROJECTS_CLAIM", "projects", "Claim that lists the projects; dots lead into objects."
    )
    oidc_default_projects: tuple[str, ...] = setting(
        "OIDC_DEFAULT_PROJECTS", (), "Projects of its users when the claim names none.", parse=names
    )
    allow_http_issuers: bool = setting(
        "OBSERVATORY_ALLOW_HTTP_ISSUERS",
        False,
        "Fetch keys of issuers over plain http, too: only inside a network you trust.",
        parse=flag,
    )
    # Limits per caller.
    proxies_count: int = setting(
        "PROXIES_COUNT",
        0,
        "Trusted proxies in front: so many entries of X-Forwarded-For are believed. 0: none.",
        parse=whole(0, 10),
    )
    rate_limit_instances: int = setting(
        "RATE_LIMIT_INSTANCES",
        0,
        "Server processes that share the limits while Redis is down: each grants its share. 0: as many as workers.",
        parse=whole(0, 1000),
    )
    rate_limit_failed_auth: int = setting(
        "RATE_LIMIT_FAILED_AUTH", 60, "Failed authentications per minute from one address.", parse=whole(1, 100000)
    )
    rate_limit_concurrency: int = setting(
        "RATE_LIMIT_CONCURRENCY",
        64,
        "Requests of one principal that run at the same time in one process.",
        parse=whole(1, 10000),
    )
    rate_limit_project: int = setting(
        "RATE_LIMIT_PROJECT",
        0,
        "Requests per minute of all principals of one project together. 0: no such ceiling.",
        parse=whole(0, 10000000),
    )
    # Database pools and time-outs.
    database_pool_size: int = setting(
        "DATABASE_POOL_SIZE", 10, "Connections for reading, per process.", parse=whole(1, 200)
    )
    ingest_pool_size: int = setting(
        "OBSERVATORY_INGEST_CONNECTIONS", 2, "Connections that write spans, per process.", parse=whole(1, 16)
    )
    acquire_timeout: float = setting(
        "DATABASE_ACQUIRE_TIMEOUT",
        1.0,
        "Longest wait for a free connection; then the answer is 504.",
        parse=between(0.05, 60),
    )
    statement_timeout: float = setting(
        "DATABASE_STATEMENT_TIMEOUT",
        5.0,
        "Longest run of one statement of a reader; then the answer is 504.",
        parse=between(0.1, 3600),
    )
    redis_timeout: float = setting(
        "REDIS_TIMEOUT",
        0.2,
        "Longest wait for Redis in one step of a request; then the request goes on without it.",
        parse=between(0.01, 5),
    )
    cache_enabled: bool = setting(
        "CACHE_ENABLED", True, "Cache complete answers in Redis; see docs/explanation/caching.md.", parse=flag
    )
    cache_max_bytes: int = setting(
        "CACHE_MAX_BYTES", 1 << 20, "Largest answer that is cached, in bytes.", parse=whole(1024, 64 << 20)
    )
    # Ingestion (docs/reference/ingestion.md).
    ingest_max_spans: int = setting(
        "OBSERVATORY_INGEST_MAX_SPANS",
        10_000,
        "Spans or log records in one request; more is answered with 413.",
        parse=whole(1, 1_000_000),
    )
    ingest_max_bytes: int = setting(
        "OBSERVATORY_INGEST_MAX_BYTES",
        8 * 1024 * 1024,
        "Bytes of one request after decompression; more is answered with 413.",
        parse=whole(1024, 16 * 1024 * 1024),
    )
    ingest_decoders: int = setting(
        "OBSERVATORY_INGEST_DECODERS",
        2,
        "Requests that a process decodes at the same time; this bounds the memory that they need.",
        parse=whole(1, 16),
    )
    ingest_buffer_bytes: int = setting(
        "OBSERVATORY_INGEST_BUFFER_BYTES",
        64 * 1024 * 1024,
        "Bytes of request bodies that a process holds at the same time, shared by tenant; beyond it: 429 or 503.",
        parse=whole(1024, 4 * 1024**3),
    )
    ingest_pending_spans: int = setting(
        "OBSERVATORY_INGEST_PENDING_SPANS",
        20_000,
        "Spans of a process that may wait for a commit, shared by project; beyond it the answer is 429 or 503.",
        parse=whole(100, 1_000_000),
    )
    ingest_spans_per_minute: int = setting(
        "OBSERVATORY_INGEST_SPANS_PER_MINUTE",
        600_000,
        "Spans per minute that one project may send, 0 for no limit; a project's settings may say otherwise.",
        parse=whole(0, 1_000_000_000),
    )
    ingest_bytes_per_minute: int = setting(
        "OBSERVATORY_INGEST_BYTES_PER_MINUTE",
        0,
        "Decoded bytes per minute that one project may send, 0 for no limit; a project's settings may say otherwise.",
        parse=whole(0, 1_000_000_000_000),
    )
    ingest_max_age_days: int = setting(
        "OBSERVATORY_INGEST_MAX_AGE_DAYS",
        90,
        "Spans that began longer ago are rejected.",
        parse=whole(1, 36_500),
    )
    ingest_max_future: float = setting(
        "OBSERVATORY_INGEST_MAX_FUTURE",
        3600.0,
        "Spans that begin or end more than this many seconds ahead of the server's clock are rejected.",
        parse=between(0, 86_400),
    )
    full_text: bool = setting(
        "OBSERVATORY_FULL_TEXT",
        True,
        "Index the words of inputs and outputs of new spans. Without it text search does not find them, and a span "
        "costs the database about a third.",
        parse=flag,
    )
    max_dimensions: int = setting(
        "OBSERVATORY_MAX_DIMENSIONS",
        20_000,
        "Combinations of dimensions in a project's rollups; later ones lose their open-ended values.",
        parse=whole(100, 1_000_000),
    )
    # Retention.
    retention_days: int = setting(
        "OBSERVATORY_RETENTION_DAYS",
        90,
        "Days that spans are kept; whole weeks are dropped once all of their days are older.",
        parse=whole(1, 36_500),
    )
    rollup_retention_days: int = setting(
        "OBSERVATORY_ROLLUP_RETENTION_DAYS",
        400,
        "Days that hourly and daily rollups are kept: metrics outlive the spans they were made from.",
        parse=whole(1, 36_500),
    )
    rollup_5m_days: int = setting(
        "OBSERVATORY_ROLLUP_5M_DAYS",
        3,
        "Days that 5-minute rollups are kept; longer ranges in zones of half an hour need more.",
        parse=whole(1, 3650),
    )
    # Exports.
    export_url: str = setting(
        "OBSERVATORY_EXPORT_URL",
        "",
        "Where export jobs put their files: `s3://bucket/prefix` (with the `AWS_…` variables), or `file:///directory`, "
        "which all servers must share. Empty: `exports` in `OBSERVATORY_DATA_DIR`.",
        parse=storage_address,
    )
    export_streams: int = setting(
        "OBSERVATORY_EXPORT_STREAMS",
        4,
        "Most exports and downloads of one caller at the same time, per server process.",
        parse=whole(1, 1000),
    )
    export_jobs: int = setting(
        "OBSERVATORY_EXPORT_JOBS",
        5,
        "Most export jobs of one caller that wait or are at work.",
        parse=whole(1, 1000),
    )
    export_keep_hours: int = setting(
        "OBSERVATORY_EXPORT_KEEP_HOURS",
        72,
        "How long the files of an export job are kept.",
        parse=whole(1, 8760),
    )
    export_daily: str = setting(
        "OBSERVATORY_EXPORT_DAILY",
        "",
        "Format of a daily export of every project: `parquet`, `ndjson`, `csv` or `otlp`. Empty: none.",
        parse=one_of("parquet", "ndjson", "csv", "otlp", ""),
    )
    export_daily_keep_days: int = setting(
        "OBSERVATORY_EXPORT_DAILY_KEEP_DAYS",
        90,
        "How long the files of daily exports are kept.",
        parse=whole(4, 3650),
    )
    # Live tail.
    live_streams: int = setting(
        "OBSERVATORY_LIVE_STREAMS",
        10,
        "Most live streams of one caller at the same time, per server process.",
        parse=whole(1, 100_000),
    )
    live_streams_total: int = setting(
        "OBSERVATORY_LIVE_STREAMS_TOTAL",
        2000,
        "Most live streams of all callers at the same time, per server process; each takes at most 1 MiB.",
        parse=whole(1, 100_000),
    )
    # The server's own telemetry.
    own_otlp_endpoint: str = setting(
        "OBSERVATORY_OWN_OTLP_ENDPOINT",
        "",
        "Where spans of the server's own requests go, as `http://collector:4318/v1/traces`. Empty: nowhere.",
    )
    log_level: str = setting(
        "LOG_LEVEL", "INFO", "Least severe level that is logged.", parse=one_of("DEBUG", "INFO", "WARNING", "ERROR")
    )
    log_format: str = setting("LOG_FORMAT", "json", "`json` lines or `text`.", parse=one_of("json", "text"))

    @property
    def base_url(self) -> str:
        """The address that links are built on, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def token_issuer(self) -> str:
        """`iss` of our own tokens."""
        return self.jwt_issuer or self.public_url.rstrip("/") or "llm-observatory"

    @property
    def owner_url(self) -> str:
        """URL of the role that owns the schema."""
        return self.database_owner_url or self.database_url

    @property
    def worker_url(self) -> str:
        """URL for background work."""
        return self.database_worker_url or self.owner_url


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read all settings from ``environ`` (default: the process's).

    Raises :class:`SettingsError` that lists every unusable variable at once.
    """
    source = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for item in fields(Settings):
        raw = source.get(item.metadata["env"])
        if raw is None or raw == "":
            continue
        try:
            values[item.name] = item.metadata["parse"](raw)
        except ValueError as error:
            shown = "" if item.metadata["secret"] else f" (got {raw!r})"
            problems.append(f"{item.metadata['env']}: {error}{shown}")
    if values.get("database_distribution") == CITUS and values.get("content_layout") == SHARED:
        # Unused parts are noted by triggers on partitions, which Citus has not: deleted content would stay.
        problems.append("OBSERVATORY_CONTENT_LAYOUT: shared is not for DATABASE_DISTRIBUTION=citus")
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings(**values)
