"""The form in which an answer is stored in Redis, and the copies that a process keeps of answers it read.

A stored value names the key that it was stored under, so that a value returned for another key, by Redis or a proxy
before it, is noticed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import orjson

# Memory per process for copies of answers from Redis, so that unchanged ones are not sent and checked again.
COPIES_BYTES: Final = 16 << 20
COPIES_SECONDS: Final = 120.0
"""A copy that was not used for so long is forgotten, at the latest after twice as long."""
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


_Held = tuple[bytes, tuple[bytes, ...], CachedAnswer]
"""Checksum, tokens, answer."""


class Copies:
    """Verified answers by Redis key: those used lately, and those used before, which are forgotten next. Redis decides
    whether one is still valid.

    Most answers are valid for a minute, but nobody tells a process that one has ended. If copies were forgotten only
    when they are too many, a process would fill its memory with ended ones for hours.
    """

    def __init__(self) -> None:
        self._lately: dict[str, _Held] = {}
        self._earlier: dict[str, _Held] = {}
        self._lately_bytes = 0
        self._began = monotonic()
        """When the first of those used lately came."""

    def checksum(self, key: str) -> bytes:
        """Return the checksum prefix of our copy of ``key``, or b'' if there is none."""
        held = self._lately.get(key) or self._used_earlier(key)
        return b"" if held is None else held[0]

    def take(self, key: str, checksum: bytes) -> tuple[tuple[bytes, ...], CachedAnswer] | None:
        """Return tokens and answer of the value that begins with ``checksum``."""
        held = self._lately.get(key) or self._used_earlier(key)
        return None if held is None or held[0] != checksum else held[1:]

    def keep(self, key: str, checksum: bytes, tokens: tuple[bytes, ...], answer: CachedAnswer) -> None:
        """Keep a copy, unless it alone is larger than half of the limit for all copies."""
        self.drop(key)
        if len(answer.data) + COPY_BYTES <= COPIES_BYTES // 2:
            self._add(key, (checksum, tokens, answer))

    def drop(self, key: str) -> None:
        """Forget the copy of ``key``."""
        held = self._lately.pop(key, None)
        if held is not None:
            self._lately_bytes -= _size(held)
        self._earlier.pop(key, None)

    def _used_earlier(self, key: str) -> _Held | None:
        held = self._earlier.pop(key, None)
        if held is not None:
            self._add(key, held)
        return held

    def _add(self, key: str, held: _Held) -> None:
        now, size = monotonic(), _size(held)
        if self._lately_bytes + size > COPIES_BYTES // 2 or now - self._began > COPIES_SECONDS:
            self._earlier, self._lately, self._lately_bytes, self._began = self._lately, {}, 0, now
        self._lately[key] = held
        self._lately_bytes += size


def _size(held: _Held) -> int:
    return len(held[2].data) + COPY_BYTES


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
