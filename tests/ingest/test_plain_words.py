"""Words of short plain parts are not stored: the index and each look find them in the text (migration 0113)."""

from __future__ import annotations

import random
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.http.services import Services
from server.ingest.writing.content_layout import ContentPart
from server.ingest.writing.content_start import ALWAYS
from server.ingest.writing.shared_content import LONGEST_PLAIN, SharedParts
from server.ingest.writing.text_vector import is_plain
from server.queries.filters.search_text import search_document, search_query
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import START, Writer, call, message, migrated_again, rows_of, search, talk

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")

PIECES = (
    "fox", "Fox", "ox", "foxes", "a1", "1e5", "12e5", "12E5Ox", "1e5e7x", "7", "x", "under", "de", "load", "http",
    "www", "com",
)  # fmt: skip
GAPS = (
    " ", "  ", ".", ", ", "_", "-", "/", "\n", "\t", ': {"', "%", "*", "\\", "'", "[", "] (", "|", "^", "~", "",
)  # fmt: skip
TEXTS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS)), min_size=1, max_size=12).map(
    lambda pairs: "".join(piece + gap for piece, gap in pairs)
)
QUESTIONS = (
    "fox", "ox", "foxes", "a1 7", "1e5", "12e5", "12e5x", "12e5ox", "1e5fox*", "e7x", '"12e5 ox"', '"fox 12e5ox a1"',
    "fox*", "x*", '"fox under"', '"a1 x fox"', "load_fox", "fox/ox", '"de f"', "füchse", "東京都", "東*",
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(TEXTS, min_size=20, max_size=20))
async def test_what_is_in_a_text_is_what_is_in_its_vector(owner: asyncpg.Connection, texts: list[str]) -> None:
    """Of the words, phrases and beginnings, by the index as by a look."""
    plain = [text for text in texts if is_plain(text, search_document(text))]
    for question in QUESTIONS:
        term = search_query(question).alternatives[0][0]
        for row in await owner.fetch(
            "SELECT text, to_tsvector('simple', document) @@ to_tsquery('simple', $3) AS stored,"
            " text_has_term(to_jsonb(text), NULL, $5) AS looked,"
            " plain_lexemes(text) @@ to_tsquery('simple', $4) AND text_has_term(to_jsonb(text), NULL, $5) AS found,"
            " plain_lexemes(text) = strip(to_tsvector('simple', document)) AS is_same"
            " FROM unnest($1::text[], $2::text[]) AS t (text, document)",
            plain,
            [search_document(text) for text in plain],
            term.operand(),
            term.lexemes(),
            term.pattern(),
        ):
            assert (row["stored"], row["stored"], True) == (row["looked"], row["found"], row["is_same"]), (
                question,
                row["text"],
            )


def test_which_texts_are_plain() -> None:
    for text, is_so in {
        "Refund of order_17, 50 % (max)": True,
        "Rückgabe": False,
        "1e5 is a number": True,
        "1e5x is two words": True,
        "w" * 200: False,
        "": True,
    }.items():
        assert is_plain(text, search_document(text)) is is_so, text


