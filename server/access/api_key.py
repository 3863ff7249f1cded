"""API keys: ``llmo_<id>_<secret>_<checksum>``.

The prefix lets secret scanners and people recognise a key, the id finds its row, the secret holds 160
random bits, and the checksum tells a mistyped or invented key from a real one without asking the
database. Only the SHA-256 of the secret is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import Final

from server.access.principal import SCOPES

KEY_PREFIX: Final = "llmo_"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"  # base32 in lower case: 5 bits a character
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 32  # 32 characters of 5 bits are 160 bits
_FORM: Final = re.compile(r"llmo_([a-z2-7]{12})_([a-z2-7]{32})_([0-9a-f]{8})")


def is_api_key(credential: str) -> bool:
    """Return whether ``credential`` has the form of an API key rather than of a token."""
    return credential.startswith(KEY_PREFIX)


@dataclass(frozen=True, slots=True)
class KeyKind:
    """Purpose of a kind of key, and the only scopes that it can have."""

    sentence: str
    scopes: frozenset[str]


KEY_KINDS: Final[dict[str, KeyKind]] = {
    "ingest": KeyKind("Sends traces and reads nothing.", frozenset({"traces:write"})),
    "dashboard": KeyKind(
        "Reads for dashboards and writes nothing.",
        frozenset({"traces:read", "content:read", "metrics:read", "costs:read"}),
    ),
    "service": KeyKind("Whatever its role permits.", frozenset(SCOPES)),
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as presented by a caller. Its repr never holds the secret."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id!r}, ***)"

    @property
    def text(self) -> str:
        """The whole key, as it is shown once."""
        body = f"{KEY_PREFIX}{self.key_id}_{self.secret}"
        return f"{body}_{_checksum(body)}"

    @property
    def secret_hash(self) -> bytes:
        """The stored form of the secret."""
        return hash_secret(self.secret)

    def matches(self, stored_hash: bytes) -> bool:
        """Return whether the secret is the one behind ``stored_hash``, in time that does not depend on it."""
        return hmac.compare_digest(self.secret_hash, stored_hash)


UNKNOWN_HASH: Final = hashlib.sha256(secrets.token_bytes(32)).digest()
"""Compared with when there is no such id, so that an unknown id takes as long as a wrong secret."""


def new_api_key() -> ApiKey:
    """Make a fresh random key."""
    return ApiKey(random_text(_ID_LENGTH), random_text(_SECRET_LENGTH))


def parse_api_key(text: str) -> ApiKey | None:
    """Parse ``text`` as a key; return None if its form or checksum is wrong."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    body, _, checksum = text.rpartition("_")
    if not hmac.compare_digest(_checksum(body), checksum):
        return None
    return ApiKey(match[1], match[2])


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret that this program generated: 160 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def random_text(length: int) -> str:
    """Return ``length`` random characters of five bits each."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
