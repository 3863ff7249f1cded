"""Public keys of another issuer, fetched from an address that the operator set.

Only one thing from a caller leads to a fetch: an unknown ``kid``, because keys rotate, and that at most once per
minute. Keys stay in force for a day if the issuer is down, and an answer without usable keys never replaces good ones.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from server.settings import SettingsError

logger = logging.getLogger("observatory.access")

FETCH_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 1 << 20
MAX_KEYS: Final = 100
FRESH_SECONDS: Final = 3600.0
KEPT_SECONDS: Final = 24 * 3600.0
UNKNOWN_KEY_SECONDS: Final = 60.0
"""Shortest time between two fetches."""
NO_KEYS_SECONDS: Final = 5.0
"""The same while there are no keys at all, as after a start before the issuer's."""

_SHORTEST_MODULUS: Final = 342  # characters of base64url that 256 bytes take
_ASYMMETRIC: Final = frozenset({"RSA", "EC", "OKP"})


class KeysUnavailable(Exception):
    """The issuer's keys are unavailable, and none are cached."""


def check_issuer_url(url: str, name: str, *, allow_http: bool) -> None:
    """Raise :class:`SettingsError` unless keys may be fetched from ``url``.

    https, with a host and without user name or fragment; plain http only if the operator allows it.
    """
    parts = urlsplit(url)
    schemes = {"https", "http"} if allow_http else {"https"}
    if parts.scheme not in schemes or not parts.hostname or parts.username is not None or parts.fragment:
        hint = "" if allow_http else " (or set OBSERVATORY_ALLOW_HTTP_ISSUERS inside a trusted network)"
        raise SettingsError(f"{name}: an https address is needed{hint}")


class RemoteKeys:
    """The keys of one issuer, cached. ``locate`` returns the address of its JWK Set."""

    def __init__(self, name: str, locate: Callable[[httpx.AsyncClient], Awaitable[str]]) -> None:
        self._name = name
        self._locate = locate
        self._keys: tuple[Key, ...] = ()
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def keys(self, key_id: str | None) -> tuple[Key, ...]:
        """Return the issuer's keys, fetched again if they are old or do not include ``key_id``.

        Raises :class:`KeysUnavailable` when there are none.
        """
        if self._must_ask(key_id):
            async with self._lock:
                if self._must_ask(key_id):
                    await self._ask()
        if not self._keys or time.monotonic() - self._read_at > KEPT_SECONDS:
            raise KeysUnavailable(self._name)
        return self._keys

    def _must_ask(self, key_id: str | None) -> bool:
        clock = time.monotonic()
        if clock - self._asked_at < (UNKNOWN_KEY_SECONDS if self._keys else NO_KEYS_SECONDS):
            return False
        is_known = key_id is None or any(key.kid == key_id for key in self._keys)
        return not self._keys or not is_known or clock - self._read_at > FRESH_SECONDS

    async def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS), http_client() as client:
                found = usable_keys(await fetch_json(client, await self._locate(client)))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, SettingsError) as error:
            logger.warning(
                "keys of an issuer cannot be read", extra={"issuer": self._name, "cause": type(error).__name__}
            )
            return
        self._keys = found
        self._read_at = time.monotonic()


def http_client() -> httpx.AsyncClient:
    """Return a client that follows no redirect and takes no proxy from the environment."""
    return httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=FETCH_SECONDS)


async def fetch_json(client: httpx.AsyncClient, url: str) -> Any:
    """Return the JSON document at ``url``, at most one MiB of it. Raises ValueError or httpx.HTTPError."""
    body = bytearray()
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code != 200:
            raise ValueError(f"status {answer.status_code}")
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise ValueError("too long")
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def is_short_rsa(entry: Mapping[str, Any]) -> bool:
    """Return whether a JWK is an RSA key of fewer than 2048 bits, judged by the length of its modulus."""
    return entry.get("kty") == "RSA" and len(str(entry.get("n", ""))) < _SHORTEST_MODULUS


def usable_keys(document: Any) -> tuple[Key, ...]:
    """Return the signature keys in a JWK Set; unusable entries are left out.

    Raises ValueError when none is left. Secrets (``oct``) are never taken from an issuer.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError("not a JWK Set")
    found: list[Key] = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") not in _ASYMMETRIC or entry.get("use", "sig") != "sig":
            continue
        if is_short_rsa(entry):
            continue
        try:
            found.append(JWKRegistry.import_key(entry))
        except (JoseError, ValueError, TypeError):
            continue  # a key of an unknown kind is no reason to lose the others
    if not found:
        raise ValueError("no usable key")
    return tuple(found)
