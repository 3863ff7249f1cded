"""The words of many parts of content, in the form in which they are stored: who has a word, and at which places.

Words are those of :func:`server.queries.filters.search_text.search_document`, sorted by code point. Each has its
occurrences: the number of the part within the segment, and the place of the word in that part. A segment is stored in
*blocks* of neighbouring words, so that a search reads one block for a word and segment. Numbers are differences, most
of them a byte, and each block is compressed.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Numbers = np.ndarray[Any, np.dtype[np.uint32]]

ID_BYTES: Final = 16
"""Of the id of a part."""
BLOCK_BYTES: Final = 6_000
"""About the size of a block before compression; a single word may have more."""
_LEVEL: Final = 3
_HEAD: Final = struct.Struct("<IIIIII")
_MANY: Final = 255
"""Stands for a number of 255 or more, which comes after all others."""


@dataclass(frozen=True, slots=True)
class Postings:
    """Words with their occurrences, in the order of words, parts and places."""

    words: list[str]
    counts: Numbers
    """Occurrences of each word."""
    parts: Numbers
    """Of each occurrence: the number of the part, from 0."""
    places: Numbers
    """Of each occurrence: the number of the word in its part, from 0."""

    @classmethod
    def of(cls, documents: Sequence[str]) -> Postings:
        """Return the words of ``documents``, the parts of one segment: words between spaces."""
        split = [document.split() for document in documents]
        lengths = np.fromiter(map(len, split), np.int64, len(split))
        total = int(lengths.sum())
        words = sorted(set(chain.from_iterable(split)))
        numbers = {word: number for number, word in enumerate(words)}
        ids = np.fromiter(map(numbers.__getitem__, chain.from_iterable(split)), np.uint32, total)
        parts = np.repeat(np.arange(len(split), dtype=np.uint32), lengths)
        places = np.arange(total) - np.repeat(lengths.cumsum() - lengths, lengths)
        order = np.argsort(ids, kind="stable")
        counts = np.bincount(ids, minlength=len(words)).astype(np.uint32)
        return cls(words, counts, parts[order], places.astype(np.uint32)[order])


def joined(blocks: Sequence[Postings]) -> Postings:
    """Return the blocks of one segment, in the order of their words, as one."""
    none = np.zeros(0, np.uint32)
    return Postings(
        [word for block in blocks for word in block.words],
        np.concatenate([none, *(block.counts for block in blocks)]),
        np.concatenate([none, *(block.parts for block in blocks)]),
        np.concatenate([none, *(block.places for block in blocks)]),
    )


def merged(segments: Sequence[tuple[Postings, np.ndarray[Any, np.dtype[np.bool_]]]]) -> Postings:
    """Return the words of several segments in one: the parts of the first, then those of the second, and so on.

    Each comes with a mask of the parts that stay; the others are left out.
    """
    words = sorted(set(chain.from_iterable(postings.words for postings, _ in segments)))
    numbers = {word: number for number, word in enumerate(words)}
    ids, parts, places = [], [], []
    offset = 0
    for postings, stays in segments:
        own = np.fromiter(map(numbers.__getitem__, postings.words), np.uint32, len(postings.words))
        own, renumbered = np.repeat(own, postings.counts), np.cumsum(stays) - 1 + offset
        kept = stays[postings.parts]
        ids.append(own[kept])
        parts.append(renumbered[postings.parts[kept]].astype(np.uint32))
        places.append(postings.places[kept])
        offset += int(np.count_nonzero(stays))
    all_ids = np.concatenate(ids)
    order = np.argsort(all_ids, kind="stable")
    counts = np.bincount(all_ids, minlength=len(words)).astype(np.uint32)
    used = counts > 0
    return Postings(
        [word for word, is_used in zip(words, used.tolist(), strict=True) if is_used],
        counts[used],
        np.concatenate(parts)[order],
        np.concatenate(places)[order],
    )


def blocks_of(postings: Postings) -> Iterator[tuple[str, bytes]]:
    """Yield the blocks of a segment in the order of their words: each with its first word."""
    ends = np.concatenate(([0], postings.counts.cumsum(dtype=np.int64)))
    sizes = 2 * postings.counts + np.fromiter(map(len, postings.words), np.int64, len(postings.words)) + 2
    shares = (sizes.cumsum() - sizes) // BLOCK_BYTES
    firsts = np.flatnonzero(np.diff(shares, prepend=-1)).tolist()
    for first, last in zip(firsts, [*firsts, len(postings.words)][1:], strict=True):
        start, end = int(ends[first]), int(ends[last])
        yield (
            postings.words[first],
            _pack(
                postings.words[first:last],
                postings.counts[first:last],
                postings.parts[start:end],
                postings.places[start:end],
            ),
        )


def _pack(words: list[str], counts: Numbers, parts: Numbers, places: Numbers) -> bytes:
    heads = (counts.cumsum(dtype=np.int64) - counts).astype(np.int64)
    steps = np.diff(parts, prepend=0)
    steps[heads] = parts[heads]
    is_first = steps > 0  # in its part; the first part of a word may be part 0
    is_first[heads] = True
    hops = np.where(is_first, places, np.diff(places, prepend=0))
    text = "\n".join(["", *words, ""]).encode()
    packed = [_packed(numbers) for numbers in (counts, steps, hops)]
    head = _HEAD.pack(len(words), len(text), len(parts), *(len(many) for _, many in packed))
    return zstd.compress(b"".join([head, text, *(few + many.tobytes() for few, many in packed)]), _LEVEL)


def _packed(numbers: Numbers) -> tuple[bytes, Numbers]:
    return np.minimum(numbers, _MANY).astype(np.uint8).tobytes(), numbers[numbers >= _MANY].astype("<u4")


class Block:
    """Neighbouring words of a segment. Only what is asked for is unpacked."""

    def __init__(self, data: bytes) -> None:
        self._raw = raw = zstd.decompress(data)
        self._size, text_bytes, self._total, *self._manies = _HEAD.unpack_from(raw)
        self._text_end = _HEAD.size + text_bytes

    def words(self) -> list[str]:
        """Return the words in their order."""
        return self._raw[_HEAD.size + 1 : self._text_end - 1].decode().split("\n")

    def numbers_of(self, word: str, *, is_beginning: bool = False) -> tuple[int, int]:
        """Return the numbers of the words that are ``word``, or begin with it: the first, and the one after the last.
        Both are the same if there is none.
        """
        start = f"\n{word}".encode()
        wanted = start if is_beginning else start + b"\n"
        at = self._raw.find(wanted, _HEAD.size, self._text_end)
        if at < 0:
            return 0, 0
        first = self._raw.count(b"\n", _HEAD.size, at)
        return first, first + (self._raw.count(start, at, self._text_end) if is_beginning else 1)

    def occurrences(self, first: int, end: int) -> tuple[Numbers, Numbers]:
        """Return parts and places of the words with the numbers from ``first`` to before ``end``."""
        counts = self._unpacked(0, 0, end)
        ends = counts.cumsum(dtype=np.int64)
        start = int(ends[first - 1]) if first else 0
        steps, hops = (self._unpacked(which, start, int(ends[-1])) for which in (1, 2))
        heads = ends[first:] - counts[first:] - start
        is_first = steps > 0
        is_first[heads] = True
        return _summed(steps, heads), _summed(hops, np.flatnonzero(is_first))

    def parts_with(self, number: int) -> Numbers:
        """Return the parts that have the word with this number, each once."""
        ends = self._unpacked(0, 0, number + 1).cumsum(dtype=np.int64)
        steps = self._unpacked(1, int(ends[number - 1]) if number else 0, int(ends[number]))
        is_first = steps > 0
        is_first[0] = True
        found: Numbers = steps.cumsum(dtype=np.uint32)[is_first]
        return found

    def all(self) -> Postings:
        """Return everything."""
        return Postings(self.words(), self._unpacked(0, 0, self._size), *self.occurrences(0, self._size))

    def _unpacked(self, which: int, start: int, end: int) -> Numbers:
        """Return some of the counts (0), steps (1) or hops (2)."""
        lengths = (self._size, self._total, self._total)
        at = self._text_end + sum(lengths[:which]) + 4 * sum(self._manies[:which])
        few = np.frombuffer(self._raw, np.uint8, end - start, at + start)
        numbers: Numbers = few.astype(np.uint32)
        if self._manies[which]:
            many = np.frombuffer(self._raw, "<u4", self._manies[which], at + lengths[which])
            is_many = numbers == _MANY
            before = self._raw.count(bytes([_MANY]), at, at + start)
            numbers[is_many] = many[before : before + int(np.count_nonzero(is_many))]
        return numbers


def _summed(steps: Numbers, heads: np.ndarray[Any, np.dtype[Any]]) -> Numbers:
    """Return the running sums of ``steps``, which begin again at ``heads``."""
    sums = steps.cumsum(dtype=np.int64)
    before = sums[heads] - steps[heads]
    found: Numbers = (sums - np.repeat(before, np.diff(heads, append=len(steps)))).astype(np.uint32)
    return found
