"""Vectors of words made by the server are those that PostgreSQL would make."""

from __future__ import annotations

import random
import re
from collections import Counter

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.http.services import Services
from server.ingest.writing.text_vector import LONGEST_DOCUMENT, accept_text_vectors, text_vector
from server.ingest.writing.text_vector_arrays import FEWEST_CHARACTERS, array_vector
from server.queries.filters.search_text import search_document
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

# Pieces of which words are made that a parser could take for numbers, versions, addresses or entities.
PIECES = ("0", "7", "42", "e", "9e46", "1e5", "x", "0x1f", "inf", "nan", "www", "http", "com", "amp", "quot", "v2", "a")
NASTY = (
    "",
    "   ",
    "a",
    "one two one three one",
    "b bb bbb ba aa ab",
    "1 10 1a a1 01 1e5 e5 5e 1e 1e5e5 0e0 00e00",
    "infinity nan null true www http https ftp mailto amp lt quot nbsp",
    "a" * 128 + " " + "b" * 128,
)


async def is_equal(connection: asyncpg.Connection, document: str, vector: bytes) -> bool:
    await accept_text_vectors(connection)
    return bool(await connection.fetchval("SELECT to_tsvector('simple', $1) = $2::tsvector", document, vector))


@pytest.mark.parametrize("document", NASTY, ids=range(len(NASTY)))
async def test_a_vector_is_equal_to_that_of_postgresql(owner: asyncpg.Connection, document: str) -> None:
    vector = text_vector(document)
    assert vector is None or await is_equal(owner, document, vector)
    assert vector is not None or "1e5e5" in document


async def test_places_are_limited_as_postgresql_limits_them(owner: asyncpg.Connection) -> None:
    """A word has at most 255 places; a document whose places go beyond 16,383 is left to PostgreSQL."""
    many = "again and " * 400 + "end"
    vector = text_vector(many)
    assert vector is not None
    assert await is_equal(owner, many, vector)
    longest = " ".join(f"w{number:x}" for number in range(9_000))
    assert len(longest) <= LONGEST_DOCUMENT
    vector = text_vector(longest)
    assert vector is not None
    assert await is_equal(owner, longest, vector)
    assert text_vector("a " * 16_384) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(
        st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), max_size=12).map(" ".join)
        | st.text(st.characters(codec="ascii"), max_size=60),
        max_size=60,
    )
)
async def test_every_vector_is_equal_to_that_of_postgresql(owner: asyncpg.Connection, documents: list[str]) -> None:
    await accept_text_vectors(owner)
    cut = [search_document(document) for document in documents]
    made = [(document, vector) for document in cut if (vector := text_vector(document)) is not None]
    different = await owner.fetch(
        "SELECT document FROM unnest($1::text[], $2::tsvector[]) AS d (document, vector)"
        " WHERE vector <> to_tsvector('simple', document)",
        [document for document, _ in made],
        [vector for _, vector in made],
    )
    assert not different


WORDS = st.text("ab0e9z", min_size=1, max_size=32) | st.sampled_from(("a", "aa", "b" * 8, "b" * 9, "b" * 16, "b" * 24))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(WORDS, min_size=1, max_size=30), seed=st.integers(0, 1 << 30), spaces=st.sampled_from((" ", "  "))
)
async def test_vectors_by_numpy_are_equal_too(
    owner: asyncpg.Connection, words: list[str], seed: int, spaces: str
) -> None:
    document = spaces.join(random.Random(seed).choices(words, k=300))
    made = array_vector(document)
    if made is None:
        assert max(Counter(document.split()).values()) > 255
        return
    assert sorted(made.numbers) == sorted(word for word in document.split() if word[0].isdigit())
    if not re.search(r"\b[0-9]+e[0-9]+[a-z]", document):
        assert await is_equal(owner, document, made.data)


@pytest.mark.parametrize(
    "document",
    ["", "   ", "a " * 256, "x" * 33 + " short", " ".join(map(str, range(16_384)))],
    ids=["empty", "spaces", "places", "letters", "words"],
)
def test_what_is_too_much_for_numpy_goes_the_other_way(document: str) -> None:
    assert array_vector(document) is None


def test_long_documents_with_scientific_words_are_left_to_postgresql() -> None:
    words = " ".join(f"word{number}" for number in range(400))
    assert len(words) > FEWEST_CHARACTERS
    assert text_vector(words) is not None
    assert text_vector(f"{words} 2e3x") is None
    assert text_vector(f"2e3x {words}") is None
    assert text_vector(f"2e3 {words}") is not None


@pytest.mark.parametrize("document", ["2e3x", "an 9e46wz", "größe", "京都"])
def test_what_postgresql_cuts_by_its_own_rules_is_left_to_it(document: str) -> None:
    assert text_vector(document) is None


async def test_spans_with_and_without_a_vector_are_found_alike(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    texts = ["The heron's invoice — due", "heron 2e3x", "heron café 京都", "", None]
    await store(services, "alpha", [make_span(input_text=text, output_text="flies") for text in texts])
    for row in await owner.fetch("SELECT input_text, search_vector::text AS vector FROM llm_traces"):
        document = search_document(row["input_text"], "flies")
        assert row["vector"] == await owner.fetchval("SELECT to_tsvector('simple', $1)::text", document)