async def test_what_is_not_plain_has_its_words_stored(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    long = " ".join(f"word{number}" for number in range(LONGEST_PLAIN // 6))
    said = {"a plain question": True, "eine Rückfrage": False, f"{long} needle": False, "1e5x needle": True}
    spans = [
        call([message("user", text)], [message("assistant", "seen")], ts=START + timedelta(minutes=number))
        for number, text in enumerate(said)
    ]
    await Writer(services).store("alpha", spans)
    stored = await owner.fetch("SELECT body #>> '{parts,0,content}', words IS NULL FROM content_parts")
    assert dict(map(tuple, stored)) == {**said, "seen": True}
    for text, places in {
        "plain": [0],
        "PLAIN quest*": [0],
        '"plain question"': [0],
        '"question plain"': [],
        "Rückfrage": [1],
        "needle": [3, 2],
        "1e5x": [3],
        "1e5": [3],
        "x needle": [3],
        "1e5x7": [],
        "seen -needle": [1, 0],
        "seen": [3, 2, 1, 0],
    }.items():
        rows = await rows_of(services, "alpha", search(text))
        assert [round((row["ts"] - START) / timedelta(minutes=1)) for row in rows] == places, text


def test_the_content_of_a_tools_message_is_not_taken_for_its_text(services: Services) -> None:
    """plain_text() looks for content first."""
    shared = SharedParts(services.writes, full_text=True)
    shared._plain_from = ALWAYS
    odd = '{"role":"tool","parts":[{"type":"tool_call_response","response":"found","content":"other"}]}'
    for body, is_derived in ((odd, False), (odd.replace(',"content":"other"', ""), True)):
        (*_, vector, document), _ = shared._row(("alpha", START, None), ContentPart(body, "[tool_result ] found", None))  # type: ignore[arg-type]
        assert (vector is None and document is None) is is_derived


async def test_the_index_leads_to_parts_of_projects_that_the_caller_may_see(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    asked = (
        "SELECT parts_with_term(ARRAY['alpha','beta'], $1, $2, 500, to_tsquery('simple', 'question'),"
        " to_tsquery('simple', 'question'), 'question')"
    )
    for name in ("alpha", "beta"):
        await project(name)
        await Writer(services).store(name, talk(2))
    window = START - timedelta(days=1), START + timedelta(days=1)
    async with owner.transaction():
        await owner.execute("SET LOCAL ROLE observatory_api")
        found = []
        for projects in ("", "alpha", "alpha,beta"):
            await owner.execute("SELECT set_config('app.projects', $1, true)", projects)
            found.append((await owner.fetchval(asked, *window)).count("-") // 4)
    assert found == [0, 2, 4]
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="holds no parts"):
        await owner.fetchval("SELECT week_parts_with_term('projects', '{alpha}', 1, 'a', 'a', 'a')")


async def test_the_words_are_in_the_index(services: Services, project: ProjectMaker, owner: asyncpg.Connection) -> None:
    chance = random.Random(5)
    await project("alpha")
    spans = [call([message("user", f"w{chance.random()}")], [message("assistant", "yes")]) for _ in range(50)]
    await Writer(services).store("alpha", spans)
    part = await owner.fetchval("SELECT tableoid::regclass::text FROM content_parts LIMIT 1")
    async with owner.transaction():
        await owner.execute("SET LOCAL enable_seqscan = off")
        plan = await owner.fetch(
            f"EXPLAIN SELECT 1 FROM {part} c WHERE words IS NULL"
            " AND plain_lexemes(plain_text(c.body, c.text)) @@ to_tsquery('simple', 'w0')"
        )
    assert "plain_lexemes" in "".join(row[0] for row in plain_index_lines(plan))


def plain_index_lines(plan: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """Return the lines of a plan about conditions of indexes."""
    return [row for row in plan if "Index Cond" in row[0]]


async def test_a_database_of_an_earlier_version_derives_words_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """A server of the version before finds parts by their stored words alone."""
    await project("alpha")
    await Writer(services).store("alpha", talk(1))
    assert await owner.fetchval("SELECT bool_and(words IS NULL) FROM content_parts"), "a new database"
    monday = await migrated_again(owner, "0113_words_from_text.sql", "words_from_text_begin")
    await Writer(services).store("alpha", talk(1, 1))
    late = call([message("user", "from then on")], [message("assistant", "yes")], ts=monday, trace_id="b" * 32)
    await Writer(services).store("alpha", [late])
    kinds = await owner.fetch("SELECT week >= $1, words IS NULL, count(*) FROM content_parts GROUP BY 1, 2", monday)
    assert {tuple(row) for row in kinds} == {(False, True, 3), (False, False, 2), (True, True, 2)}
    assert len(await rows_of(services, "alpha", search("talk"))) == 2
    assert len(await rows_of(services, "alpha", search("then"))) == 1
