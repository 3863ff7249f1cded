"""A small identity provider for tests: real HTTP, counting what it is asked."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey


@dataclass
class Issuer:
    """Serves ``answers`` by path. ``base_url`` is set once it listens."""

    base_url: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "first"}))
    answers: dict[str, Any] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    delay: float = 0.0
    _handlers: list[asyncio.Task[Any] | None] = field(default_factory=list)

    def publish(self, *keys: ECKey) -> None:
        """Serve discovery, and ``keys`` (default: the present one) as the JWK Set."""
        jwks = {"keys": [key.as_dict(private=False) for key in keys or (self.key,)]}
        self.answers = {
            "/.well-known/openid-configuration": {"issuer": self.base_url, "jwks_uri": f"{self.base_url}/jwks"},
            "/jwks": jwks,
            "/api/signing-keys/keys": jwks,
        }

    def token(self, *, key: ECKey | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a token of this issuer; a change to ``...`` leaves a claim out."""
        now = int(time.time())
        claims = {"iss": self.base_url, "aud": "observatory", "sub": "user-1", "iat": now, "exp": now + 300,
                  "jti": uuid.uuid4().hex, "role": "viewer", "projects": ["alpha"], **changes}  # fmt: skip
        signer = key or self.key
        kept = {name: value for name, value in claims.items() if value is not ...}
        head = {"alg": "ES256", "kid": signer.kid, "typ": "at+jwt", **(header or {})}
        return jwt.encode(head, kept, signer, algorithms=["ES256"], default_type=None)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        self._handlers.append(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def close(self) -> None:
        """Stop answering those who still wait."""
        for handler in self._handlers:
            if handler is not None:
                handler.cancel()
        await asyncio.gather(*filter(None, self._handlers), return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked[path] += 1
        await asyncio.sleep(self.delay)
        answer = self.answers.get(path)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        status = "404 Not Found" if answer is None else "200 OK"
        if isinstance(answer, str):  # a redirect
            status, body = f"302 Found\r\nLocation: {answer}", b""
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        with suppress(ConnectionError):  # the client may have seen enough
            await writer.drain()
