"""A short-lived cache of verified credentials, so that a busy client costs microseconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cachetools import LRUCache, TLRUCache

T = TypeVar("T")

MAX_ENTRIES: Final = 10_000
TRUST_SECONDS: Final = 30.0
"""Longest time without another check; revocation is faster, because it empties this cache."""


def digest_of(credential: str) -> bytes:
    """Return the key of a credential in this cache: the text itself is not kept."""
    return hashlib.blake2b(credential.encode("utf-8", "surrogatepass"), digest_size=20).digest()


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    seconds: float


class VerifiedMemory(Generic[T]):
    """Verified values by the digest of their credential; the least recently used are forgotten."""

    def __init__(self) -> None:
        self._entries: TLRUCache[bytes, _Entry[T]] = TLRUCache(MAX_ENTRIES, lambda _, entry, now: now + entry.seconds)
        self._seen: LRUCache[bytes, T] = LRUCache(MAX_ENTRIES)

    def get(self, digest: bytes) -> T | None:
        """Return a value verified less than half a minute ago, if it has not expired since."""
        try:
            return self._entries[digest].value  # get() looks twice
        except KeyError:
            return None

    def put(self, digest: bytes, value: T, seconds: float) -> None:
        """Cache ``value`` for ``seconds``, and no longer than half a minute.

        A value equal to the former one is not replaced, so that identity comparisons elsewhere stay valid.
        """
        former = self._seen.get(digest)
        if former == value:
            value = former
        self._entries[digest] = _Entry(value, min(seconds, TRUST_SECONDS))
        self._seen[digest] = value

    def was_good(self, digest: bytes) -> bool:
        """Return whether this very credential was ever good in this process. It is verified again all the same."""
        return digest in self._seen

    def clear(self) -> None:
        """Forget all values, but not that they were good before."""
        self._entries.clear()
