"""The index entry of a document, built here instead of by PostgreSQL's ``to_tsvector``.

``to_tsvector('simple', …)`` is the most expensive part of storing a span, and with a document of plain ASCII words its
parser only finds these words again. Such a document is turned into the binary form of a ``tsvector`` here, for less
than half of the cost; every other one is left to PostgreSQL. Both are equal, which is tested against PostgreSQL with
words designed to tell them apart.
"""

from __future__ import annotations

import bisect
import re
from operator import add
from typing import Final

import asyncpg

from server.ingest.writing.text_vector_arrays import FEWEST_CHARACTERS, LAST_PLACE, MOST_PLACES, array_vector

LONGEST_DOCUMENT: Final = 65_536
"""Characters; a longer one would keep the event loop from other requests for too long."""

# Numbers such as "12e5": if letters continue after one, the parser makes two words of it.
_SCIENTIFIC: Final = re.compile("[0-9]+e[0-9]+[a-z]")

# Binary form (tsvectorsend): the number of words; for each the text, a zero byte, the number of its places and the
# places, as 16 bits. Built as text of the characters 0-255, which is faster than bytes.
_PLACES: Final = [chr(place >> 8) + chr(place & 255) for place in range(1, LAST_PLACE + 1)]
_COUNTS: Final = [f"\0{chr(count >> 8)}{chr(count & 255)}" for count in range(MOST_PLACES + 1)]
_ENDS: Final = [_COUNTS[1] + place for place in _PLACES]
"""The bytes after a word that occurs at one place only, by that place."""
_COUNT_SIZE: Final = len(_COUNTS[1])
NO_WORDS: Final = bytes(4)
"""The vector of no words."""


def text_vector(document: str) -> bytes | None:
    """Return the ``tsvector`` of ``document`` in binary form; None if PostgreSQL has to make it.

    ``document``: words in lower case between spaces, from :func:`server.queries.filters.search_text.search_document`.
    """
    if not document:
        return NO_WORDS
    if len(document) > LONGEST_DOCUMENT or not document.isascii():
        return None
    if len(document) >= FEWEST_CHARACTERS and (made := array_vector(document)) is not None:
        return None if any(map(_SCIENTIFIC.match, made.numbers)) else made.data
    words = document.split()
    if len(words) > LAST_PLACE:
        return None
    ends: dict[str, str] = {}
    again: dict[str, str] = {}
    for word, end in zip(words, _ENDS, strict=False):
        if word not in ends:
            ends[word] = end
        elif word not in again:
            again[word] = end[_COUNT_SIZE:]
        else:
            again[word] += end[_COUNT_SIZE:]
    for word, others in again.items():
        places = (ends[word][_COUNT_SIZE:] + others)[: 2 * MOST_PLACES]
        ends[word] = _COUNTS[len(places) // 2] + places
    entries = list(map(add, ends, ends.values()))
    # A zero byte sorts before every character of a word, so this is the order of the words.
    entries.sort()
    for entry in entries[: bisect.bisect(entries, ":")]:  # those that begin with a digit
        if _SCIENTIFIC.match(entry):
            return None
    return len(entries).to_bytes(4, "big") + "".join(entries).encode("latin-1")


def is_plain(text: str, document: str) -> bool:
    """Return whether the words of ``text``, which are those of ``document``, are all of its letters and digits in lower
    case, with a gap for everything else: then PostgreSQL finds them in the text itself (migrations 0113 and 0114).
    """
    return text.isascii() and len(text) == len(document)


async def accept_text_vectors(connection: asyncpg.Connection) -> None:
    """Let ``connection`` send the result of :func:`text_vector` as a ``tsvector``."""
    await connection.set_type_codec("tsvector", schema="pg_catalog", format="binary", encoder=_as_is, decoder=_as_is)


def _as_is(vector: bytes) -> bytes:
    return vector
