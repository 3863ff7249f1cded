"""Words and phrases of a search, looked up in the blocks of segments: which parts have them, and how often."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
import numpy as np

from server.queries.filters.search_text import SearchTerm
from server.queries.filters.word_postings import ID_BYTES, Block, Numbers
from server.storage.statements import statement

FEW: Final = 64
"""Up to so many parts of a segment their ids are read one by one, and otherwise those of all parts."""
RANK_OF_ONE: Final = 0.1
"""The rank that ``ts_rank_cd`` has for a word at one place."""

_LAST: Final = "\U0010ffff"
_PLACE_BITS: Final = 32
_NONE: Final[Numbers] = np.zeros(0, np.uint32)

Segment = tuple[str, datetime, int]
"""Project, week and number."""
Found = dict[str, tuple[Numbers, Numbers]]
"""By word or phrase: the numbers of parts of a segment, and how often each has it."""
Keys = np.ndarray[Any, np.dtype[np.int64]]
"""Occurrences: the number of the part, and the place of the word in the lower half."""


class KnownIds:
    """The ids of the parts of segments that were read lately. They never change, and are used only where the database
    has shown a block of the same segment to the same caller.
    """

    def __init__(self, most: int = 4 << 20) -> None:
        """``most``: bytes in all."""
        self._most, self._size = most, 0
        self._ids: OrderedDict[int, bytes] = OrderedDict()

    def get(self, segment: int) -> bytes | None:
        """Return the ids of ``segment``, if they are known."""
        data = self._ids.get(segment)
        if data is not None:
            self._ids.move_to_end(segment)
        return data

    def keep(self, segment: int, data: bytes) -> None:
        """Know the ids of ``segment``, and forget those that were not asked for the longest."""
        self._size += len(data) - len(self._ids.pop(segment, b""))
        self._ids[segment] = data
        while self._size > self._most:
            self._size -= len(self._ids.popitem(last=False)[1])


_known: Final = KnownIds()


@dataclass(slots=True)
class Hits:
    """The parts with a word or phrase: of each segment their ids, and how often they have it."""

    data: list[bytes] = field(default_factory=list)
    counts: list[Numbers] = field(default_factory=list)

    def ids(self) -> list[str]:
        """Return the ids as hex digits."""
        digits = b"".join(self.data).hex()
        return [digits[start : start + 2 * ID_BYTES] for start in range(0, len(digits), 2 * ID_BYTES)]


def bounds_of(terms: Iterable[SearchTerm]) -> tuple[list[str], list[str]]:
    """Return the words between which to look for ``terms``: a first and a last one for each word, beginning of words,
    and word of a phrase.
    """
    bounds = dict.fromkeys(
        (token, token + _LAST if is_beginning else token) for term in terms for token, is_beginning in _tokens(term)
    )
    return [low for low, _ in bounds], [high for _, high in bounds]


def _tokens(term: SearchTerm) -> list[tuple[str, bool]]:
    tokens, is_prefix = term.tokens()
    return [(token, is_prefix and place == len(tokens)) for place, token in enumerate(tokens, 1)]


async def read_hits(
    connection: asyncpg.Connection, rows: Sequence[asyncpg.Record], terms: Mapping[str, SearchTerm], *, is_ranked: bool
) -> dict[str, Hits]:
    """Return the parts that have each of ``terms``, of those that are in any.

    ``rows``: all blocks of segments that may have the words. ``is_ranked``: it matters how often.
    """
    segments: dict[Segment, dict[str, Block]] = {}
    for row in rows:
        blocks = segments.setdefault((row["project_id"], row["week"], row["segment"]), {})
        if row["first_word"] not in blocks:
            blocks[row["first_word"]] = Block(row["data"])
    found: dict[Segment, Found] = {}
    for segment, blocks in segments.items():
        for name, term in terms.items():
            parts, counts = _parts_with(blocks.values(), term, is_ranked=is_ranked)
            if len(parts):
                found.setdefault(segment, {})[name] = parts, counts
    hits: dict[str, Hits] = {}
    for segment, (numbers, ids) in (await _read_ids(connection, found)).items():
        for name, (parts, counts) in found[segment].items():
            one = hits.setdefault(name, Hits())
            one.data.append(ids[parts if numbers is None else np.searchsorted(numbers, parts)].tobytes())
            one.counts.append(counts)
    return hits


def _parts_with(blocks: Iterable[Block], term: SearchTerm, *, is_ranked: bool) -> tuple[Numbers, Numbers]:
    """Return the parts with a word or phrase, and how often they have it; only if that matters, for a word."""
    (token, is_beginning), *others = _tokens(term)
    if is_ranked or is_beginning or others:
        parts, counts = np.unique(_occurrences(blocks, term) >> _PLACE_BITS, return_counts=True)
        return parts, counts
    for block in blocks:
        first, end = block.numbers_of(token)
        if first < end:
            return block.parts_with(first), _NONE
    return _NONE, _NONE


def _occurrences(blocks: Iterable[Block], term: SearchTerm) -> Keys:
    """Return where the last word of ``term`` is, wherever its other words are before it."""
    last: Keys | None = None
    for token, is_beginning in _tokens(term):
        keys = [np.zeros(0, np.int64)]
        for block in blocks:
            first, end = block.numbers_of(token, is_beginning=is_beginning)
            if first < end:
                parts, places = block.occurrences(first, end)
                keys.append((parts.astype(np.int64) << _PLACE_BITS) | places)
        here = np.concatenate(keys)
        last = here if last is None else np.intersect1d(last + 1, here)
        if not len(last):
            break
    return np.zeros(0, np.int64) if last is None else last


async def _read_ids(
    connection: asyncpg.Connection, found: Mapping[Segment, Found]
) -> dict[Segment, tuple[Numbers | None, np.ndarray[Any, Any]]]:
    """Return the ids of parts of each segment, with the numbers of those parts; None: of all."""
    read: dict[Segment, tuple[Numbers | None, np.ndarray[Any, Any]]] = {}
    asked: dict[tuple[str, datetime], list[tuple[int, Numbers | None]]] = {}
    for key, hits in found.items():
        if (whole := _known.get(key[2])) is not None:
            read[key] = None, _ids(whole)
            continue
        wanted = np.unique(np.concatenate([parts for parts, _ in hits.values()]))
        asked.setdefault(key[:2], []).append((key[2], wanted if len(wanted) <= FEW else None))
    if not asked:
        return read
    rows = await connection.fetch(
        statement("read_segment_parts"),
        [project for project, _ in asked],
        [week for _, week in asked],
        [_array(str(segment) for segment, _ in members) for members in asked.values()],
        [_array("NULL" if few is None else f'"{_array(map(str, few.tolist()))}"' for _, few in members)
         for members in asked.values()],
    )  # fmt: skip
    numbers = {(*week, segment): few for week, members in asked.items() for segment, few in members}
    for row in rows:
        key = row["project_id"], row["week"], row["segment"]
        few = numbers[key]
        if row["is_whole"]:
            _known.keep(key[2], row["data"])
            read[key] = None, _ids(row["data"])
        elif few is not None:
            read[key] = few, _ids(row["data"])
    return read


def _ids(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, f"V{ID_BYTES}")


def _array(items: Iterable[str]) -> str:
    return f"{{{','.join(items)}}}"


def ranks_of(hits: Iterable[Hits]) -> dict[str, float]:
    """Return what the parts with any of several words and phrases add to the rank of their span, by id."""
    ranks: dict[str, float] = {}
    for one in hits:
        counts = np.concatenate(one.counts).tolist()
        for part, count in zip(one.ids(), counts, strict=True):
            ranks[part] = ranks.get(part, 0.0) + RANK_OF_ONE * count
    return ranks
