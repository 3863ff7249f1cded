"""Full text: what is found in which language, and that documents and questions are cut alike."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.queries.filters.search_text import (
    DOCUMENT_BYTES,
    LONGEST_WORD,
    MOST_TERMS,
    search_document,
    search_query,
    snippet,
)

DOCUMENTS = {
    "english": "Summarise the README.md at https://example.com/docs/Get_Started, please: e-mail me!",
    "code": "def load_model(name='gpt-4o'): return MODELS[name] * 3.14",
    "japanese": "東京都の天気を教えてください。GPTモデル",
    "chinese": "请总结这份合同的主要条款",
    "korean": "서울의 날씨는 어때요",
    "thai": "วันนี้อากาศเป็นอย่างไร",
    "arabic": "مَا هِيَ عَاصِمَةُ فَرَنْسَا",
    "hindi": "हिन्दी में उत्तर दें",
    "russian": "Сколько стоит Ёлка",
    "german": "Übergrößenträger STRASSE",
    "fullwidth": "ＡＢＣ１２３",
    "empty": "",
}


async def found(connection: asyncpg.Connection, question: str) -> set[str]:
    """Return the names of the documents that PostgreSQL finds."""
    tsquery = search_query(question).tsquery
    if tsquery is None:
        return set()
    rows = await connection.fetch(
        "SELECT name FROM unnest($1::text[], $2::text[]) AS d (name, words)"
        " WHERE to_tsvector('simple', words) @@ to_tsquery('simple', $3)",
        list(DOCUMENTS),
        [search_document(text) for text in DOCUMENTS.values()],
        tsquery,
    )
    return {row["name"] for row in rows}


async def test_words_are_found_in_every_script(owner: asyncpg.Connection) -> None:
    """Words, parts of addresses and names, pairs of characters, phrases, prefixes, exclusions, alternatives."""
    expected = {
        "summarise": {"english"},
        "SUMMARISE the": {"english"},
        "example.com": {"english"},
        "example com docs": {"english"},
        "get started": {"english"},
        "readme.md": {"english"},
        "summ*": {"english"},
        "summ": set(),
        '"the readme"': {"english"},
        '"readme the"': set(),
        "gpt-4o": {"code"},
        "gpt -4o": {"japanese"},
        "load_model": {"code"},
        "3.14": {"code"},
        "readme or 3.14": {"english", "code"},
        "東京": {"japanese"},
        "東京都": {"japanese"},
        "京都": {"japanese"},
        "都": {"japanese"},
        "都の天気": {"japanese"},
        "都天": set(),
        "東京 gpt": {"japanese"},
        "ください。gpt": {"japanese"},
        "gptモデル": {"japanese"},
        "ル": {"japanese"},
        "合同": {"chinese"},
        "款": {"chinese"},
        "合同 -条款": set(),
        "날씨": {"korean"},
        "서울": {"korean"},
        "อากาศ": {"thai"},
        "عاصمة": {"arabic"},
        "عَاصِمَةُ": {"arabic"},
        "عاصـمة فرنسا": {"arabic"},
        "हिन्दी": {"hindi"},
        "उत्तर": {"hindi"},
        "ёлка": {"russian"},
        "СТОИТ": {"russian"},
        "übergrössenträger": {"german"},
        "straße": {"german"},
        "abc123": {"fullwidth"},
        "": set(),
        "… --- !": set(),
    }
    assert {question: await found(owner, question) for question in expected} == expected


@given(
    text=st.text(min_size=1, max_size=60) | st.text("ab1_-. '\"東京都กิ가ー", min_size=1, max_size=40),
    cut=st.tuples(st.integers(0, 30), st.integers(1, 30)),
)
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_whole_words_of_a_text_find_it_again(owner: asyncpg.Connection, text: str, cut: Any) -> None:
    """Any run of whole words of any text, asked as a phrase, finds that text; PostgreSQL takes every question."""
    text = text.replace("\0", "")
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    words = text.replace('"', " ").split()
    phrase = " ".join(words[cut[0] % max(1, len(words)) :][: cut[1]])
    tsquery = search_query(f'"{phrase}"').tsquery
    if tsquery is not None:
        document = search_document(text.replace('"', " "))
        assert await owner.fetchval(
            "SELECT to_tsvector('simple', $1) @@ to_tsquery('simple', $2)", document, tsquery
        ), (document, tsquery)
    rough = search_query(text).tsquery
    if rough is not None:
        await owner.fetchval("SELECT to_tsquery('simple', $1)::text", rough)


async def test_the_longest_document_fits_into_a_tsvector(owner: asyncpg.Connection) -> None:
    """A tsvector holds at most 1 MB (54000): the cut keeps every document below."""
    many = {
        "short words": " ".join(f"{number:x}" for number in range(200_000)),
        "unspaced": "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(100_000)),
        "one word": "x" * 1_000_000,
        "long words": " ".join(f"{number:x}" * 20 for number in range(30_000)),
    }
    for name, text in many.items():
        document = search_document(text)
        assert len(document.encode()) <= DOCUMENT_BYTES, name
        await owner.fetchval("SELECT length(to_tsvector('simple', $1))", document)
    assert search_document("a " + "x" * (LONGEST_WORD + 1) + " b") == "a b"
    assert search_document("a " + "x" * LONGEST_WORD + " b").split() == ["a", "x" * LONGEST_WORD, "b"]


@pytest.mark.parametrize("text", ["x" * 1001, "a\0b", "w " * (MOST_TERMS + 1)])
def test_questions_have_bounds(text: str) -> None:
    with pytest.raises(ValueError, match="search"):
        search_query(text)


def test_snippets_mark_hits_and_are_safe_in_a_page() -> None:
    query = search_query('gpt-4o 東京 "two words" pre* -hidden')
    cut = snippet("<b>use GPT-4o</b> in 東京都 & Two  words; prefix", query)
    assert cut == (
        "&lt;b&gt;use <mark>GPT-4o</mark>&lt;/b&gt; in <mark>東京</mark>都 &amp; "
        "<mark>Two  words</mark>; <mark>pre</mark>fix"
    )
    long = snippet("a " * 500 + "gpt-4o" + " b" * 500, query)
    assert long is not None
    assert long.startswith("…")
    assert long.endswith("…")
    assert "<mark>gpt-4o</mark>" in long
    assert len(long) < 200
    assert snippet("hidden things", query) is None
    assert snippet("gpt-4omni", search_query("-gpt")) is None
