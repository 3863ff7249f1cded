"""Words of parts in segments: what goes in comes out, however many words there are, and however often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from server.queries.filters.word_postings import BLOCK_BYTES, Block, Postings, blocks_of, joined, merged

WORDS = st.sampled_from(["a", "ab", "abc", "b", "東京", "größer", "z\U0010ffff", "0", "\U0001f600"])
DOCUMENTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=6)

Places = dict[str, list[tuple[int, int]]]


def places_of(documents: Sequence[str]) -> Places:
    found: Places = {}
    for number, document in enumerate(documents):
        for place, word in enumerate(document.split()):
            found.setdefault(word, []).append((number, place))
    return found


def unpacked(postings: Postings) -> Places:
    ends = postings.counts.cumsum().tolist()
    pairs = list(zip(postings.parts.tolist(), postings.places.tolist(), strict=True))
    return {word: pairs[start:end] for word, start, end in zip(postings.words, [0, *ends], ends, strict=False)}


def stored(postings: Postings) -> Postings:
    return joined([Block(data).all() for _, data in blocks_of(postings)])


@given(DOCUMENTS)
@settings(deadline=None)
def test_a_segment_has_each_word_at_each_of_its_places(documents: list[str]) -> None:
    assert unpacked(stored(Postings.of(documents))) == places_of(documents)


@given(st.lists(st.tuples(DOCUMENTS, st.integers(0, 63)), min_size=1, max_size=4))
@settings(deadline=None)
def test_segments_together_have_what_each_had_but_for_parts_that_go(segments: list[tuple[list[str], int]]) -> None:
    """The bits of a number say which parts stay."""
    masks = [np.array([bits >> n & 1 for n in range(len(documents))], bool) for documents, bits in segments]
    left = [
        document for (documents, bits) in segments for number, document in enumerate(documents) if bits >> number & 1
    ]
    whole = merged([(Postings.of(documents), mask) for (documents, _), mask in zip(segments, masks, strict=True)])
    assert unpacked(stored(whole)) == places_of(left)


@given(DOCUMENTS, WORDS, st.booleans())
@settings(deadline=None)
def test_a_block_finds_words_and_beginnings_of_words(documents: list[str], word: str, is_beginning: bool) -> None:
    for _, data in blocks_of(Postings.of(documents)):
        block = Block(data)
        first, end = block.numbers_of(word, is_beginning=is_beginning)
        wanted = [other for other in block.words() if (other.startswith(word) if is_beginning else other == word)]
        assert block.words()[first:end] == wanted
        if wanted:
            parts, places = block.occurrences(first, end)
            found = list(zip(parts.tolist(), places.tolist(), strict=True))
            assert found == [pair for other in wanted for pair in places_of(documents)[other]]
        for number, other in enumerate(block.words()):
            assert block.parts_with(number).tolist() == sorted({part for part, _ in places_of(documents)[other]})


def test_many_words_in_many_parts_at_many_places() -> None:
    """Numbers that do not fit into a byte, words that do not fit into a block, and blocks that begin with any word."""
    documents = [f"w{number} often " + "often " * (number % 700) + f"v{number % 300}" for number in range(900)]
    blocks = list(blocks_of(Postings.of(documents)))
    assert len(blocks) > 3
    assert [first for first, _ in blocks] == [Block(data).words()[0] for _, data in blocks]
    assert max(len(Block(data).words()) for _, data in blocks) < BLOCK_BYTES
    assert unpacked(joined([Block(data).all() for _, data in blocks])) == places_of(documents)
    for word in ("often", "w899", "v299"):
        (block,) = [block for _, data in blocks if word in (block := Block(data)).words()]
        parts, places = block.occurrences(*block.numbers_of(word))
        assert list(zip(parts.tolist(), places.tolist(), strict=True)) == places_of(documents)[word]
