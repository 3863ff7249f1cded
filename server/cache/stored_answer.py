"""The form in which an answer is stored in Redis, and the copies that a process keeps of answers it read.

A stored value names the key that it was stored under, so that a value returned for another key, by Redis or a proxy
before it, is noticed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cachetools import LRUCache

# Memory per process for copies of answers from Redis, so that unchanged ones are not sent and checked again.
COPIES_BYTES: Final = 16 << 20
COPY_BYTES: Final = 2048
"""Memory of a copy besides its data, about: key, tokens, meta. Answers without a row have two bytes of data."""
CHECKSUM_BYTES: Final = 8


class ForeignValue(ValueError):
    """A stored answer that belongs to another key."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CachedAnswer:
    """An answer ready to be sent. ``data`` is JSON text; ``fingerprint`` changes when data or pagination do."""

    data: bytes
    pagination: Mapping[str, Any] | None
    meta: Mapping[str, Any]
    fingerprint: str
    is_hit: bool
    stored_at: float
    """Unix time at which it was stored, in seconds."""

    @property
    def age_seconds(self) -> int:
        """Whole seconds since it was stored."""
        return max(0, int(time.time() - self.stored_at))


class Copies:
    """LRU cache of verified answers, keyed by Redis key. Redis decides whether an entry is still valid."""

    def __init__(self) -> None:
        self._held: LRUCache[str, tuple[bytes, tuple[bytes, ...], CachedAnswer]] = LRUCache(
            COPIES_BYTES, getsizeof=lambda held: len(held[2].data) + COPY_BYTES
        )

    def checksum(self, key: str) -> bytes:
        """Return the checksum prefix of our copy of ``key``, or b'' if there is none."""
        try:
            return self._held[key][0]  # get() looks twice
        except KeyError:
            return b""

    def take(self, key: str, checksum: bytes) -> tuple[tuple[bytes, ...], CachedAnswer] | None:
        """Return tokens and answer of the value that begins with ``checksum``."""
        try:
            held, tokens, answer = self._held[key]
        except KeyError:
            return None
        return (tokens, answer) if held == checksum else None

    def keep(self, key: str, checksum: bytes, tokens: tuple[bytes, ...], answer: CachedAnswer) -> None:
        """Keep a copy, unless it alone is larger than the limit for all copies."""
        self.drop(key)
        if len(answer.data) + COPY_BYTES <= COPIES_BYTES:
            self._held[key] = (checksum, tokens, answer)

    def drop(self, key: str) -> None:
        """Forget the copy of ``key``."""
        self._held.pop(key, None)


def pack(key: str, tokens: tuple[bytes, ...], answer: CachedAnswer) -> bytes:
    """Return ``crc32 (8 hex digits) LF head (JSON) LF data (JSON)``; the checksum covers everything after it."""
    head = orjson.dumps(
        {
            "key": key,
            "tokens": [token.decode("ascii", "replace") for token in tokens],
            "stored_at": time.time(),
            "fingerprint": answer.fingerprint,
            "pagination": answer.pagination,
            "meta": dict(answer.meta),
        },
        default=str,
    )
    rest = head + b"\n" + answer.data
    return b"%08x\n%b" % (zlib.crc32(rest), rest)


def unpack(key: str, stored: bytes) -> tuple[tuple[bytes, ...], CachedAnswer]:
    """Return the tokens and the answer in ``stored``. Raises ForeignValue if it was stored under another key than
    ``key``, and ValueError unless :func:`pack` made it.
    """
    checksum, _, rest = stored.partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(rest):
        raise ValueError("checksum")
    head, _, data = rest.partition(b"\n")
    try:
        fields = orjson.loads(head)
        if fields["key"] != key:
            raise ForeignValue(key)
        tokens = tuple(token.encode("ascii") for token in fields["tokens"])
        stored_at = float(fields["stored_at"])
        found = CachedAnswer(
            data, fields["pagination"], fields["meta"], fields["fingerprint"], is_hit=True, stored_at=stored_at
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("head") from error
    return tokens, found
