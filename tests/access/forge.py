"""Makes tokens by hand, so that they can be wrong in any way that a library would not let through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

from tests.conftest import JWT_SECRET

OWN_HEADER = {"alg": "HS256", "typ": "at+jwt"}


def b64(data: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def good_claims(**changes: Any) -> dict[str, Any]:
    """Return claims that our server accepts; a change to ``...`` (Ellipsis) leaves the claim out."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": "llm-observatory",
        "aud": "llm-observatory-api",
        "sub": "alice",
        "client_id": "alice",
        "iat": now,
        "exp": now + 600,
        "jti": uuid.uuid4().hex,
        "role": "viewer",
        "projects": ["alpha"],
        "scope": "traces:read metrics:read",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not ...}


def sign(header: Any, payload: Any, *, secret: bytes = JWT_SECRET.encode()) -> str:
    """Return a token with an HMAC-SHA256 signature over ``header`` and ``payload``: JSON values, or raw bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(b64(part) for part in parts)
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def own(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token like our own, with other claims or header members."""
    return sign({**OWN_HEADER, **(header or {})}, good_claims(**changes))
