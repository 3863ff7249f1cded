"""Cursors: opaque, signed, and valid only for the question that issued them.

A cursor is base64url of an HMAC-SHA256 followed by JSON: format version, hash of the *binding* (the caller and its
rights), hash of the question (window, filter, sort), the moment against which relative times were resolved, the
position, and the time of issue. Any mismatch is InvalidCursor with the same text, so that probing a cursor reveals
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from server.errors import InvalidCursor
from server.queries.lists.keyset import Position
from server.text.instants import format_instant, parse_instant

VERSION: Final = 1
LIFETIME: Final = timedelta(hours=24)
LONGEST_CURSOR: Final = 4096
_CLOCK_SKEW: Final = timedelta(minutes=5)
_MAC_BYTES: Final = 32
_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
# json.dumps would construct an encoder for each call.
_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_compact: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class OpenedCursor:
    """A cursor with a valid signature, age and owner; its question is not compared yet."""

    position: Position
    now: datetime
    question_hash: str

    def check_question(self, question: Any) -> None:
        """Raise :class:`InvalidCursor` unless ``question``, a JSON document, is the one that issued it."""
        if not hmac.compare_digest(self.question_hash, fingerprint(question)):
            raise _invalid()


def continuation(position: Position, *, question: Any, now: datetime) -> dict[str, Any]:
    """Return the place where a list goes on, as a JSON document that may be stored with a shared answer: it is not a
    cursor of any caller yet.

    ``question`` is a JSON document too; ``now`` is the moment against which its relative times were resolved.
    """
    return {"q": fingerprint(question), "n": format_instant(now), "p": [encode_value(value) for value in position]}


class CursorSeal:
    """Makes and opens cursors with keys derived from one or two secrets, the newest first.

    The second is the secret before a rotation: it opens cursors but never makes any.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises ValueError without a secret."""
        self._keys = [
            hmac.digest(secret.encode(), b"llm-observatory cursor", hashlib.sha256) for secret in secrets if secret
        ]
        if not self._keys:
            raise ValueError("cursors need a secret")

    def seal(self, start: Mapping[str, Any], *, binding: Any, issued_at: datetime | None = None) -> str:
        """Return the cursor for the list position of a :func:`continuation`, for the caller that ``binding``
        describes.
        """
        issued = issued_at or datetime.now(UTC)
        claims = {**start, "v": VERSION, "b": fingerprint(binding), "t": format_instant(issued)}
        payload = _compact(claims).encode()
        return base64.urlsafe_b64encode(_mac(self._keys[0], payload) + payload).decode().rstrip("=")

    def open(self, cursor: str, *, binding: Any, at: datetime | None = None) -> OpenedCursor:
        """Check ``cursor`` for the caller that ``binding`` describes.

        Raises :class:`InvalidCursor` for one that is not ours, was changed, is older than 24 hours, or was issued to
        somebody else or to the same caller with other rights.
        """
        claims = self._claims(cursor)
        moment = at or datetime.now(UTC)
        issued_at = parse_instant(claims["t"], now=moment)
        if not moment - LIFETIME <= issued_at <= moment + _CLOCK_SKEW:
            raise _invalid()
        if not hmac.compare_digest(str(claims["b"]), fingerprint(binding)):
            raise _invalid()
        position = tuple(decode_value(value) for value in claims["p"])
        return OpenedCursor(position, parse_instant(claims["n"], now=moment), str(claims["q"]))

    def _claims(self, cursor: str) -> dict[str, Any]:
        if len(cursor) > LONGEST_CURSOR or not _ALPHABET.fullmatch(cursor) or len(cursor) % 4 == 1:
            raise _invalid()
        sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        # Accept only one spelling: the spare bits of the last character must be zero.
        if base64.urlsafe_b64encode(sealed).decode().rstrip("=") != cursor:
            raise _invalid()
        mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        genuine = [hmac.compare_digest(mac, _mac(key, payload)) for key in self._keys]
        if not any(genuine):
            raise _invalid()
        claims: dict[str, Any] = json.loads(payload)
        if claims["v"] != VERSION:
            raise _invalid()
        return claims


def fingerprint(document: Any) -> str:
    """Return a short hash of a JSON document, independent of the order of its keys."""
    return hashlib.blake2b(_canonical(document).encode(), digest_size=16).hexdigest()


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, bytes([VERSION]) + payload, hashlib.sha256)


def encode_value(value: Any) -> Any:
    """Return one value of a position as JSON; :func:`decode_value` reads it back."""
    match value:
        case datetime():
            return {"t": format_instant(value)}
        case Decimal():
            return {"d": str(value)}
        case _:
            return value


def decode_value(value: Any) -> Any:
    """Return the value that :func:`encode_value` wrote."""
    match value:
        case {"t": text}:
            return parse_instant(text, now=datetime.now(UTC))
        case {"d": text}:
            return Decimal(text)
        case _:
            return value


def _invalid() -> InvalidCursor:
    return InvalidCursor(
        "The cursor is not valid for this request: it was changed, has expired, or is for another question or caller."
    )
